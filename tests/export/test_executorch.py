"""ExecuTorch, in its own runtime."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import draw_disc, make_clip, needs
from fakes import decode, formula_network

from rematte import load_model
from rematte.export import export

EXAMPLE = Path(__file__).parents[2] / "examples/executorch_video.py"


@pytest.fixture(autouse=True)
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("executorch")
    monkeypatch.setattr(
        "rematte.export.core._checks",
        lambda request: ((*request.size, request.ratio, 12),),
    )


def test_equals_eager_at_an_odd_size(tmp_path: Path) -> None:
    path = tmp_path / "net.pte"
    done = export(
        load_model(), "executorch", path, size=(161, 97), downsample_ratio=0.6
    )
    (found,) = done.differences
    assert found.frames == 12
    assert max(found.most.values()) < 1e-4
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.pte"]

    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    shapes = [method.metadata.input_tensor_meta(n).sizes() for n in range(5)]
    wrong = [torch.zeros(1, 3, 97, 163), *(torch.zeros(shape) for shape in shapes[1:])]
    with pytest.raises(RuntimeError):
        method.execute(wrong)


def test_the_large_network_without_refiner_and_the_example(tmp_path: Path) -> None:
    network = formula_network("resnet50", "deep_guided_filter")
    path = tmp_path / "net.pte"
    done = export(network, "executorch", path, size=(160, 96), downsample_ratio=1)
    assert max(done.differences[0].most.values()) < 1e-4

    clip = make_clip(tmp_path / "clip.mp4", draw_disc(3).frames)
    out = tmp_path / "out.mp4"
    ran = subprocess.run(
        [sys.executable, EXAMPLE, path, clip, out], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert [frame.shape for frame in decode(out)] == [(96, 160, 3)] * 3
