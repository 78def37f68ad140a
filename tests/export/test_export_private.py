"""Exports, too, send nothing and write nowhere else; see test_private."""

from pathlib import Path

import pytest
from conftest import needs
from test_private import (  # noqa: F401 - fixtures
    FIRST,
    _installation_stays,
    are_private,
    command,
    folder,
)

from rematte.export import FORMATS

pytestmark = pytest.mark.timeout(1800)  # each runs many programs

# Importing what exports need takes seconds too.
EXPORT = f"""{FIRST}
from rematte.export import core
core._checks = lambda request: ((96, 160, 1.0, 2),)
torch.export.export(torch.nn.Identity(), (torch.zeros(1),))
"""


COREML = "from rematte.export.coreml.mlprogram import coremltools; coremltools()"
tensorflow = pytest.mark.tensorflow


@pytest.mark.parametrize(
    ("formats", "first"),
    [
        (("torchscript", "pt2", "onnx", "openvino"), ""),
        (("coreml", "coreml-neuralnetwork"), COREML),
        (("executorch", "ncnn", "torchscript-frozen"), ""),
        pytest.param(("tensorflow", "keras", "tflite", "tfjs"), "", marks=tensorflow),
    ],
)
def test_exports_are_private(
    formats: tuple[str, ...],
    first: str,
    folder: Path,  # noqa: F811
) -> None:
    programs = {}
    for name in formats:
        kind = FORMATS[name]
        needs(*kind.needs)
        fixed = "--static 160x96 --downsample-ratio 1" if kind.fixed != "never" else ""
        words = f"export {name} -o {name}{kind.suffix} {fixed}"
        programs[name] = command(words)
    are_private(programs, folder, EXPORT + first)
