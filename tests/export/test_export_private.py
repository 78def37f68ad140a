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


def exports_are_private(
    folder: Path,  # noqa: F811
    *formats: str,
    first: str = "",
) -> None:
    """Export to formats in an environment that has their runtimes.

    Args:
        folder: The working folder.
        formats: Names of `FORMATS`.
        first: Imports that several of them need.
    """
    programs = {}
    for name in formats:
        kind = FORMATS[name]
        needs(*kind.needs)
        fixed = "--static 160x96 --downsample-ratio 1" if kind.fixed != "never" else ""
        words = f"export {name} -o {name}{kind.suffix} {fixed}"
        programs[name] = command(words)
    are_private(programs, folder, EXPORT + first)


def test_exports_are_private(folder: Path) -> None:  # noqa: F811
    exports_are_private(folder, "torchscript", "pt2", "onnx", "openvino")


def test_exports_to_coreml_are_private(folder: Path) -> None:  # noqa: F811
    needs("coremltools")
    first = "from rematte.export.coreml.mlprogram import coremltools; coremltools()"
    exports_are_private(folder, "coreml", "coreml-neuralnetwork", first=first)


def test_other_exports_are_private(folder: Path) -> None:  # noqa: F811
    exports_are_private(folder, "executorch", "ncnn", "torchscript-frozen")


@pytest.mark.tensorflow
def test_exports_to_tensorflow_are_private(folder: Path) -> None:  # noqa: F811
    exports_are_private(folder, *["tensorflow", "keras", "tflite", "tfjs"])
