"""A process that is forked works, or says at once what to do instead."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import multiprocessing
import numpy as np, torch, rematte
from rematte import Matter
frame, ways = np.zeros((64, 96, 3), np.uint8), {}

def in_child(method, function):
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.apply_async(function).get(timeout=60)

def network():
    with torch.no_grad():
        return tuple(model(torch.rand(1, 3, 64, 96), 1.0).pha.shape)

def matte():
    return Matter(downsample_ratio=1.0).stream()(frame).alpha.shape

def shared():
    return matter.stream()(frame).alpha.shape

def plain():
    return torch_matter.stream()(frame).rgba.shape

model = rematte.load_model()
if __name__ == "__main__":
    network()
    matter = Matter(downsample_ratio=1.0)
    assert in_child("fork", network) == (1, 1, 64, 96)
    assert in_child("fork", shared) == (64, 96)  # nothing is compiled yet
    torch_matter = Matter(model, engine="plain", downsample_ratio=1.0)
    assert plain() == (64, 96, 4)
    assert in_child("fork", plain) == (64, 96, 4)
    matter.warm_up(96, 64)
    try:
        in_child("fork", shared)
    except RuntimeError as error:
        assert "make a Matter in each process" in str(error)
    else:
        raise AssertionError("it ran")
    assert in_child("fork", matte) == (64, 96)
    assert in_child("fork", network) == (1, 1, 64, 96)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_processes_work_or_say_why_not(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program)], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
