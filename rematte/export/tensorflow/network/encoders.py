"""The layers of the network in TensorFlow, and its two encoders."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

Tensor = Any  # tensorflow has no types
Activation = Callable[[Tensor], Tensor]


def hardsigmoid(x: Tensor) -> Tensor:
    """Compute MobileNetV3's piecewise linear sigmoid."""
    return tf.nn.relu6(x + 3.0) / 6.0


def hardswish(x: Tensor) -> Tensor:
    """Compute the activation of MobileNetV3's later layers."""
    return x * tf.nn.relu6(x + 3.0) / 6.0


class Block(keras.layers.Layer):
    """A part of the network, whose constructor makes all weights.

    A layer with weights is named as its key in a checkpoint.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)
        self.built = True


class Conv2d(Block):
    """A convolution, padded with zeros by the same number on all sides.

    `key` is that of its weights in a checkpoint; a depthwise one filters each channel
    separately; a bias may be its own or a batch norm's.
    """

    def __init__(
        self,
        key: str,
        channels: int,
        out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        depthwise: bool = False,
        bias: bool = True,
        activation: Activation = tf.identity,
    ) -> None:
        super().__init__(key)
        shape = (kernel, kernel, channels, 1 if depthwise else out)
        self.kernel = self.add_weight(shape=shape, name="kernel")
        self.bias = self.add_weight(shape=(out,), name="bias") if bias else None
        each = _dilated if dilation > 1 else tf.nn.depthwise_conv2d
        self.convolve = each if depthwise else tf.nn.conv2d
        self.stride, self.dilation = stride, dilation
        self.activation = activation

    def call(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H/stride, W/stride, C')."""
        if self.stride > 1:
            # "SAME" would pad an even side at its end only.
            x = pad(x, self.kernel.shape[0] // 2)
        y = self.convolve(
            x,
            tf.convert_to_tensor(self.kernel),
            strides=[1, self.stride, self.stride, 1],
            padding="VALID" if self.stride > 1 else "SAME",
            dilations=[self.dilation, self.dilation],
        )
        if self.bias is not None:
            y = tf.nn.bias_add(y, tf.convert_to_tensor(self.bias))
        return self.activation(y)


def _dilated(
    x: Tensor, kernel: Tensor, strides: list[int], padding: str, dilations: list[int]
) -> Tensor:
    """Compute a dilated `tf.nn.depthwise_conv2d` with stride 1 and padding "SAME".

    TensorFlow's own uses the remainder of a division, which WebGPU cannot (`shrink`).
    """
    step = dilations[0]
    size = tf.shape(x)[1:3]
    missing = (size + (step - 1)) // step * step - size
    margin = tf.constant([kernel.shape[0] // 2 * step] * 2)
    pads = tf.stack([margin, margin + missing], 1)
    crops = tf.stack([tf.constant([0, 0]), missing], 1)
    x = tf.space_to_batch(x, dilations, pads)
    x = tf.nn.depthwise_conv2d(x, kernel, strides, "VALID")
    return tf.batch_to_space(x, dilations, crops)


def pad(x: Tensor, by: int) -> Tensor:
    """Pad (N, H, W, C) with zeros by the same number on all sides."""
    return tf.pad(x, [[0, 0], [by, by], [by, by], [0, 0]])


def mean_of_picture(x: Tensor) -> Tensor:
    """Average (N, H, W, C) over all pixels, to (N, 1, 1, C)."""
    return tf.reduce_mean(x, [1, 2], keepdims=True)


# Kernel, expanded, out, squeezed (0: not at all), activation, stride, dilation:
# MobileNetV3-Large with the last stage dilated (see `rematte.network.encoders`).
_HS, _RE = hardswish, tf.nn.relu
_MOBILENETV3_LARGE = (
    (3, 16, 16, 0, _RE, 1, 1),
    (3, 64, 24, 0, _RE, 2, 1),
    (3, 72, 24, 0, _RE, 1, 1),
    (5, 72, 40, 24, _RE, 2, 1),
    (5, 120, 40, 32, _RE, 1, 1),
    (5, 120, 40, 32, _RE, 1, 1),
    (3, 240, 80, 0, _HS, 2, 1),
    (3, 200, 80, 0, _HS, 1, 1),
    (3, 184, 80, 0, _HS, 1, 1),
    (3, 184, 80, 0, _HS, 1, 1),
    (3, 480, 112, 120, _HS, 1, 1),
    (3, 672, 112, 168, _HS, 1, 1),
    (5, 672, 160, 168, _HS, 2, 2),
    (5, 960, 160, 240, _HS, 1, 2),
    (5, 960, 160, 240, _HS, 1, 2),
)


class SqueezeExcitation(Block):
    """Reweights channels by a global summary of the picture."""

    def __init__(self, key: str, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = Conv2d(f"{key}.fc1", channels, squeezed, activation=tf.nn.relu)
        self.fc2 = Conv2d(f"{key}.fc2", squeezed, channels, activation=hardsigmoid)

    def call(self, x: Tensor) -> Tensor:
        """Scale each channel of (N, H, W, C) by its gate in [0, 1]."""
        return x * self.fc2(self.fc1(mean_of_picture(x)))


class InvertedResidual(Block):
    """Expand, filter per channel, project; with a shortcut where shapes allow."""

    def __init__(self, key: str, channels: int, row: tuple[Any, ...]) -> None:
        super().__init__()
        kernel, expanded, out, squeezed, activation, stride, dilation = row
        self.block: list[Block] = []
        if expanded != channels:
            name = f"{key}.block.0.0"
            self.block.append(Conv2d(name, channels, expanded, activation=activation))
        filtered = Conv2d(
            f"{key}.block.{len(self.block)}.0", expanded, expanded, kernel,
            stride=1 if dilation > 1 else stride, dilation=dilation, depthwise=True,
            activation=activation,
        )  # fmt: skip
        self.block.append(filtered)
        if squeezed:
            name = f"{key}.block.{len(self.block)}"
            self.block.append(SqueezeExcitation(name, expanded, squeezed))
        self.block.append(Conv2d(f"{key}.block.{len(self.block)}.0", expanded, out))
        # The table's stride decides: the dilated row 13 has no shortcut.
        self.shortcut = stride == 1 and channels == out

    def call(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H', W', C')."""
        y = x
        for layer in self.block:
            y = layer(y)
        return x + y if self.shortcut else y


class MobileNetV3Encoder(Block):
    """MobileNetV3-Large with a dilated last stage."""

    channels = (16, 24, 40, 960)

    def __init__(self) -> None:
        super().__init__()
        first = Conv2d("backbone.features.0.0", 3, 16, 3, stride=2, activation=_HS)
        self.features: list[Block] = [first]
        channels = 16
        for row in _MOBILENETV3_LARGE:
            key = f"backbone.features.{len(self.features)}"
            self.features.append(InvertedResidual(key, channels, row))
            channels = row[2]
        last = Conv2d("backbone.features.16.0", channels, 960, activation=_HS)
        self.features.append(last)

    def call(self, x: Tensor) -> list[Tensor]:
        """Return features at 1/2, 1/4, 1/8 and 1/16 of (N, H, W, 3) in [0, 1]."""
        x = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        taps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in (1, 3, 6, 16):
                taps.append(x)
        return taps


class Bottleneck(Block):
    """ResNet v1.5 bottleneck: the 3x3 convolution carries the stride."""

    def __init__(
        self, key: str, channels: int, width: int, stride: int, dilation: int
    ) -> None:
        super().__init__()
        out, relu = 4 * width, tf.nn.relu
        self.conv1 = Conv2d(f"{key}.conv1", channels, width, activation=relu)
        self.conv2 = Conv2d(
            f"{key}.conv2", width, width, 3, stride=stride, dilation=dilation,
            activation=relu,
        )  # fmt: skip
        self.conv3 = Conv2d(f"{key}.conv3", width, out)
        self.downsample = None
        if stride != 1 or channels != out:
            name = f"{key}.downsample.0"
            self.downsample = Conv2d(name, channels, out, stride=stride)

    def call(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H', W', C')."""
        y = self.conv3(self.conv2(self.conv1(x)))
        return tf.nn.relu(y + (self.downsample(x) if self.downsample else x))


class ResNet50Encoder(Block):
    """ResNet-50 v1.5 with a dilated last stage. It does not normalise its input."""

    channels = (64, 256, 512, 2048)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv2d("backbone.conv1", 3, 64, 7, stride=2, activation=tf.nn.relu)
        self.blocks = []
        channels = 64
        for index, (width, blocks, stride, dilation) in enumerate(
            ((64, 3, 1, 1), (128, 4, 2, 1), (256, 6, 2, 1), (512, 3, 1, 2)), 1
        ):
            for block in range(blocks):
                # The first block of a stage is never dilated.
                step, hole = (1, dilation) if block else (stride, 1)
                key = f"backbone.layer{index}.{block}"
                self.blocks.append(Bottleneck(key, channels, width, step, hole))
                channels = 4 * width

    def call(self, x: Tensor) -> list[Tensor]:
        """Return features at 1/2, 1/4, 1/8 and 1/16 of (N, H, W, 3) in [0, 1]."""
        x = self.conv1(x)
        taps = [x]
        # After a ReLU, padding with zeros does not change the maximum.
        x = tf.nn.max_pool2d(pad(x, 1), 3, 2, "VALID")
        for index, layer in enumerate(self.blocks, 1):
            x = layer(x)
            if index in (3, 7, 16):
                taps.append(x)
        return taps
