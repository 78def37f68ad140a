"""CoreML: what is written, run by an interpreter where there is no CoreML."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs
from fakes import formula_network

from rematte.export import export
from rematte.export.formats import Request
from rematte.export.verify import real_frames
from rematte.network.matting_network import MattingNetwork

EXAMPLE = Path(__file__).parents[2] / "examples/coreml_video.py"


@pytest.fixture(autouse=True)
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("coremltools")
    monkeypatch.setattr(
        "rematte.export.core._checks",
        lambda request: ((*request.size, request.ratio, 12),),
    )


def read(path: Path) -> Any:
    from rematte.export.coreml.mlprogram import coremltools

    return coremltools().models.MLModel(str(path), skip_model_load=True)


@pytest.mark.parametrize("name", ["coreml", "coreml-neuralnetwork"])
def test_equals_eager_at_an_odd_size(
    name: str, bundled: MattingNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("net.mlpackage" if name == "coreml" else "net.mlmodel")
    done = export(bundled, name, path, size=(161, 97), downsample_ratio=0.6)
    (found,) = done.differences
    assert found.frames == 12
    assert max(found.most.values()) < 1e-4
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    check_interface(path, (97, 161))
    check_prediction(path, Request("float32", (97, 161), 0.6), monkeypatch)


def check_interface(path: Path, size: tuple[int, int]) -> None:
    """As the documentation describes it."""
    description = read(path).get_spec().description
    src, *states = description.input
    assert src.name == "src"
    assert src.type.imageType.colorSpace == src.type.imageType.RGB
    assert [entry.name for entry in states] == ["r1i", "r2i", "r3i", "r4i"]
    assert all(entry.type.isOptional for entry in states)
    fgr, pha, *states = description.output
    assert [fgr.name, pha.name] == ["fgr", "pha"]
    assert [entry.name for entry in states] == ["r1o", "r2o", "r3o", "r4o"]
    for entry in (src, fgr, pha):
        assert (entry.type.imageType.height, entry.type.imageType.width) == size
    assert fgr.type.imageType.colorSpace == fgr.type.imageType.RGB
    assert pha.type.imageType.colorSpace == pha.type.imageType.GRAYSCALE


def check_prediction(
    path: Path, request: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Mac, CoreML predicts; elsewhere, what it would be given is interpreted."""
    from rematte.export.coreml import mlprogram as coreml

    frame = next(real_frames(request.fixed[0], 1))
    here = coreml.open_model(path, request, 0.6)(frame, None)

    def predict(self: Any, given: dict[str, Any]) -> dict[str, Any]:
        assert self.get_spec().description.input[0].type.HasField("multiArrayType")
        return coreml.interpreter(self)(given, True)

    with monkeypatch.context() as patch:
        patch.setattr(platform, "system", lambda: "Darwin")
        patch.setattr(coreml.coremltools().models.MLModel, "predict", predict)
        there = coreml.open_model(path, request, 0.6)(frame, None)
    for mine, theirs in zip(here[:2], there[:2], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_the_large_network_without_refiner(tmp_path: Path) -> None:
    done = export(
        formula_network("resnet50", "deep_guided_filter"),
        "coreml",
        tmp_path / "net.mlpackage",
        size=(160, 96),
        downsample_ratio=1,
    )
    assert max(done.differences[0].most.values()) < 1e-4


@pytest.mark.parametrize(
    ("name", "precision", "limit", "megabytes"),
    [
        ("coreml", "float16", 1e-3, 8),
        ("coreml", "int8", 1e-2, 4.5),
        ("coreml-neuralnetwork", "float16", 1e-3, 8),
        ("coreml-neuralnetwork", "int8", 1e-2, 4.5),
    ],
)
def test_fewer_bits_stay_near(
    name: str,
    precision: str,
    limit: float,
    megabytes: float,
    bundled: MattingNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = export(
        bundled, name, precision=precision, size=(256, 144), downsample_ratio=0.5
    )
    assert done.differences[0].mean["pha"] < limit
    assert done.megabytes < megabytes
    # The names that the documentation gives them.
    suffix = ".mlpackage" if name == "coreml" else ".mlmodel"
    short = "fp16" if precision == "float16" else "int8"
    assert done.path.name == f"rvm_mobilenetv3_256x144_s0.5_{short}{suffix}"


@pytest.mark.parametrize(("precision", "limit"), [("float16", 1e-3), ("int8", 1e-2)])
def test_states_kept_inside(
    precision: str, limit: float, bundled: MattingNetwork, tmp_path: Path
) -> None:
    done = export(
        bundled,
        "coreml",
        tmp_path / "net.mlpackage",
        precision=precision,
        size=(161, 97),
        downsample_ratio=0.6,
        stateful=True,
    )
    (found,) = done.differences
    assert found.mean["pha"] < limit
    assert "states" not in found.most
    description = read(done.path).get_spec().description
    assert [entry.name for entry in description.input] == ["src"]
    assert [entry.name for entry in description.state] == ["r1", "r2", "r3", "r4"]
    assert read(done.path).get_spec().specificationVersion == 9  # iOS 18


def test_states_kept_inside_are_of_half_precision(
    bundled: MattingNetwork, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="use --precision float16 or int8"):
        export(
            bundled,
            "coreml",
            tmp_path / "net.mlpackage",
            size=(160, 96),
            downsample_ratio=0.5,
            stateful=True,
        )
    assert not list(tmp_path.iterdir())


def test_the_example(bundled: MattingNetwork, tmp_path: Path) -> None:
    if platform.system() == "Darwin":
        export(
            bundled,
            "coreml",
            tmp_path / "net.mlpackage",
            size=(160, 96),
            downsample_ratio=0.5,
        )
    given = [tmp_path / "net.mlpackage", EXAMPLE.parents[1] / "demo/clip.mp4"]
    done = subprocess.run(
        [sys.executable, EXAMPLE, *given, tmp_path / "out.mp4"],
        capture_output=True,
        text=True,
    )
    if platform.system() == "Darwin":
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out.mp4").stat().st_size > 1000
    else:
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("CoreML runs on macOS only")
