"""ncnn, in its own runtime."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import draw_disc, make_clip, needs
from exporting import exported
from fakes import decode

from rematte.errors import OutputError
from rematte.export import export
from rematte.network.matting_network import MattingNetwork

EXAMPLE = Path(__file__).parents[2] / "examples/ncnn_video.py"
pytestmark = pytest.mark.xdist_group("ncnn")


def test_inputs_have_their_documented_names_and_shapes() -> None:
    lines = exported("ncnn").path.read_text().splitlines()
    assert [line for line in lines if line[:5] == "Input"][:2] == [
        "Input src 0 1 src 0=161 1=97 2=3",
        "Input r1i 0 1 r1i 0=48 1=29 2=16",
    ]


def test_the_example(tmp_path: Path) -> None:
    path = exported("ncnn", "float16").path
    clip = make_clip(tmp_path / "clip.mp4", draw_disc(3).frames)
    out = tmp_path / "out.mp4"
    ran = subprocess.run(
        [sys.executable, EXAMPLE, path, clip, out],
        capture_output=True,
        text=True,
        cwd=EXAMPLE.parents[1],
    )
    assert ran.returncode == 0, ran.stderr
    assert [frame.shape for frame in decode(out)] == [(144, 256, 3)] * 3


def test_a_failing_converter_leaves_nothing(
    bundled: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("ncnn", "pnnx")
    monkeypatch.setattr("pnnx.EXEC_PATH", "false")
    path = tmp_path / "net.ncnn.param"
    with pytest.raises(OutputError, match="pnnx failed"):
        export(bundled, "ncnn", path, size=(160, 96), downsample_ratio=0.5)
    assert not list(tmp_path.iterdir())
