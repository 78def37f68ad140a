"""The other runtimes, too, send nothing and write nowhere else; see test_private."""

from pathlib import Path

import pytest
from conftest import needs
from test_private import (  # noqa: F401 - fixtures
    _installation_stays,
    exports_are_private,
    folder,
)


def test_exports_to_coreml_are_private(folder: Path) -> None:  # noqa: F811
    needs("coremltools")
    first = "from rematte.export.coreml.mlprogram import coremltools; coremltools()"
    exports_are_private(folder, "coreml", "coreml-neuralnetwork", first=first)


def test_other_exports_are_private(folder: Path) -> None:  # noqa: F811
    exports_are_private(folder, "executorch", "ncnn", "torchscript-frozen")


@pytest.mark.tensorflow
def test_exports_to_tensorflow_are_private(folder: Path) -> None:  # noqa: F811
    exports_are_private(folder, *["tensorflow", "keras", "tflite", "tfjs"])
