"""Exports of the bundled network, each made once in a process."""

import dataclasses
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import needs
from fakes import formula_network

from rematte.export import FORMATS, Exported, export
from rematte.export.coreml import mlprogram, neuralnetwork
from rematte.export.formats import Request, Step
from rematte.export.verify import (
    Difference,
    Truth,
    difference,
    real_frames,
    true_outputs,
)
from rematte.network.matting_network import MattingNetwork
from rematte.weights.load import load_network

ODD = (161, 97), 0.6  # width and height, ratio; the small frame is 96.6 x 58.2
EVEN = (256, 144), 0.5
# Height, width, ratio and frames of what a model for any size is checked with.
CHECKS = (144, 256, 0.5, 12), (97, 161, 1.0, 3), (97, 161, 0.6, 5)
FOLDER = tempfile.TemporaryDirectory(prefix="rematte-exports-")
_converted = cache(mlprogram.convert)


def is_fixed(name: str, precision: str = "float32") -> bool:
    """Whether the format is exported for one size here."""
    # In int8, tiny frames of ratio 1 lose more than the limit (docs/export.md).
    kind = FORMATS[name].fixed
    return kind == "always" or (kind == "can be" and precision == "int8")


def request(name: str, precision: str = "float32", stateful: bool = False) -> Request:
    if not is_fixed(name, precision):
        return Request(precision)
    # CoreML samples the frame differently at the two sizes.
    even = precision != "float32" and name not in ("onnx", "tflite") and not stateful
    (width, height), ratio = EVEN if even else ODD
    return Request(precision, (height, width), ratio, stateful)


def exported(
    name: str, precision: str = "float32", stateful: bool = False, large: bool = False
) -> Exported:
    """Export once, check over few frames, and keep the file under its usual name.

    A large one is ResNet50 with formula weights, at ratio 1 where the ratio is fixed.
    """
    needs(*FORMATS[name].needs)
    return _exported(name, precision, stateful, large)  # the cache knows no defaults


@cache
def network(large: bool) -> MattingNetwork:
    """The bundled network, or ResNet50 with formula weights."""
    if large:
        return formula_network("resnet50", "deep_guided_filter")
    return load_network()


@cache
def truths(large: bool, size: tuple[int, int], count: int, ratio: float) -> list[Truth]:
    """Real frames, and what the network makes of them."""
    return list(true_outputs(network(large), real_frames(size, count), ratio))


@cache
def _exported(name: str, precision: str, stateful: bool, large: bool) -> Exported:
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=FOLDER.name))
    wanted = request(name, precision, stateful)
    size, ratio = wanted.size and wanted.size[::-1], wanted.ratio
    if large and size:
        size, ratio = (160, 96), 1
    # Tiny odd frames at ratio 1 lose more than the limit: in float16 2.7e-3 in torch,
    # and ONNX 1.9e-3 at even ones too; in int8 0.016 in TensorFlow.js.
    free = CHECKS
    if precision == "float16" or (name, precision) == ("tfjs", "int8"):
        even = [] if name == "onnx" else [(96, 160, 1.0, 3)]
        free = CHECKS[0], *even, CHECKS[2]
    checks = ((size[1], size[0], ratio, 12),) if size and ratio else free

    def compare(_: Any, step: Step, given: Any, ratio: float) -> Difference:
        return difference(step, truths(large, *given, ratio), ratio)

    def convert(network: MattingNetwork, wanted: Request, **options: Any) -> Any:
        return _converted(network, dataclasses.replace(wanted, precision=""), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("rematte.export.core._checks", lambda request: checks)
        # The network runs once for all formats, and not at each comparison.
        patch.setattr("rematte.export.core.real_frames", lambda size, n: (size, n))
        patch.setattr("rematte.export.core.compare", compare)
        # CoreML's weights are made smaller after a conversion that knows no precision.
        for module in mlprogram, neuralnetwork:
            patch.setattr(module, "convert", convert)
        done = export(
            network(large), name, precision=precision, size=size,
            downsample_ratio=ratio, stateful=stateful,
        )  # fmt: skip
    return dataclasses.replace(done, path=folder / done.path)
