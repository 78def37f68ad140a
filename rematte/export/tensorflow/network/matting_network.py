"""The recurrent decoder, the guided filter and the whole network in TensorFlow."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from .encoders import (
    Block,
    Conv2d,
    MobileNetV3Encoder,
    ResNet50Encoder,
    Tensor,
    mean_of_picture,
    pad,
)

# Channels by variant: LR-ASPP's; the blocks' at 1/8, 1/4, 1/2 and the whole size; those
# of them that are recurrent; and those shuffled into a quarter as many, or 0.
_WIDTHS = {
    "mobilenetv3": (128, (80, 40, 32, 16), (40, 20, 16), 0),
    "mobilenetv3_fast": (128, (48, 24, 16, 16), (24, 8, 4), 16),
    "resnet50": (256, (128, 64, 32, 16), (64, 32, 16), 0),
}
INPUTS = ("src", "r1i", "r2i", "r3i", "r4i", "downsample_ratio")
OUTPUTS = ("fgr", "pha", "r1o", "r2o", "r3o", "r4o")


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
        return self.aspp1(x) * self.aspp2(mean_of_picture(x))


class ConvGRU(Block):
    """A convolutional gated recurrent unit, run over one frame."""

    def __init__(self, key: str, channels: int) -> None:
        super().__init__()
        double = 2 * channels
        self.ih = Conv2d(f"{key}.ih.0", double, double, 3, activation=tf.sigmoid)
        self.hh = Conv2d(f"{key}.hh.0", double, channels, 3, activation=tf.tanh)

    def call(self, x: Tensor, state: Tensor) -> Tensor:
        """Return the next state, (B, H, W, C) like `x`; a scalar state is broadcast."""
        h = _start(x, state)
        reset, update = tf.split(self.ih(tf.concat([x, h], -1)), 2, -1)
        candidate = self.hh(tf.concat([x, reset * h], -1))
        return (1.0 - update) * h + update * candidate


def _start(x: Tensor, state: Tensor) -> Tensor:
    number = state.shape.num_elements() in (None, 1)  # None: unknown while tracing
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
        """Map (B, h, w, C) to the same shape, and return the state."""
        a, b = tf.split(x, 2, -1)
        b = self.gru(b, state)
        return tf.concat([a, b], -1), b


class UpsamplingBlock(Block):
    """A decoder block: upsample, merge with encoder and picture, recurrence."""

    def __init__(
        self, key: str, channels: int, skip: int, out: int, state: int
    ) -> None:
        super().__init__()
        self.conv = Conv2d(
            f"{key}.conv.0", channels + skip + 3, out, 3, activation=tf.nn.relu
        )
        self.gru = ConvGRU(f"{key}.gru", state)
        self.parts = [out - state, state]

    def call(
        self, x: Tensor, skip: Tensor, picture: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode one scale; return (B, h, w, C') and the state."""
        x = self.conv(tf.concat([_upsample_to(x, picture), skip, picture], -1))
        a, b = tf.split(x, self.parts, -1)
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


class ShuffleBlock(Block):
    """A cheaper last block: most of its work is at half the size of the frame."""

    def __init__(self, key: str, channels: int, shuffled: int, out: int) -> None:
        super().__init__()
        relu = tf.nn.relu
        self.low = Conv2d(f"{key}.low.0", channels, shuffled, 3, activation=relu)
        self.conv = Conv2d(f"{key}.conv.0", shuffled // 4 + 3, out, 3, activation=relu)
        # TensorFlow's order of channels has the place in the square first.
        self.order = np.arange(shuffled).reshape(-1, 4).T.ravel()

    def call(self, x: Tensor, picture: Tensor) -> Tensor:
        """Map (N, h/2, w/2, C) and the (N, h, w, 3) frame to (N, h, w, C')."""
        x = tf.nn.depth_to_space(tf.gather(self.low(x), self.order, axis=-1), 2)
        height, width = tf.unstack(tf.shape(picture)[1:3])
        return self.conv(tf.concat([x[:, :height, :width], picture], -1))


class RecurrentDecoder(Block):
    """Four recurrent scales and an output block."""

    def __init__(self, features: tuple[int, ...], variant: str) -> None:
        super().__init__()
        f1, f2, f3 = features
        f4, out, (r3, r2, r1), shuffled = _WIDTHS[variant]
        self.decode4 = BottleneckBlock("decoder.decode4", f4)
        self.decode3 = UpsamplingBlock("decoder.decode3", f4, f3, out[0], r3)
        self.decode2 = UpsamplingBlock("decoder.decode2", out[0], f2, out[1], r2)
        self.decode1 = UpsamplingBlock("decoder.decode1", out[1], f1, out[2], r1)
        last = "decoder.decode0", out[2]
        self.decode0 = (
            ShuffleBlock(*last, shuffled, out[3])
            if shuffled
            else OutputBlock(*last, out[3])
        )

    def call(
        self, picture: Tensor, features: list[Tensor], states: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Return hidden features (B, h, w, 16) and the new r1 to r4."""
        f1, f2, f3, f4 = features
        r1, r2, r3, r4 = states
        # "SAME" pads the end of an odd side, and does not count the padding.
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


class GuidedFilter(Block):
    """Fits the local linear model of a guided filter at the downsampled size."""

    def call(
        self, picture: Tensor, coarse: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return slopes and intercepts, (N, h, w, 4) each."""
        x = _with_gray(picture)
        mean_x = self.box_filter(x)
        mean_y = self.box_filter(coarse)
        cov = self.box_filter(x * coarse) - mean_x * mean_y
        var = self.box_filter(x * x) - mean_x * mean_x
        a = self.slopes(cov, var, hidden)
        return a, mean_y - a * mean_x


class DeepGuidedFilter(GuidedFilter):
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

    def slopes(self, cov: Tensor, var: Tensor, hidden: Tensor) -> Tensor:
        """Predict slopes from covariances and variances, (N, h, w, 4) all."""
        return self.conv6(self.conv3(self.conv0(tf.concat([cov, var, hidden], -1))))


class FastGuidedFilter(GuidedFilter):
    """A guided filter of radius 1 with nothing to train."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.box_filter = lambda x: tf.nn.avg_pool2d(pad(x, 1), 3, 1, "VALID")

    def slopes(self, cov: Tensor, var: Tensor, hidden: Tensor) -> Tensor:
        """Compute the slopes."""
        return cov / (var + 1e-5)


def shrink(frames: Tensor, ratio: Tensor) -> Tensor:
    """Sample frames at floor(side * ratio) positions with the step 1 / ratio.

    In two gathers per side, which every runtime supports. A resize to a size would use
    another step where side * ratio is no whole number.
    """
    # In a browser, WebGPU computes remainders and roundings on the GPU, and a size must
    # be known on the CPU. A division moves its operands to the GPU, so it gets a copy
    # of the ratio.
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
    """Maps frames of people to foreground and alpha, one after the other.

    Call it as `out = model([src, *rec, downsample_ratio])`, starting with scalar zeros
    as `rec`.

    Args:
        variant: "mobilenetv3", "mobilenetv3_fast" or "resnet50".
        refiner: "deep_guided_filter" or "fast_guided_filter".
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If `variant` or `refiner` is not one of the above.
    """

    def __init__(
        self,
        variant: str = "mobilenetv3",
        refiner: str = "deep_guided_filter",
        **kwargs: Any,
    ) -> None:
        # With autocast, Keras would round a ratio in float64.
        super().__init__(autocast=False, **kwargs)
        if variant not in _WIDTHS:
            raise ValueError(
                f"variant must be one of {', '.join(_WIDTHS)}, got {variant!r}"
            )
        if refiner not in ("deep_guided_filter", "fast_guided_filter"):
            raise ValueError(
                "refiner must be deep_guided_filter or fast_guided_filter, got "
                f"{refiner!r}"
            )
        self.variant, self.kind = variant, refiner
        mobile = variant != "resnet50"
        self.backbone = MobileNetV3Encoder() if mobile else ResNet50Encoder()
        f1, f2, f3, f4 = self.backbone.channels
        self.aspp = LRASPP(f4, _WIDTHS[variant][0])
        self.decoder = RecurrentDecoder((f1, f2, f3), variant)
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
        picture = src if known == 1 else shrink(src, ratio)
        f1, f2, f3, f4 = self.backbone(picture)
        hidden, r1, r2, r3, r4 = self.decoder(
            picture, [f1, f2, f3, self.aspp(f4)], states
        )
        out = self.project_mat(hidden)
        if known != 1:
            a, b = self.refiner(picture, out, hidden)
            # Not a branch, which browsers run badly: at ratio 1 the sizes are equal,
            # and 0 * x + out is the result.
            whole = tf.equal(ratio, 1.0)
            a = tf.where(whole, 0.0, a)
            b = tf.where(whole, out, b)
            size = tf.shape(src)[1:3]
            out = _resize(a, size) * _with_gray(src) + _resize(b, size)
        fgr = tf.clip_by_value(src + out[..., :3], 0.0, 1.0)
        pha = tf.clip_by_value(out[..., 3:], 0.0, 1.0)
        return dict(zip(OUTPUTS, (fgr, pha, r1, r2, r3, r4), strict=True))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments with which `keras.models.load_model` makes the model."""
        return {"variant": self.variant, "refiner": self.kind}

    def load_torch_weights(self, state: Mapping[str, Any]) -> None:
        """Load the state dict of the same network in PyTorch: arrays or CPU tensors."""
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
    """Return kernels and biases of convolutions, with batch norms folded in.

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
        # One input channel means a depthwise filter.
        order = (2, 3, 0, 1) if value.shape[1] == 1 else (2, 3, 1, 0)
        folded[f"{path}/kernel"] = kernel.transpose(order).astype(np.float32)
        if bias is not None:
            folded[f"{path}/bias"] = bias.astype(np.float32)
    return folded
