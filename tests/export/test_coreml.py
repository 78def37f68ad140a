"""CoreML: what is written, run by an interpreter where there is no CoreML."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needing
from exporting import exported, request

from rematte.export import export
from rematte.export.verify import real_frames
from rematte.network.matting_network import MattingNetwork

pytestmark = pytest.mark.xdist_group("coreml")
packages = needing("coremltools")
EXAMPLE = Path(__file__).parents[2] / "examples/coreml_video.py"


def read(path: Path) -> Any:
    from rematte.export.coreml.mlprogram import coremltools

    return coremltools().models.MLModel(str(path), skip_model_load=True)


both = pytest.mark.parametrize("name", ["coreml", "coreml-neuralnetwork"])


@both
def test_the_documented_interface(name: str) -> None:
    (height, width), _ = request(name).fixed
    description = read(exported(name).path).get_spec().description
    inputs, outputs = description.input, description.output
    assert [x.name for x in inputs] == ["src", "r1i", "r2i", "r3i", "r4i"]
    assert [x.name for x in outputs] == ["fgr", "pha", "r1o", "r2o", "r3o", "r4o"]
    assert all(entry.type.isOptional for entry in inputs[1:])
    images = [entry.type.imageType for entry in (inputs[0], *outputs[:2])]
    assert all((image.height, image.width) == (height, width) for image in images)
    assert [image.colorSpace for image in images] == [
        images[0].RGB, images[0].RGB, images[0].GRAYSCALE
    ]  # fmt: skip


@both
def test_prediction_on_a_mac(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, CoreML predicts; here, what it would be given is interpreted."""
    from rematte.export.coreml import mlprogram as coreml

    path, wanted = exported(name).path, request(name)
    frame = next(real_frames(wanted.fixed[0], 1))
    here = coreml.open_model(path, wanted, 0.6)(frame, None)

    def predict(self: Any, given: dict[str, Any]) -> dict[str, Any]:
        assert self.get_spec().description.input[0].type.HasField("multiArrayType")
        return coreml.interpreter(self)(given, True)

    with monkeypatch.context() as patch:
        patch.setattr(platform, "system", lambda: "Darwin")
        patch.setattr(coreml.coremltools().models.MLModel, "predict", predict)
        there = coreml.open_model(path, wanted, 0.6)(frame, None)
    for mine, theirs in zip(here[:2], there[:2], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_the_interface_with_states_kept_inside() -> None:
    spec = read(exported("coreml", "float16", stateful=True).path).get_spec()
    assert [entry.name for entry in spec.description.input] == ["src"]
    assert [entry.name for entry in spec.description.state] == ["r1", "r2", "r3", "r4"]
    assert spec.specificationVersion == 9  # iOS 18


def test_states_kept_inside_are_halves(bundled: MattingNetwork, tmp_path: Path) -> None:
    path, fixed = tmp_path / "net.mlpackage", {"size": (160, 96), "stateful": True}
    with pytest.raises(ValueError, match="use --precision float16 or int8"):
        export(bundled, "coreml", path, downsample_ratio=0.5, **fixed)
    assert not list(tmp_path.iterdir())


def test_the_example(tmp_path: Path) -> None:
    model: Path | str = "net.mlpackage"
    if platform.system() == "Darwin":
        model = exported("coreml", "float16").path
    given = [model, EXAMPLE.parents[1] / "demo/clip.mp4", tmp_path / "out.mp4"]
    words = [sys.executable, EXAMPLE, *given]
    done = subprocess.run(words, capture_output=True, text=True)
    if platform.system() == "Darwin":
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out.mp4").stat().st_size > 1000
    else:
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("CoreML runs on macOS only")
