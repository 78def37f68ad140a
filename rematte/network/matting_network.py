"""The recurrent matting network: one definition for eager, training and every export.

It consists of an encoder, LR-ASPP, a recurrent decoder and a guided filter. Time is
folded into the batch everywhere except inside `ConvGRU`. This module knows no files,
devices or flags.

Source:
    Lin, Yang, Saleemi, Sengupta, Robust High-Resolution Video Matting with Temporal
    Guidance, 2021 (arXiv 2108.11515).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rematte.network.encoders import MobileNetV3Encoder, ResNet50Encoder, load_imagenet
from rematte.network.guided_filter import (
    DeepGuidedFilter,
    FastGuidedFilter,
    refine,
    shrink,
)

REFINERS = ("deep_guided_filter", "fast_guided_filter")


class Widths(NamedTuple):
    """Channels of a variant's decoder."""

    reduced: int  # LR-ASPP reduces the encoder's deepest features to these
    # Channels of the blocks' results at 1/8, 1/4, 1/2 and full size.
    out: tuple[int, int, int, int]
    states: tuple[int, int, int]  # how many of these are recurrent, for r3, r2 and r1
    # Maps of half the size that are shuffled into a quarter as many of full size for
    # the last block; 0 upsamples the previous block's maps instead.
    shuffled: int = 0


WIDTHS = {
    "mobilenetv3": Widths(128, (80, 40, 32, 16), (40, 20, 16)),
    "mobilenetv3_fast": Widths(128, (48, 24, 16, 16), (24, 8, 4), 16),
    "resnet50": Widths(256, (128, 64, 32, 16), (64, 32, 16)),
}
VARIANTS = tuple(WIDTHS)


class Matte(NamedTuple):
    """The network's result for a frame or a chunk; it unpacks in this order.

    Attributes:
        fgr: Foreground, straight RGB in [0, 1], in the shape of `src`.
        pha: Alpha in [0, 1], in the shape of `src` with one channel.
        r1: Recurrent state at 1/2 of the downsampled frame, (B, C1, H/2, W/2).
        r2: Recurrent state at 1/4.
        r3: Recurrent state at 1/8.
        r4: Recurrent state at 1/16.
    """

    fgr: Tensor
    pha: Tensor
    r1: Tensor
    r2: Tensor
    r3: Tensor
    r4: Tensor


class Segmentation(NamedTuple):
    """The result of the segmentation pass; it unpacks in this order.

    `seg` holds the logits of "person" at the downsampled size, one channel; the
    recurrent states are those of `Matte`.
    """

    seg: Tensor
    r1: Tensor
    r2: Tensor
    r3: Tensor
    r4: Tensor


class LRASPP(nn.Module):
    """Reduces the deepest features, gated by a global summary of the picture.

    Source:
        Howard et al., Searching for MobileNetV3, 2019, section 6.4.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.aspp1 = nn.Sequential(
            nn.Conv2d(channels, out, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )
        self.aspp2 = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, out, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, C', h, w)."""
        y: Tensor = self.aspp1(x) * self.aspp2(x)
        return y


class ConvGRU(nn.Module):
    """A convolutional gated recurrent unit, run over the frames of a chunk.

    Source:
        Ballas et al., Delving Deeper into Convolutional Networks for Learning Video
        Representations, 2016.
    """

    def __init__(self, channels: int, name: str) -> None:
        super().__init__()
        self.channels = channels
        self.name = name
        self.ih = nn.Sequential(
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1), nn.Sigmoid()
        )
        self.hh = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1), nn.Tanh()
        )

    def start(self, x: Tensor, state: Tensor | None) -> Tensor:
        """Return the initial state in the full shape of `x`, one frame per clip.

        It is given as None, as a tensor with one element, which is broadcast, or as the
        state of a previous call, which must have `x`'s shape, (B, C, H, W).
        """
        if state is None:
            return torch.zeros_like(x)
        if state.numel() == 1:
            return state.reshape(1, 1, 1, 1).expand_as(x)
        if state.shape != x.shape:
            raise ValueError(
                f"recurrent state {self.name} is {list(state.shape)}, but this src "
                f"and downsample_ratio need {list(x.shape)}; states cannot be carried "
                "over to another resolution, ratio or batch size: start again with "
                "None for all four"
            )
        return state

    def forward(
        self, x: Tensor, state: Tensor | None, time: int
    ) -> tuple[Tensor, Tensor]:
        """Run over a chunk (B*T, C, H, W); `time` is T, for `state` see `start`.

        Returns:
            The states of all frames, (B*T, C, H, W), and the last one, (B, C, H, W).
        """
        frames = x.unflatten(0, [-1, time]).unbind(1)
        h = self.start(frames[0], state)
        states: list[Tensor] = []
        for frame in frames:
            reset, update = self.ih(torch.cat([frame, h], 1)).chunk(2, 1)
            candidate = self.hh(torch.cat([frame, reset * h], 1))
            h = (1 - update) * h + update * candidate
            states.append(h)
        return torch.stack(states, 1).flatten(0, 1), h


def _conv_norm_relu(channels: int, out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    ]


def _upsample_to(x: Tensor, like: Tensor) -> Tensor:
    """Double (N, C, h, w) and crop bottom and right to the size of `like`."""
    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return _crop_to(x, like)


def _crop_to(x: Tensor, like: Tensor) -> Tensor:
    """Crop (N, C, h, w) bottom and right to the size of `like`."""
    # Not a slice: its strides would tie `torch.export` to sizes that need no crop.
    bottom, right = like.shape[2] - x.shape[2], like.shape[3] - x.shape[3]
    return F.pad(x, [0, right, 0, bottom])


class BottleneckBlock(nn.Module):
    """The deepest decoder block: recurrence on half of the channels."""

    def __init__(self, channels: int, name: str) -> None:
        super().__init__()
        self.gru = ConvGRU(channels // 2, name)

    def forward(
        self, x: Tensor, state: Tensor | None, time: int
    ) -> tuple[Tensor, Tensor]:
        """Map (B*T, C, h, w) to the same shape, and give the last state."""
        a, b = x.chunk(2, 1)
        b, state = self.gru(b, state, time)
        return torch.cat([a, b], 1), state


class UpsamplingBlock(nn.Module):
    """A decoder block: upsample, merge with encoder and picture, recurrence."""

    def __init__(
        self, channels: int, skip: int, out: int, state: int, name: str
    ) -> None:
        super().__init__()
        self.conv = nn.Sequential(*_conv_norm_relu(channels + skip + 3, out))
        self.gru = ConvGRU(state, name)

    def forward(
        self, x: Tensor, skip: Tensor, picture: Tensor, state: Tensor | None, time: int
    ) -> tuple[Tensor, Tensor]:
        """Decode one scale.

        `x` comes from the block below, (B*T, C, h/2, w/2); `skip` are encoder features
        and `picture` the frame at this scale, (B*T, ..., h, w). For `state` see
        `ConvGRU.start`; `time` is T.

        Returns:
            (B*T, C', h, w) and the last state, (B, C'', h, w).
        """
        x = self.conv(torch.cat([_upsample_to(x, picture), skip, picture], 1))
        kept = self.gru.channels
        a, b = x.split([x.shape[1] - kept, kept], 1)
        b, state = self.gru(b, state, time)
        return torch.cat([a, b], 1), state


class OutputBlock(nn.Module):
    """The last decoder block, at the size of the downsampled frame."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *_conv_norm_relu(channels + 3, out), *_conv_norm_relu(out, out)
        )

    def forward(self, x: Tensor, picture: Tensor) -> Tensor:
        """Map (N, C, h/2, w/2) and the (N, 3, h, w) frame to (N, C', h, w)."""
        y: Tensor = self.conv(torch.cat([_upsample_to(x, picture), picture], 1))
        return y


class ShuffleBlock(nn.Module):
    """A cheaper last block: most of its work is at half the size of the frame.

    Source:
        Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient
        Sub-Pixel Convolutional Neural Network, 2016.
    """

    def __init__(self, channels: int, shuffled: int, out: int) -> None:
        super().__init__()
        self.low = nn.Sequential(*_conv_norm_relu(channels, shuffled))
        self.conv = nn.Sequential(*_conv_norm_relu(shuffled // 4 + 3, out))

    def forward(self, x: Tensor, picture: Tensor) -> Tensor:
        """Map (N, C, h/2, w/2) and the (N, 3, h, w) frame to (N, C', h, w)."""
        x = _crop_to(F.pixel_shuffle(self.low(x), 2), picture)
        y: Tensor = self.conv(torch.cat([x, picture], 1))
        return y


class RecurrentDecoder(nn.Module):
    """Four recurrent scales and an output block."""

    def __init__(self, features: tuple[int, int, int], widths: Widths) -> None:
        super().__init__()
        (f1, f2, f3), deepest, out = features, widths.reduced, widths.out
        r3, r2, r1 = widths.states
        self.decode4 = BottleneckBlock(deepest, "r4")
        self.decode3 = UpsamplingBlock(deepest, f3, out[0], r3, "r3")
        self.decode2 = UpsamplingBlock(out[0], f2, out[1], r2, "r2")
        self.decode1 = UpsamplingBlock(out[1], f1, out[2], r1, "r1")
        self.decode0: nn.Module = OutputBlock(out[2], out[3])
        if widths.shuffled:
            self.decode0 = ShuffleBlock(out[2], widths.shuffled, out[3])
        self.shrink = nn.AvgPool2d(2, 2, count_include_pad=False, ceil_mode=True)

    def forward(
        self,
        picture: Tensor,
        features: tuple[Tensor, Tensor, Tensor, Tensor],
        states: tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None],
        time: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Decode.

        Args:
            picture: The downsampled frames, (B*T, 3, h, w) in [0, 1].
            features: The encoder's maps at 1/2, 1/4, 1/8, 1/16 (the last reduced).
            states: r1 to r4; see `ConvGRU.start`.
            time: T, the frames per clip.

        Returns:
            Hidden features (B*T, 16, h, w) and the last frame's r1 to r4.
        """
        x, r4 = self.decode4(features[3], states[3], time)
        hidden, r1, r2, r3 = self.rest(picture, features[:3], x, states[:3], time)
        return hidden, r1, r2, r3, r4

    def rest(
        self,
        picture: Tensor,
        features: tuple[Tensor, Tensor, Tensor],
        x: Tensor,
        states: tuple[Tensor | None, Tensor | None, Tensor | None],
        time: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decode what the deepest block gave; arguments as in `forward`."""
        s1 = self.shrink(picture)
        s2 = self.shrink(s1)
        s3 = self.shrink(s2)
        x, r3 = self.decode3(x, features[2], s3, states[2], time)
        x, r2 = self.decode2(x, features[1], s2, states[1], time)
        x, r1 = self.decode1(x, features[0], s1, states[0], time)
        return self.decode0(x, picture), r1, r2, r3


class Projection(nn.Module):
    """A 1x1 convolution from hidden features to output channels."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, out, h, w)."""
        y: Tensor = self.conv(x)
        return y


class MattingNetwork(nn.Module):
    """Turns frames of people into foreground and alpha, one after the other.

    Call it as `fgr, pha, *rec = model(src, *rec, downsample_ratio)`, starting with
    `rec = [None] * 4`, and pass the states on from frame to frame.

    Args:
        variant: "mobilenetv3" (3.7 M parameters), "mobilenetv3_fast" (the same encoder
            and a cheaper decoder) or "resnet50" (26.9 M).
        refiner: "deep_guided_filter" or "fast_guided_filter".
        pretrained_backbone: Start the encoder from ImageNet weights, fetched on
            first use; for training.

    Raises:
        ValueError: If `variant` or `refiner` is not one of the above.
    """

    def __init__(
        self,
        variant: str = "mobilenetv3",
        refiner: str = "deep_guided_filter",
        pretrained_backbone: bool = False,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            names = ", ".join(VARIANTS)
            raise ValueError(f"variant must be one of {names}, got {variant!r}")
        if refiner not in REFINERS:
            names = ", ".join(REFINERS)
            raise ValueError(f"refiner must be one of {names}, got {refiner!r}")
        widths = WIDTHS[variant]
        mobile = variant != "resnet50"
        self.backbone = MobileNetV3Encoder() if mobile else ResNet50Encoder()
        f1, f2, f3, f4 = self.backbone.channels
        self.aspp = LRASPP(f4, widths.reduced)
        self.decoder = RecurrentDecoder((f1, f2, f3), widths)
        hidden = widths.out[3]
        self.project_mat = Projection(hidden, 4)
        self.project_seg = Projection(hidden, 1)
        deep = refiner == "deep_guided_filter"
        self.refiner = DeepGuidedFilter(hidden) if deep else FastGuidedFilter(hidden)
        if pretrained_backbone:
            load_imagenet(self.backbone)

    def forward(
        self,
        src: Tensor,
        r1: Tensor | None = None,
        r2: Tensor | None = None,
        r3: Tensor | None = None,
        r4: Tensor | None = None,
        downsample_ratio: float = 1.0,
        segmentation_pass: bool = False,
    ) -> Matte | Segmentation:
        """Matte a frame per clip, or a chunk of T frames per clip at once.

        Args:
            src: (B, 3, H, W) or (B, T, 3, H, W), RGB in [0, 1].
            r1: State from the previous call, or None (or zeros of shape (1, 1, 1, 1))
                for the first; likewise `r2`, `r3`, `r4`. A number given here is
                taken as `downsample_ratio`, so that `model(src, 0.25)` mattes a
                single picture.
            r2: See `r1`.
            r3: See `r1`.
            r4: See `r1`.
            downsample_ratio: Size of the coarse pass, in (0, 2]. At 1 the guided
                filter is not used. Above 1 frames are enlarged, for small people.
            segmentation_pass: Give person logits at the downsampled size instead.

        Returns:
            A `Matte` of `src`'s rank, or a `Segmentation`. The states are the last
            frame's.

        Raises:
            ValueError: If `src` has another shape or type, the ratio leaves no pixel,
                or a state belongs to another size, ratio or batch.
        """
        if isinstance(r1, float):
            r1, downsample_ratio = None, r1
        check_source(src, downsample_ratio)
        time = src.shape[1] if src.dim() == 5 else 1
        frames = src.flatten(0, -4)
        picture = shrink(frames, downsample_ratio)
        f1, f2, f3, f4 = self.backbone(picture)
        hidden, r1, r2, r3, r4 = self.decoder(
            picture, (f1, f2, f3, self.aspp(f4)), (r1, r2, r3, r4), time
        )
        lead = src.shape[:-3]
        if segmentation_pass:
            seg = self.project_seg(hidden).unflatten(0, lead)
            return Segmentation(seg, r1, r2, r3, r4)
        out = self.project_mat(hidden)
        if downsample_ratio != 1:
            a, b = self.refiner(picture, out, hidden)
            out = refine(frames, a, b)
        fgr = (frames + out[:, :3]).clamp_(0, 1).unflatten(0, lead)
        pha = out[:, 3:].clamp(0, 1).unflatten(0, lead)
        return Matte(fgr, pha, r1, r2, r3, r4)


def check_source(src: Tensor, downsample_ratio: float) -> None:
    """Raise the errors of `MattingNetwork.forward` that are due to the frame."""
    if src.dim() not in (4, 5) or src.shape[-3] != 3:
        raise ValueError(
            "src must be (B, 3, H, W) or (B, T, 3, H, W), got "
            f"{list(src.shape)}; a single frame (3, H, W) needs src[None]"
        )
    if not src.is_floating_point():
        raise ValueError(
            f"src must be floating point in [0, 1], got {src.dtype}; "
            "divide 8-bit frames by 255"
        )
    if not 0 < downsample_ratio <= 2:
        raise ValueError(
            f"downsample_ratio must be in (0, 2], got {downsample_ratio}; "
            "1 uses the frame as it is"
        )
    height, width = src.shape[-2], src.shape[-1]
    if height * downsample_ratio < 1 or width * downsample_ratio < 1:
        raise ValueError(
            f"downsample_ratio {downsample_ratio} leaves nothing of a frame of "
            f"{width}x{height}; use a larger ratio, at most 1"
        )
