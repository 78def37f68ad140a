"""ExecuTorch and ncnn, in their own runtimes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import draw_disc, make_clip, needs
from exporting import exported
from fakes import ROOT, decode

from rematte.errors import OutputError
from rematte.export import export
from rematte.network.matting_network import MattingNetwork

executorch = pytest.mark.xdist_group("executorch")
ncnn = pytest.mark.xdist_group("ncnn")


@executorch
def test_another_size_is_refused() -> None:
    needs("executorch")
    path = exported("executorch").path
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    shapes = [method.metadata.input_tensor_meta(n).sizes() for n in range(5)]
    wrong = [torch.zeros(1, 3, 97, 163), *(torch.zeros(shape) for shape in shapes[1:])]
    with pytest.raises(RuntimeError):
        method.execute(wrong)


@pytest.mark.parametrize(
    ("name", "how", "size"),
    [
        pytest.param("executorch", {"large": True}, (96, 160), marks=executorch),
        pytest.param("ncnn", {"precision": "float16"}, (144, 256), marks=ncnn),
    ],
)
def test_the_example(name: str, how: Any, size: Any, tmp_path: Path) -> None:
    path, out = exported(name, **how).path, tmp_path / "out.mp4"
    clip = make_clip(tmp_path / "clip.mp4", draw_disc(3).frames)
    words = [sys.executable, f"examples/{name}_video.py", path, clip, out]
    ran = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert [frame.shape for frame in decode(out)] == [(*size, 3)] * 3


@ncnn
def test_inputs_have_their_documented_names_and_shapes() -> None:
    lines = exported("ncnn").path.read_text().splitlines()
    assert [line for line in lines if line[:5] == "Input"][:2] == [
        "Input src 0 1 src 0=161 1=97 2=3",
        "Input r1i 0 1 r1i 0=48 1=29 2=16",
    ]


@ncnn
def test_a_failing_converter_leaves_nothing(
    bundled: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("ncnn", "pnnx")
    monkeypatch.setattr("pnnx.EXEC_PATH", "false")
    path = tmp_path / "net.ncnn.param"
    with pytest.raises(OutputError, match="pnnx failed"):
        export(bundled, "ncnn", path, size=(160, 96), downsample_ratio=0.5)
    assert not list(tmp_path.iterdir())
