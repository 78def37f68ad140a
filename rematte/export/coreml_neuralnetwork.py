"""CoreML's older neural network (.mlmodel), for systems from iOS 14 on."""

from pathlib import Path
from typing import Any

from rematte.export.coreml import convert, coremltools, open_model, save
from rematte.export.fixed import quiet
from rematte.export.formats import Request
from rematte.network import MattingNetwork

__all__ = ["open_model", "write"]

_BITS = {"float16": 16, "int8": 8}


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write it."""
    quantization_utils = coremltools().models.neural_network.quantization_utils
    model: Any = convert(network, request, convert_to="neuralnetwork")
    if request.precision in _BITS:

        class Convolutions(quantization_utils.QuantizedLayerSelector):  # type: ignore[misc]
            """Their weights only: the rest is small, or samples the frame."""

            def do_quantize(self, layer: Any, weight_param: str = "weights") -> bool:
                kind = layer.WhichOneof("layer")
                return kind == "convolution" and weight_param == "weights"

        with quiet():
            model = quantization_utils.quantize_weights(
                model, _BITS[request.precision], selector=Convolutions()
            )
    save(model, path)
