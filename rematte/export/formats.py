"""What can be exported, and what each module of a format is told and gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:  # the command line's help needs `FORMATS` and no arrays
    import numpy as np
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float32]"
# r1 to r4, as the format hands them on; None begins.
States: TypeAlias = "Sequence[NDArray[np.floating]] | None"
# One frame (1, 3, H, W) in [0, 1] and the states before, to foreground (1, 3, H, W),
# alpha (1, 1, H, W) and the states after, planar as the network's own.
Step = Callable[[Floats, States], tuple[Floats, Floats, States]]

# As the documentation of the ONNX file names them.
INPUTS = ("src", "r1i", "r2i", "r3i", "r4i")
OUTPUTS = ("fgr", "pha", "r1o", "r2o", "r3o", "r4o")
PRECISIONS = ("float32", "float16", "int8")
# Elements of a kernel; smaller ones (depthwise, gates) are not rounded to int8. In ONNX
# with them the loss in alpha was 0.008 on average instead of 0.0006, for a file 14%
# smaller; in TFLite with those from 4096 on ResNet50's was twice as large, for 0.5%.
SMALLEST_INT8 = 16384
_SHORT = {"float32": "fp32", "float16": "fp16", "int8": "int8"}


@dataclass(frozen=True)
class Request:
    """What a file is to hold.

    Attributes:
        precision: Of `PRECISIONS`. Of int8, weights and perhaps arithmetic.
        size: Height and width [pixels] it is made for; None for any.
        ratio: The downsample ratio it is made for; None for any.
        stateful: Whether the runtime keeps the recurrent states itself.
    """

    precision: str = "float32"
    size: tuple[int, int] | None = None
    ratio: float | None = None
    stateful: bool = False

    @property
    def fixed(self) -> tuple[tuple[int, int], float]:
        """Size and ratio, of a format that is made for one of each."""
        if self.size is None or self.ratio is None:
            raise ValueError("this format is made for one size and one ratio")
        return self.size, self.ratio


class Format(NamedTuple):
    """A kind of file.

    `rematte.export.MODULE` has two functions: `write(network, path, request)` writes it
    (a folder, where the format is one), and `open_model(path, request, ratio)` gives a
    `Step` that runs what was written, at that ratio.

    Attributes:
        suffix: Of the file name; empty for a folder.
        module: The module of this package.
        extra: What `pip install 'rematte[EXTRA]'` has to bring; "" for nothing.
        needs: Modules that have to be importable.
        precisions: Of `PRECISIONS`, those it can have.
        fixed: Whether size and ratio are fixed: "never", "can be", "always".
        stateful: Whether it can keep the states itself.
        limit: Of the difference in alpha in float32 (see `parity`).
    """

    suffix: str
    module: str
    extra: str
    needs: tuple[str, ...]
    precisions: tuple[str, ...]
    fixed: str
    stateful: bool = False
    limit: float = 1e-4


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
    """The name of a file where none is given, as the documentation names them.

    Args:
        name: Of `FORMATS`.
        variant: Of the network.
        request: What it holds.
    """
    kind = FORMATS[name]
    parts = ["rvm", variant]
    if request.size and request.ratio:
        height, width = request.size
        parts += [f"{width}x{height}", f"s{request.ratio:g}"]
    parts.append(_SHORT[request.precision])
    if not kind.suffix:
        parts.append(name)
    return "_".join(parts) + kind.suffix
