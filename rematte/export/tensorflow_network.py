"""The network in TensorFlow: a Keras 3 model, channels last, for inference.

This is `rematte.network.matting_network` in another framework, with the same names, and
it takes the weights of any checkpoint of that one. Batch norms are folded into the
convolutions before them. It needs nothing of rematte but this file.

As documented, states begin as scalar zeros and the ratio is a scalar tensor:

    model = keras.models.load_model("rvm_mobilenetv3_fp32.keras")
    model = tf.function(model)
    rec = [tf.constant(0.)] * 4
    downsample_ratio = tf.constant(0.25)
    for src in YOUR_VIDEO:  # (B, H, W, 3), RGB in [0, 1]
        out = model([src, *rec, downsample_ratio])
        fgr, pha = out["fgr"], out["pha"]
        rec = [out["r1o"], out["r2o"], out["r3o"], out["r4o"]]

`keras.models.load_model` needs `import rematte.tensorflow` before it. A SavedModel
needs nothing: `tf.saved_model.load(folder)` gives what is called in the same way.

Source:
    Lin, Yang, Saleemi, Sengupta, Robust High-Resolution Video Matting with Temporal
    Guidance, 2021 (arXiv 2108.11515).
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Tensor = Any  # tensorflow has no types
Activation = Callable[[Tensor], Tensor]

INPUTS = ("src", "r1i", "r2i", "r3i", "r4i", "downsample_ratio")
OUTPUTS = ("fgr", "pha", "r1o", "r2o", "r3o", "r4o")


def hardsigmoid(x: Tensor) -> Tensor:
    """The sigmoid of MobileNetV3, in straight lines."""
    return tf.nn.relu6(x + 3.0) / 6.0


def hardswish(x: Tensor) -> Tensor:
    """The activation of MobileNetV3's later layers."""
    return x * tf.nn.relu6(x + 3.0) / 6.0


class Block(keras.layers.Layer):
    """A part of the network. All weights exist when it does: nothing is left to build.

    Args:
        name: Of a layer with weights: their key in a checkpoint.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)
        self.built = True


class Conv2d(Block):
    """A convolution, padded with zeros by the same number on all sides.

    Args:
        key: Of its weights in a checkpoint.
        channels: Of what comes in.
        out: Of what goes out.
        kernel: Its side.
        stride: In both directions.
        dilation: In both directions.
        depthwise: Whether each channel is filtered by itself.
        bias: Whether there is a bias, its own or a batch norm's.
        activation: Applied to the result.
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
        self.convolve = tf.nn.conv2d
        if depthwise:
            holes = dilation > 1
            self.convolve = _with_holes if holes else tf.nn.depthwise_conv2d
        self.stride, self.dilation = stride, dilation
        self.activation = activation

    def call(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H/stride, W/stride, C')."""
        if self.stride > 1:
            # Not "SAME": that pads an even side at its end only.
            x = _pad(x, self.kernel.shape[0] // 2)
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


def _with_holes(
    x: Tensor, kernel: Tensor, strides: list[int], padding: str, dilations: list[int]
) -> Tensor:
    """`tf.nn.depthwise_conv2d` with stride 1 and padding "SAME".

    Done as that does it, but without the remainder of a division (see `_shrink`).
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


def _pad(x: Tensor, by: int) -> Tensor:
    return tf.pad(x, [[0, 0], [by, by], [by, by], [0, 0]])


def _mean_of_picture(x: Tensor) -> Tensor:
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
        return x * self.fc2(self.fc1(_mean_of_picture(x)))


class InvertedResidual(Block):
    """Expand, filter per channel, project; with a shortcut where shapes allow."""

    def __init__(self, key: str, channels: int, row: tuple[Any, ...]) -> None:
        super().__init__()
        kernel, expanded, out, squeezed, activation, stride, dilation = row
        self.block: list[Block] = []
        if expanded != channels:
            name = f"{key}.block.0.0"
            self.block.append(Conv2d(name, channels, expanded, activation=activation))
        self.block.append(
            Conv2d(
                f"{key}.block.{len(self.block)}.0",
                expanded,
                expanded,
                kernel,
                stride=1 if dilation > 1 else stride,
                dilation=dilation,
                depthwise=True,
                activation=activation,
            )
        )
        if squeezed:
            name = f"{key}.block.{len(self.block)}"
            self.block.append(SqueezeExcitation(name, expanded, squeezed))
        self.block.append(Conv2d(f"{key}.block.{len(self.block)}.0", expanded, out))
        # Judged by the table's stride: the dilated row 13 has no shortcut.
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
        """Give features at 1/2, 1/4, 1/8 and 1/16 of (N, H, W, 3) in [0, 1]."""
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
            f"{key}.conv2",
            width,
            width,
            3,
            stride=stride,
            dilation=dilation,
            activation=relu,
        )
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
        """Give features at 1/2, 1/4, 1/8 and 1/16 of (N, H, W, 3) in [0, 1]."""
        x = self.conv1(x)
        taps = [x]
        # Zeros are as good as nothing after a ReLU.
        x = tf.nn.max_pool2d(_pad(x, 1), 3, 2, "VALID")
        for index, layer in enumerate(self.blocks, 1):
            x = layer(x)
            if index in (3, 7, 16):
                taps.append(x)
        return taps


class LRASPP(Block):
    """Reduces the deepest features, gated by a global summary of the picture."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.aspp1 = Conv2d("aspp.aspp1.0", channels, out, activation=tf.nn.relu)
        self.aspp2 = Conv2d(
            "aspp.aspp2.1", channels, out, bias=False, activation=tf.sigmoid
        )

    def call(self, x: Tensor) -> Tensor:
        """Map (N, h, w, C) to (N, h, w, C')."""
        return self.aspp1(x) * self.aspp2(_mean_of_picture(x))


class ConvGRU(Block):
    """A convolutional gated recurrent unit, run over one frame."""

    def __init__(self, key: str, channels: int) -> None:
        super().__init__()
        double = 2 * channels
        self.ih = Conv2d(f"{key}.ih.0", double, double, 3, activation=tf.sigmoid)
        self.hh = Conv2d(f"{key}.hh.0", double, channels, 3, activation=tf.tanh)

    def call(self, x: Tensor, state: Tensor) -> Tensor:
        """Give the next state, (B, H, W, C) like `x`; a single number is spread."""
        h = _start(x, state)
        reset, update = tf.split(self.ih(tf.concat([x, h], -1)), 2, -1)
        candidate = self.hh(tf.concat([x, reset * h], -1))
        return (1.0 - update) * h + update * candidate


def _start(x: Tensor, state: Tensor) -> Tensor:
    number = state.shape.num_elements() in (None, 1)  # None: not known yet
    if not number and not state.shape.is_compatible_with(x.shape):
        raise ValueError(
            f"a recurrent state is {list(state.shape)}, but this src and "
            f"downsample_ratio need {list(x.shape)}; states cannot be carried over to "
            "another resolution, ratio or batch size: start again with zeros for all "
            "four"
        )
    h = tf.zeros_like(x) + state
    h.set_shape(x.shape)  # of a state of unknown rank
    return h


def _upsample_to(x: Tensor, like: Tensor) -> Tensor:
    """Double (N, h, w, C) and crop bottom and right to the size of `like`."""
    x = _resize(x, 2 * tf.shape(x)[1:3])
    size = tf.shape(like)
    return x[:, : size[1], : size[2]]


def _resize(x: Tensor, size: Tensor) -> Tensor:
    return tf.image.resize(x, size, "bilinear")


class BottleneckBlock(Block):
    """The deepest decoder block: recurrence on half of the channels."""

    def __init__(self, key: str, channels: int) -> None:
        super().__init__()
        self.gru = ConvGRU(f"{key}.gru", channels // 2)

    def call(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, h, w, C) to the same shape, and give the state."""
        a, b = tf.split(x, 2, -1)
        b = self.gru(b, state)
        return tf.concat([a, b], -1), b


class UpsamplingBlock(Block):
    """A decoder block: upsample, merge with encoder and picture, recurrence."""

    def __init__(self, key: str, channels: int, skip: int, out: int) -> None:
        super().__init__()
        self.conv = Conv2d(
            f"{key}.conv.0", channels + skip + 3, out, 3, activation=tf.nn.relu
        )
        self.gru = ConvGRU(f"{key}.gru", out // 2)

    def call(
        self, x: Tensor, skip: Tensor, picture: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode one scale; give (B, h, w, C') and the state."""
        x = self.conv(tf.concat([_upsample_to(x, picture), skip, picture], -1))
        a, b = tf.split(x, 2, -1)
        b = self.gru(b, state)
        return tf.concat([a, b], -1), b


class OutputBlock(Block):
    """The last decoder block, at the size of the downsampled frame."""

    def __init__(self, key: str, channels: int, out: int) -> None:
        super().__init__()
        relu = tf.nn.relu
        self.conv0 = Conv2d(f"{key}.conv.0", channels + 3, out, 3, activation=relu)
        self.conv3 = Conv2d(f"{key}.conv.3", out, out, 3, activation=relu)

    def call(self, x: Tensor, picture: Tensor) -> Tensor:
        """Map (N, h/2, w/2, C) and the (N, h, w, 3) frame to (N, h, w, C')."""
        return self.conv3(
            self.conv0(tf.concat([_upsample_to(x, picture), picture], -1))
        )


class RecurrentDecoder(Block):
    """Four recurrent scales and an output block."""

    def __init__(self, features: tuple[int, ...], out: tuple[int, ...]) -> None:
        super().__init__()
        f1, f2, f3, f4 = features
        self.decode4 = BottleneckBlock("decoder.decode4", f4)
        self.decode3 = UpsamplingBlock("decoder.decode3", f4, f3, out[0])
        self.decode2 = UpsamplingBlock("decoder.decode2", out[0], f2, out[1])
        self.decode1 = UpsamplingBlock("decoder.decode1", out[1], f1, out[2])
        self.decode0 = OutputBlock("decoder.decode0", out[2], out[3])

    def call(
        self, picture: Tensor, features: list[Tensor], states: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Give hidden features (B, h, w, 16) and the new r1 to r4."""
        f1, f2, f3, f4 = features
        r1, r2, r3, r4 = states
        # Padding is at the end of an odd side, and not counted.
        s1 = tf.nn.avg_pool2d(picture, 2, 2, "SAME")
        s2 = tf.nn.avg_pool2d(s1, 2, 2, "SAME")
        s3 = tf.nn.avg_pool2d(s2, 2, 2, "SAME")
        x, r4 = self.decode4(f4, r4)
        x, r3 = self.decode3(x, f3, s3, r3)
        x, r2 = self.decode2(x, f2, s2, r2)
        x, r1 = self.decode1(x, f1, s1, r1)
        return self.decode0(x, picture), r1, r2, r3, r4


def _with_gray(picture: Tensor) -> Tensor:
    """Append the mean of RGB as a fourth channel."""
    return tf.concat([picture, tf.reduce_mean(picture, -1, keepdims=True)], -1)


class DeepGuidedFilter(Block):
    """A guided filter whose slopes are predicted by three 1x1 convolutions."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        key, relu = "refiner.conv", tf.nn.relu
        self.box_filter = Conv2d(
            "refiner.box_filter", 4, 4, 3, depthwise=True, bias=False
        )
        self.conv0 = Conv2d(f"{key}.0", 8 + hidden, 16, activation=relu)
        self.conv3 = Conv2d(f"{key}.3", 16, 16, activation=relu)
        self.conv6 = Conv2d(f"{key}.6", 16, 4)

    def call(
        self, picture: Tensor, coarse: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give slopes and intercepts at the downsampled size, (N, h, w, 4) each."""
        x = _with_gray(picture)
        mean_x = self.box_filter(x)
        mean_y = self.box_filter(coarse)
        cov = self.box_filter(x * coarse) - mean_x * mean_y
        var = self.box_filter(x * x) - mean_x * mean_x
        a = self.conv6(self.conv3(self.conv0(tf.concat([cov, var, hidden], -1))))
        return a, mean_y - a * mean_x


class FastGuidedFilter(Block):
    """A guided filter of radius 1 with nothing to train."""

    def __init__(self, hidden: int) -> None:
        super().__init__()

    def call(
        self, picture: Tensor, coarse: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give slopes and intercepts at the downsampled size, (N, h, w, 4) each."""
        x = _with_gray(picture)
        mean_x, mean_y = _box_mean(x), _box_mean(coarse)
        cov = _box_mean(x * coarse) - mean_x * mean_y
        var = _box_mean(x * x) - mean_x * mean_x
        a = cov / (var + 1e-5)
        return a, mean_y - a * mean_x


def _box_mean(x: Tensor) -> Tensor:
    return tf.nn.avg_pool2d(_pad(x, 1), 3, 1, "VALID")


def _shrink(frames: Tensor, ratio: Tensor) -> Tensor:
    """Sample frames at floor(side * ratio) places with the step 1 / ratio.

    In two gathers per side, since every runtime has those. Resizing to a size would
    take another step where side * ratio is no whole number.
    """
    # In a browser, WebGPU computes some things on the GPU, from where they are not back
    # in time to be a size: remainders and roundings to whole numbers. A quotient takes
    # its operands to the GPU for good, so it gets a ratio of its own.
    known = tf.get_static_value(ratio)
    ratio = tf.cast(ratio, tf.float32)
    step = 1.0 / (ratio + 0.0)
    for axis in (1, 2):
        size = tf.shape(frames)[axis]
        if known is not None and frames.shape[axis]:
            small = float(int(frames.shape[axis] * known))
        else:
            small = tf.floor(tf.cast(size, tf.float32) * ratio)
        at = (tf.range(small) + 0.5) * step - 0.5
        before = tf.cast(at, tf.int32)
        after = tf.minimum(before + 1, size - 1)
        weight = at - tf.cast(before, tf.float32)
        weight = tf.reshape(weight, [-1, 1, 1] if axis == 1 else [-1, 1])
        low = tf.gather(frames, before, axis=axis)
        high = tf.gather(frames, after, axis=axis)
        frames = low + weight * (high - low)
    return frames


@keras.saving.register_keras_serializable("rematte")
class MattingNetwork(keras.Model):
    """Turns frames of people into foreground and alpha, one after the other.

    Call it as `out = model([src, *rec, downsample_ratio])`; see the module.

    Args:
        variant: "mobilenetv3" or "resnet50".
        refiner: "deep_guided_filter" or "fast_guided_filter".
        **kwargs: Of `keras.Model`.

    Raises:
        ValueError: If `variant` or `refiner` is not one of the above.
    """

    def __init__(
        self,
        variant: str = "mobilenetv3",
        refiner: str = "deep_guided_filter",
        **kwargs: Any,
    ) -> None:
        # Keras would round a ratio in float64.
        super().__init__(autocast=False, **kwargs)
        if variant not in ("mobilenetv3", "resnet50"):
            raise ValueError(
                f"variant must be mobilenetv3 or resnet50, got {variant!r}"
            )
        if refiner not in ("deep_guided_filter", "fast_guided_filter"):
            raise ValueError(
                "refiner must be deep_guided_filter or fast_guided_filter, got "
                f"{refiner!r}"
            )
        self.variant, self.kind = variant, refiner
        mobile = variant == "mobilenetv3"
        self.backbone = MobileNetV3Encoder() if mobile else ResNet50Encoder()
        f1, f2, f3, f4 = self.backbone.channels
        reduced = 128 if mobile else 256
        self.aspp = LRASPP(f4, reduced)
        self.decoder = RecurrentDecoder(
            (f1, f2, f3, reduced), (80, 40, 32, 16) if mobile else (128, 64, 32, 16)
        )
        self.project_mat = Conv2d("project_mat.conv", 16, 4)
        deep = refiner == "deep_guided_filter"
        self.refiner = DeepGuidedFilter(16) if deep else FastGuidedFilter(16)
        self.built = True

    def call(self, inputs: list[Tensor]) -> dict[str, Tensor]:
        """Matte one frame per clip.

        Args:
            inputs: src, (B, H, W, 3), RGB in [0, 1]; the states r1 to r4 of the call
                before, or scalar zeros; and downsample_ratio, a scalar in (0, 1], the
                size of the coarse pass. At 1 the guided filter is not used. In
                float32, where side * ratio is near a whole number, like 720 * 0.7, the
                coarse pass may have another row than in PyTorch; in float64 it has not.

        Returns:
            "fgr", (B, H, W, 3), and "pha", (B, H, W, 1), in [0, 1], and the states
            "r1o", "r2o", "r3o", "r4o".

        Raises:
            ValueError: If src is no such tensor, the ratio is out of range, or a state
                belongs to another size, ratio or batch.
        """
        src, *states, ratio = inputs
        _check(src, ratio)
        known = tf.get_static_value(ratio)
        picture = src if known == 1 else _shrink(src, ratio)
        f1, f2, f3, f4 = self.backbone(picture)
        hidden, r1, r2, r3, r4 = self.decoder(
            picture, [f1, f2, f3, self.aspp(f4)], states
        )
        out = self.project_mat(hidden)
        if known != 1:
            a, b = self.refiner(picture, out, hidden)
            # A choice and no branch, which browsers run badly: at ratio 1 the sizes
            # are equal, and 0 * x + out is what is wanted.
            whole = tf.equal(ratio, 1.0)
            a = tf.where(whole, 0.0, a)
            b = tf.where(whole, out, b)
            size = tf.shape(src)[1:3]
            out = _resize(a, size) * _with_gray(src) + _resize(b, size)
        fgr = tf.clip_by_value(src + out[..., :3], 0.0, 1.0)
        pha = tf.clip_by_value(out[..., 3:], 0.0, 1.0)
        return dict(zip(OUTPUTS, (fgr, pha, r1, r2, r3, r4), strict=True))

    def get_config(self) -> dict[str, Any]:
        """Say what `keras.models.load_model` needs to make it again."""
        return {"variant": self.variant, "refiner": self.kind}

    def load_torch_weights(self, state: Mapping[str, Any]) -> None:
        """Take the weights of a PyTorch checkpoint of the same network.

        Args:
            state: The state dict: arrays or CPU tensors.

        Raises:
            ValueError: If it belongs to another network.
        """
        given = _folded({key: np.asarray(value) for key, value in state.items()})
        wanted = {variable.path: variable for variable in self.variables}
        if given.keys() != wanted.keys():
            missing = sorted(wanted.keys() - given.keys())
            more = sorted(given.keys() - wanted.keys())
            raise ValueError(
                f"these weights are not of a {self.variant} with a {self.kind}: "
                f"{len(missing)} are missing {missing[:3]}, {len(more)} have no place "
                f"{more[:3]}; choose the variant and refiner they were made for"
            )
        for path, variable in wanted.items():
            variable.assign(given[path])


def _check(src: Tensor, ratio: Tensor) -> None:
    if src.shape.rank != 4 or src.shape[-1] != 3:
        raise ValueError(
            f"src must be (B, H, W, 3), channels last, got {src.shape}; a single "
            "frame (H, W, 3) needs src[None]"
        )
    if not src.dtype.is_floating:
        raise ValueError(
            f"src must be floating point in [0, 1], got {src.dtype.name}; divide "
            "8-bit frames by 255"
        )
    known = tf.get_static_value(ratio)
    if known is not None and not 0 < known <= 1:
        raise ValueError(f"downsample_ratio must be in (0, 1], got {known}")


def _folded(state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Kernels and biases of convolutions, with the batch norms that follow folded in.

    A batch norm is named after its convolution: X.1 follows X.0, and bn1 conv1.
    """
    folded = {}
    for key, value in state.items():
        if value.ndim != 4 or key.startswith("project_seg."):
            continue
        path = key.removesuffix(".weight")
        stem, _, last = path.rpartition(".")
        after = str(int(last) + 1) if last.isdigit() else last.replace("conv", "bn")
        norm = f"{stem}.{after}"
        kernel, bias = value.astype(np.float64), state.get(f"{path}.bias")
        if f"{norm}.running_var" in state:
            gamma, beta, mean, variance = (
                state[f"{norm}.{part}"].astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            eps = 1e-3 if path.startswith("backbone.features.") else 1e-5
            scale = gamma / np.sqrt(variance + eps)
            kernel = kernel * scale[:, None, None, None]
            bias = beta - mean * scale
        # One channel in: a filter for each channel by itself.
        order = (2, 3, 0, 1) if value.shape[1] == 1 else (2, 3, 1, 0)
        folded[f"{path}/kernel"] = kernel.transpose(order).astype(np.float32)
        if bias is not None:
            folded[f"{path}/bias"] = bias.astype(np.float32)
    return folded
