"""ExecuTorch, in its own runtime."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import draw_disc, make_clip, needs
from exporting import exported
from fakes import decode

EXAMPLE = Path(__file__).parents[2] / "examples/executorch_video.py"
pytestmark = pytest.mark.xdist_group("executorch")


def test_another_size_is_refused() -> None:
    needs("executorch")
    path = exported("executorch").path
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    shapes = [method.metadata.input_tensor_meta(n).sizes() for n in range(5)]
    wrong = [torch.zeros(1, 3, 97, 163), *(torch.zeros(shape) for shape in shapes[1:])]
    with pytest.raises(RuntimeError):
        method.execute(wrong)


def test_the_example(tmp_path: Path) -> None:
    path = exported("executorch", large=True).path
    clip = make_clip(tmp_path / "clip.mp4", draw_disc(3).frames)
    out = tmp_path / "out.mp4"
    ran = subprocess.run(
        [sys.executable, EXAMPLE, path, clip, out], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert [frame.shape for frame in decode(out)] == [(96, 160, 3)] * 3
