"""The comparison with the network, the command, and formats of torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Refused, Run, needs
from exporting import ODD, exported
from fakes import python

from rematte.errors import OutputError
from rematte.export import export
from rematte.export.formats import Floats, Request, States
from rematte.export.verify import compare, network_step, real_frames
from rematte.network.matting_network import MattingNetwork


@pytest.mark.parametrize("wrong", [np.nan, 0.25])
def test_a_wrong_alpha_is_found(bundled: MattingNetwork, wrong: float) -> None:
    right = network_step(bundled, 0.5)

    def step(src: Floats, states: States) -> tuple[Floats, Floats, States]:
        fgr, pha, after = right(src, states)
        pha = pha.copy()
        pha[0, 0, 3, 4] += wrong
        return fgr, pha, after

    found = compare(bundled, step, list(real_frames((96, 160), 2)), 0.5)
    worst = np.inf if np.isnan(wrong) else wrong
    assert found.most["pha"] == pytest.approx(worst)
    assert found.most["fgr"] == 0


@pytest.mark.xdist_group("torch")  # which exports it
def test_pt2_takes_other_sizes_and_batches(bundled: MattingNetwork) -> None:
    model = torch.export.load(exported("pt2").path).module()
    ratio = ODD[1]
    for shape in [(1, 3, 96, 160), (3, 3, 71, 101)]:
        clip = torch.rand(shape)
        with torch.inference_mode():
            first = bundled(clip, downsample_ratio=ratio)
            expected = bundled(clip, *first[2:], downsample_ratio=ratio)
            for mine, true in zip(model(clip, *first[2:]), expected, strict=True):
                assert (mine - true).abs().max() < 1e-6


def test_what_differs_is_not_written(
    bundled: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, request: Request, ratio: float) -> Callable[..., object]:
        return lambda src, states: (src, src[:, :1], ())

    monkeypatch.setattr("rematte.export.core._CHECKS", ((96, 160, 0.5, 2),))
    monkeypatch.setattr("rematte.export.torchscript.open_model", broken)
    path = tmp_path / "net.torchscript"
    with pytest.raises(OutputError, match=r"difference in alpha .* --tolerance"):
        export(bundled, "torchscript", path)
    assert not list(tmp_path.iterdir())
    path.write_text("old")
    with pytest.raises(OutputError, match="difference"):
        export(bundled, "torchscript", path, overwrite=True)
    assert path.read_text() == "old"


def test_a_full_disk_leaves_nothing(
    bundled: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(network: MattingNetwork, path: Path, request: Request) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rematte.export.torchscript.write", full)
    with pytest.raises(OutputError, match=r"cannot write .*No space left"):
        export(bundled, "torchscript", tmp_path / "net.torchscript")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("bmp", 2, "format must be one of torchscript,"),
        ("pt2", 2, "add --static WIDTHxHEIGHT and --downsample-ratio"),
        ("pt2 --static 160x96 --downsample-ratio 2", 2, "must be in (0, 1], got 2"),
        ("pt2 --static 160x96 --downsample-ratio 0.1", 2, "less than 16 pixels"),
        ("pt2 --static 160 --downsample-ratio 1", 2, "must be WIDTHxHEIGHT"),
        ("torchscript -o missing/net.torchscript", 1, "create it first"),
        ("torchscript -o there.torchscript", 1, "add --overwrite or use another"),
    ],
)
def test_the_command_refuses_in_one_line(
    words: str, code: int, message: str, here: Path, refused: Refused
) -> None:
    Path("there.torchscript").write_text("mine")
    assert message in refused(code, "export", *words.split())
    assert Path("there.torchscript").read_text() == "mine"
    assert len(list(here.iterdir())) == 1


def test_the_command_tells_the_difference(here: Path, run: Run) -> None:
    needs("openvino")  # the fastest of a fixed size
    words = "openvino", "--static", "160x96", "--downsample-ratio", "0.5"
    code, out, _ = run("export", *words)
    assert code == 0
    assert "rvm_mobilenetv3_160x96_s0.5_fp32.xml: 1" in out
    assert "over 100 frames of 160x96 at 0.5: fgr" in out
    assert Path("rvm_mobilenetv3_160x96_s0.5_fp32.xml").is_file()


def test_exports_are_loaded_by_their_own_runtime_alone() -> None:
    """No other package is imported until its format is asked for."""
    code = (
        "import sys, rematte.export\n"
        "heavy = {'torch', 'openvino', 'onnx', 'onnxruntime', 'tensorflow', "
        "'coremltools'}\n"
        "assert not heavy & set(sys.modules)"
    )
    python(code)
