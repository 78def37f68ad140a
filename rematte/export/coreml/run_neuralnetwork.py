"""Interprets CoreML's older neural network in PyTorch where CoreML is missing.

In float32: the device decides in which precision CoreML computes. The file holds
weights of 32, 16 or 8 bits.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class NeuralNetwork:
    """The neural network of an `MLModel`; its layers must be known."""

    def __init__(self, model: Any) -> None:
        spec = model.get_spec()
        self._outputs = [entry.name for entry in spec.description.output]
        # CoreML applies them to images only.
        self._scales = {
            each.featureName: each.scaler.channelScale
            for each in spec.neuralNetwork.preprocessing
        }
        self._layers = []
        for layer in spec.neuralNetwork.layers:
            kind = layer.WhichOneof("layer")
            if kind not in _LAYERS:
                raise ValueError(f"cannot run {kind} of this network")
            run = _LAYERS[kind](getattr(layer, kind))
            self._layers.append((list(layer.input), list(layer.output), run))

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map inputs to outputs by name, all in float32."""
        values = {
            name: value * self._scales.get(name, 1) for name, value in inputs.items()
        }
        for names, outputs, run in self._layers:
            result = run([values[name] for name in names])
            results = result if isinstance(result, tuple) else [result]
            values |= zip(outputs, results, strict=True)
        return {name: values[name] for name in self._outputs}


# Maps the inputs of a layer to its outputs.
_Run = Callable[[Sequence[Tensor]], Tensor | tuple[Tensor, ...]]


def _numbers(stored: Any, shape: Sequence[int]) -> Tensor:
    """Return weights that are stored in 32, 16 or 8 bits."""
    if stored.float16Value:
        values = np.frombuffer(stored.float16Value, np.float16).astype(np.float32)
    elif stored.rawValue:
        linear = stored.quantization.linearQuantization
        codes = np.frombuffer(stored.rawValue, np.uint8).astype(np.float32)
        codes = codes.reshape(len(linear.scale), -1)
        values = codes * np.array(linear.scale, np.float32)[:, None]
        values += np.array(linear.bias, np.float32)[:, None]
    else:
        values = np.array(stored.floatValue, np.float32)
    return torch.from_numpy(values.reshape(tuple(shape)))


def _convolution(layer: Any) -> _Run:
    shape = [layer.outputChannels, layer.kernelChannels, *layer.kernelSize]
    weight = _numbers(layer.weights, shape)
    bias = _numbers(layer.bias, shape[:1]) if layer.hasBias else None
    border = _border(layer.valid)

    def run(x: Sequence[Tensor]) -> Tensor:
        padded = F.pad(x[0], border)
        stride, dilation = list(layer.stride), list(layer.dilationFactor)
        return F.conv2d(padded, weight, bias, stride, 0, dilation, layer.nGroups)

    return run


def _border(valid: Any) -> list[int]:
    """Return the padding left, right, top and bottom."""
    amounts = valid.paddingAmounts.borderAmounts
    if not amounts:
        return [0, 0, 0, 0]
    rows, columns = amounts
    return [
        columns.startEdgeSize, columns.endEdgeSize, rows.startEdgeSize, rows.endEdgeSize
    ]  # fmt: skip


def _pooling(layer: Any) -> _Run:
    kernel, stride = list(layer.kernelSize), list(layer.stride)
    if layer.globalPooling:
        return lambda x: x[0].mean((2, 3), keepdim=True)
    # "Include the last pixel" means that the size is rounded up.
    up = layer.WhichOneof("PoolingPaddingType") == "includeLastPixel"
    if up:
        top, left = layer.includeLastPixel.paddingAmounts
    else:
        left, _, top, _ = _border(layer.valid)
    if layer.type == layer.MAX:
        return lambda x: F.max_pool2d(x[0], kernel, stride, (top, left), ceil_mode=up)
    count = not layer.avgPoolExcludePadding
    return lambda x: F.avg_pool2d(x[0], kernel, stride, (top, left), up, count)


def _activation(layer: Any) -> _Run:
    kind = layer.WhichOneof("NonlinearityType")
    given = getattr(layer, kind)
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "linear": lambda x: given.alpha * x + given.beta,
        "ReLU": F.relu,
        "thresholdedReLU": lambda x: x * (x >= given.alpha),
        "sigmoidHard": lambda x: (given.alpha * x + given.beta).clamp(0, 1),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }
    if kind not in functions:
        raise ValueError(f"cannot run activation {kind} of this network")
    return lambda x: functions[kind](x[0])


def _upsample(layer: Any) -> _Run:
    factors = list(layer.scalingFactor or layer.fractionalScalingFactor)
    if layer.mode != layer.BILINEAR or (
        layer.linearUpsampleMode != layer.ALIGN_CORNERS_FALSE
    ):
        raise ValueError("cannot run this kind of upsampling of this network")

    def run(x: Sequence[Tensor]) -> Tensor:
        sides = x[0].shape[2:]
        size = [int(side * f) for side, f in zip(sides, factors, strict=True)]
        return F.interpolate(x[0], size, mode="bilinear", align_corners=False)

    return run


def _shuffle(layer: Any) -> _Run:
    if layer.mode != layer.PIXEL_SHUFFLE:
        raise ValueError("cannot run this kind of reorganisation of this network")
    return lambda x: F.pixel_shuffle(x[0], layer.blockSize)


def _split(layer: Any) -> _Run:
    return lambda x: x[0].split(
        list(layer.splitSizes) or x[0].shape[layer.axis] // layer.numSplits, layer.axis
    )


def _slice(layer: Any) -> _Run:
    axis = 1 + layer.axis  # of channels, rows, columns
    places = slice(layer.startIndex, layer.endIndex, layer.stride or 1)
    return lambda x: x[0][(slice(None),) * axis + (places,)]


def _matmul(layer: Any) -> _Run:
    if layer.transposeA or layer.transposeB or layer.hasBias:
        raise ValueError("cannot run this kind of matrix product of this network")
    rows, columns = layer.weightMatrixFirstDimension, layer.weightMatrixSecondDimension
    if not rows:
        return lambda x: x[0] @ x[1]
    # Stored column by column.
    matrix = _numbers(layer.weights, (columns, rows)).T
    return lambda x: x[0] @ matrix


def _constant(layer: Any) -> _Run:
    values = _numbers(layer.data, layer.shape)
    return lambda x: values


_LAYERS: dict[str, Callable[[Any], _Run]] = {
    "add": lambda layer: lambda x: x[0] + (x[1] if len(x) > 1 else layer.alpha),
    "multiply": lambda layer: lambda x: x[0] * (x[1] if len(x) > 1 else layer.alpha),
    "activation": _activation,
    "convolution": _convolution,
    "pooling": _pooling,
    "upsample": _upsample,
    "reorganizeData": _shuffle,
    "concat": lambda layer: lambda x: torch.cat(list(x), 1),
    "splitND": _split,
    "slice": _slice,
    "reshapeStatic": lambda layer: lambda x: x[0].reshape(list(layer.targetShape)),
    "squeeze": lambda layer: lambda x: x[0].squeeze(list(layer.axes)),
    "expandDims": lambda layer: lambda x: x[0].unsqueeze(*layer.axes),
    "reduceMean": lambda layer: lambda x: x[0].mean(list(layer.axes), layer.keepDims),
    "clip": lambda layer: lambda x: x[0].clamp(layer.minVal, layer.maxVal),
    "loadConstantND": _constant,
    "batchedMatmul": _matmul,
}
