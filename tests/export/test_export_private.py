"""The other runtimes, too, send nothing and write nowhere else; see test_private."""

from pathlib import Path

import pytest
from test_private import (  # noqa: F401 - fixtures
    _installation_stays,
    export_is_private,
    folder,
)

NAMES = (
    "coreml", "coreml-neuralnetwork", "executorch", "ncnn", "tensorflow", "keras",
    "tflite", "tfjs", "torchscript-frozen",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_other_exports_are_private(folder: Path, name: str) -> None:  # noqa: F811
    export_is_private(folder, name)
