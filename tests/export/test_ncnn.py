"""ncnn, in its own runtime."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import draw_disc, make_clip, needs
from fakes import decode, formula_network

from rematte import load_model
from rematte.errors import OutputError
from rematte.export import export

EXAMPLE = Path(__file__).parents[2] / "examples/ncnn_video.py"


@pytest.fixture(autouse=True)
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("ncnn", "pnnx")
    monkeypatch.setattr(
        "rematte.export.core._checks",
        lambda request: ((*request.size, request.ratio, 12),),
    )


def test_equals_eager_at_an_odd_size(tmp_path: Path) -> None:
    path = tmp_path / "net.ncnn.param"
    done = export(load_model(), "ncnn", path, size=(161, 97), downsample_ratio=0.6)
    (found,) = done.differences
    assert found.frames == 12
    assert max(found.most.values()) < 1e-4
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "net.ncnn.bin",
        "net.ncnn.param",
    ]
    inputs = [line for line in path.read_text().splitlines() if line[:5] == "Input"]
    assert inputs[:2] == [
        "Input src 0 1 src 0=161 1=97 2=3",
        "Input r1i 0 1 r1i 0=48 1=29 2=16",
    ]


def test_half_precision_and_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = export(
        load_model(), "ncnn", precision="float16", size=(256, 144), downsample_ratio=0.5
    )
    assert done.differences[0].mean["pha"] < 1e-3
    assert done.megabytes < 8
    assert done.path.name == "rvm_mobilenetv3_256x144_s0.5_fp16.ncnn.param"

    clip = make_clip(tmp_path / "clip.mp4", draw_disc(3).frames)
    out = tmp_path / "out.mp4"
    ran = subprocess.run(
        [sys.executable, EXAMPLE, done.path.resolve(), clip, out],
        capture_output=True,
        text=True,
        cwd=EXAMPLE.parents[1],
    )
    assert ran.returncode == 0, ran.stderr
    assert [frame.shape for frame in decode(out)] == [(144, 256, 3)] * 3


def test_the_large_network_without_refiner(tmp_path: Path) -> None:
    network = formula_network("resnet50", "deep_guided_filter")
    path = tmp_path / "net.ncnn.param"
    done = export(network, "ncnn", path, size=(160, 96), downsample_ratio=1)
    assert max(done.differences[0].most.values()) < 1e-4


def test_a_failing_converter_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pnnx.EXEC_PATH", "false")
    with pytest.raises(OutputError, match="pnnx failed"):
        export(
            load_model(),
            "ncnn",
            tmp_path / "net.ncnn.param",
            size=(160, 96),
            downsample_ratio=0.5,
        )
    assert not list(tmp_path.iterdir())
