"""The table of export formats, and the types that their modules share.

In all of them `size` is height and width [pixels], and `ratio` the downsample ratio.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:  # the command line's help needs `FORMATS` and no arrays
    import numpy as np
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float32]"
# r1 to r4 in the format's own layout; None for the first frame.
States: TypeAlias = "Sequence[NDArray[np.floating]] | None"
# Maps a frame (1, 3, H, W) in [0, 1] and the previous states to foreground
# (1, 3, H, W), alpha (1, 1, H, W) and the new states.
Step = Callable[[Floats, States], tuple[Floats, Floats, States]]

# Documented names of the ONNX file's inputs and outputs.
INPUTS = ("src", "r1i", "r2i", "r3i", "r4i")
OUTPUTS = ("fgr", "pha", "r1o", "r2o", "r3o", "r4o")
PRECISIONS = ("float32", "float16", "int8")
# Number of elements below which a kernel (depthwise, gates) is not rounded to int8. In
# ONNX, rounding all made the mean loss in alpha 0.008 instead of 0.0006, for a file 14%
# smaller; in TFLite, a limit of 4096 doubled ResNet50's loss for 0.5%.
SMALLEST_INT8 = 16384
_SHORT = {"float32": "fp32", "float16": "fp16", "int8": "int8"}


def as_step(run: Callable[..., Sequence[Any]], start: Sequence[Any]) -> Step:
    """Wrap a function of a frame and four states, which are `start` at first."""

    def step(src: Floats, states: States) -> tuple[Floats, Floats, States]:
        fgr, pha, *after = run(src, *(start if states is None else states))
        return fgr, pha, after

    return step


@dataclass(frozen=True)
class Request:
    """The properties of a file to write."""

    # A name of `PRECISIONS`. int8 means the weights and perhaps the arithmetic.
    precision: str = "float32"
    size: tuple[int, int] | None = None  # the only size that it takes; None for any
    ratio: float | None = None  # the only ratio that it takes; None for any
    stateful: bool = False  # whether the runtime keeps the recurrent states itself

    @property
    def fixed(self) -> tuple[tuple[int, int], float]:
        """Size and ratio of a file that is made for one of each."""
        if self.size is None or self.ratio is None:
            raise ValueError("this format is made for one size and one ratio")
        return self.size, self.ratio


class Format(NamedTuple):
    """A file format.

    The module `rematte.export.MODULE` has two functions. `write(network, path,
    request)` writes the file or folder, and `open_model(path, request, ratio)` returns
    a `Step` that runs it at that ratio.
    """

    suffix: str  # suffix of the file name; empty for a folder
    module: str
    extra: str  # extra of the package that installs its needs; "" for none
    needs: tuple[str, ...]  # modules that must be importable
    precisions: tuple[str, ...]  # the names of `PRECISIONS` that it supports
    fixed: str  # whether size and ratio are fixed: "never", "can be", "always"
    stateful: bool = False  # whether the file can keep the states itself
    limit: float = 1e-4  # largest difference in alpha that is allowed in float32


FORMATS = {
    "torchscript": Format(
        ".torchscript", "torchscript", "", (), ("float32", "float16"), "never"
    ),
    "torchscript-frozen": Format(
        ".torchscript", "torchscript_frozen", "", (), ("float32", "float16"), "never"
    ),
    "pt2": Format(".pt2", "pt2", "", (), ("float32", "float16"), "always"),
    "onnx": Format(
        ".onnx", "onnx", "onnx", ("onnx", "onnxruntime", "onnxscript"), PRECISIONS,
        "can be",
    ),
    "openvino": Format(
        ".xml", "openvino", "openvino", ("openvino",), ("float32", "float16"),
        "always", stateful=True,
    ),
    "coreml": Format(
        ".mlpackage", "coreml.mlprogram", "coreml", ("coremltools",), PRECISIONS,
        "always", stateful=True,
    ),
    "coreml-neuralnetwork": Format(
        ".mlmodel", "coreml.neuralnetwork", "coreml", ("coremltools",), PRECISIONS,
        "always",
    ),
    "executorch": Format(
        ".pte", "executorch", "executorch", ("executorch",), ("float32",), "always"
    ),
    "ncnn": Format(
        ".ncnn.param", "ncnn", "ncnn", ("ncnn", "pnnx"), ("float32", "float16"),
        "always",
    ),
    "tensorflow": Format(
        "", "tensorflow.saved_model", "tensorflow", ("tensorflow",), ("float32",),
        "never",
    ),
    "keras": Format(
        ".keras", "tensorflow.keras", "tensorflow", ("tensorflow",), ("float32",),
        "never",
    ),
    "tflite": Format(
        ".tflite", "tensorflow.tflite", "tensorflow",
        ("tensorflow", "ai_edge_litert", "ai_edge_quantizer"), PRECISIONS, "always",
    ),
    "tfjs": Format(
        "", "tensorflow.tfjs", "tfjs", ("tensorflow",), PRECISIONS, "never", limit=1e-3
    ),
}  # fmt: skip


def file_name(name: str, variant: str, request: Request) -> str:
    """Return the documented name of a file of a format and a network's variant."""
    kind = FORMATS[name]
    parts = ["rvm", variant]
    if request.size and request.ratio:
        height, width = request.size
        parts += [f"{width}x{height}", f"s{request.ratio:g}"]
    parts.append(_SHORT[request.precision])
    if not kind.suffix:
        parts.append(name)
    return "_".join(parts) + kind.suffix
