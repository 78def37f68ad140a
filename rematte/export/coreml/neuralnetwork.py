"""Exports to CoreML's older neural network (.mlmodel), from iOS 14 on."""

from pathlib import Path
from typing import Any

from rematte.export.coreml.mlprogram import (
    LARGE,
    convert,
    coremltools,
    open_model,
    save,
)
from rematte.export.fixed_shape import quiet
from rematte.export.formats import Request
from rematte.network.matting_network import MattingNetwork

__all__ = ["open_model", "write"]

# Applied in order; weights that are quantised already stay as they are.
_BITS: dict[str, tuple[int, ...]] = {"float32": (), "float16": (16,), "int8": (8, 16)}


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the file."""
    tools: Any = coremltools().models.neural_network.quantization_utils
    model: Any = convert(network, request, convert_to="neuralnetwork")

    class Convolutions(tools.QuantizedLayerSelector):  # type: ignore[misc]
        """Selects the weights of convolutions: others are small or sample the frame."""

        def __init__(self, least: int) -> None:
            super().__init__()
            self.least = least

        def do_quantize(self, layer: Any, weight_param: str = "weights") -> bool:
            weights = layer.convolution.weights.floatValue
            return weight_param == "weights" and len(weights) > self.least

    for bits in _BITS[request.precision]:
        large = Convolutions(LARGE if bits == 8 else 0)
        with quiet():
            model = tools.quantize_weights(model, bits, selector=large)
    save(model, path)
