"""The other runtimes, too, send nothing and write nowhere else; see test_private."""

from pathlib import Path

import pytest
from test_private import (  # noqa: F401 - fixtures
    _installation_stays,
    exports_are_private,
    folder,
)


def test_other_exports_are_private(folder: Path) -> None:  # noqa: F811
    names = "coreml coreml-neuralnetwork executorch ncnn torchscript-frozen"
    exports_are_private(folder, *names.split())


@pytest.mark.tensorflow
def test_exports_to_tensorflow_are_private(folder: Path) -> None:  # noqa: F811
    exports_are_private(folder, *["tensorflow", "keras", "tflite", "tfjs"])
