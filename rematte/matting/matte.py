"""A frame with its matte, the pixels that are made of it, and conversions of pixels."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rematte.engines.device import download, upload
from rematte.engines.kernels.guided_filter import Floats, Kind, render
from rematte.network.guided_filter import refine
from rematte.video.frame import Frame, Pixels


def to_tensor(pixels: Pixels, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """Turn (..., H, W, C) 8- or 16-bit pixels into (..., C, H, W) in [0, 1]."""
    tensor = upload(torch.from_numpy(pixels), device).movedim(-1, -3)
    return tensor.to(dtype).div_(np.iinfo(pixels.dtype).max)


def to_pixels(image: Tensor, wide: bool) -> Pixels:
    """Turn (C, H, W) in [0, 1] into (H, W, C) with 8 or 16 bits, rounded."""
    most = 65535 if wide else 255
    # 16 bits need more than half precision has.
    image = image.float() if wide else image
    codes = image.clamp(0, 1).mul_(most).round_().movedim(0, -1)
    codes = codes.to(torch.int32 if wide else torch.uint8)
    array: Pixels = download(codes).numpy()
    return array.astype(np.uint16) if wide else array


def composite(fgr: Tensor, pha: Tensor, background: Tensor) -> Tensor:
    """Lay a foreground over a background: alpha * F + (1 - alpha) * B.

    Args:
        fgr: (..., 3, H, W), straight RGB in [0, 1].
        pha: (..., 1, H, W) in [0, 1].
        background: Anything that broadcasts to `fgr`.

    Returns:
        (..., 3, H, W) in [0, 1], display-encoded as the inputs are.

    Source:
        Porter & Duff, Compositing Digital Images, 1984, operator "over".
    """
    return torch.lerp(background.to(fgr.dtype).expand_as(fgr), fgr, pha)


def own_alpha(frame: Frame, like: Tensor) -> Tensor | None:
    """Give the source's own alpha channel, (1, H, W) in [0, 1], if it has one.

    Args:
        frame: A frame as it was read.
        like: A tensor with the wanted device and precision.
    """
    if frame.alpha is None:
        return None
    return to_tensor(frame.alpha, like.device, like.dtype)


def hide(pixels: Pixels) -> Pixels:
    """Set RGB to 0 where alpha is 0: the room stays private and files stay small."""
    pixels[..., :3] *= pixels[..., 3:] > 0
    return pixels


class Plate:
    """A background picture, as a tensor and as pixels.

    Args:
        image: (3, H, W) or (3, 1, 1) in [0, 1].
    """

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self._pixels: dict[bool, Pixels] = {}

    def pixels(self, wide: bool) -> Pixels:
        """Give the picture with 8 or 16 bits; each is made once."""
        if wide not in self._pixels:
            self._pixels[wide] = to_pixels(self.image, wide)
        return self._pixels[wide]


class Matted:
    """A frame with its matte.

    An engine that runs the whole network gives foreground and alpha at full size. The
    CPU engines give the small maps of the guided filter, and `pixels` applies them row
    by row, so that nothing of full size is held in floats; the tensors below are made
    only where they are asked for.

    Args:
        frame: The frame as it was read.
        src: The frame, (3, H, W) in [0, 1].
        fgr: Foreground, straight RGB, (3, H, W) in [0, 1].
        pha: Alpha, (1, H, W) in [0, 1], multiplied by the source's own.

    Attributes:
        frame: The frame as it was read.
        like: An empty tensor with the frame's height, width, device and precision.
    """

    def __init__(self, frame: Frame, src: Tensor, fgr: Tensor, pha: Tensor) -> None:
        self.frame, self.like = frame, src[:0]
        self._maps: Floats | None = None
        self.src, self.fgr, self.pha = src, fgr, pha

    @classmethod
    def from_network(
        cls, frame: Frame, src: Tensor, fgr: Tensor, pha: Tensor
    ) -> "Matted":
        """Make one of what a network gives, multiplied by the source's own alpha."""
        own = own_alpha(frame, pha)
        if own is not None:
            fgr, pha = fgr * (own > 0), pha * own
        return cls(frame, src, fgr, pha)

    @classmethod
    def from_maps(cls, frame: Frame, maps: Floats) -> "Matted":
        """Make one of the small maps of a frame.

        Args:
            frame: The frame as it was read.
            maps: Slopes and intercepts of the guided filter, (8, h, w); or foreground
                residual and alpha, (4, H, W).
        """
        matted = cls.__new__(cls)
        matted.frame, matted._maps = frame, maps
        matted.like = torch.empty(0, *frame.pixels.shape[:2])
        return matted

    @cached_property
    def src(self) -> Tensor:
        """The frame, (3, H, W) in [0, 1]."""
        return to_tensor(self.frame.pixels, "cpu", torch.float32)

    @cached_property
    def _fine(self) -> Tensor:
        """Foreground residual and alpha, (4, H, W), neither clamped."""
        maps = torch.from_numpy(self._maps)
        if len(maps) == 4:
            return maps
        return refine(self.src[None], maps[None, :4], maps[None, 4:])[0]

    @cached_property
    def fgr(self) -> Tensor:
        """Foreground, straight RGB, (3, H, W) in [0, 1]."""
        fgr = (self.src + self._fine[:3]).clamp_(0, 1)
        own = own_alpha(self.frame, fgr)
        return fgr if own is None else fgr * (own > 0)

    @cached_property
    def pha(self) -> Tensor:
        """Alpha, (1, H, W) in [0, 1], multiplied by the source's own."""
        pha = self._fine[3:].clamp(0, 1)
        own = own_alpha(self.frame, pha)
        return pha if own is None else pha * own

    def pixels(self, kind: Kind, wide: bool, plate: Plate | None = None) -> Pixels:
        """Make the pixels of one kind of output.

        Args:
            kind: "alpha", "foreground" (straight RGB), "composite" (over `plate`), or
                "cutout" (straight RGBA, with RGB 0 where alpha is 0).
            wide: Whether the result has 16 bits.
            plate: The background of a composite.

        Returns:
            (H, W, C) with 1, 3, 3 or 4 channels.
        """
        if self._maps is not None:
            behind = None if plate is None else plate.pixels(wide)
            own = self.frame.alpha
            return render(self.frame.pixels, self._maps, kind, wide, behind, own)
        if kind == "alpha":
            return to_pixels(self.pha, wide)
        if kind == "foreground":
            return to_pixels(self.fgr, wide)
        if plate is not None:
            return to_pixels(composite(self.fgr, self.pha, plate.image), wide)
        return hide(to_pixels(torch.cat([self.fgr, self.pha]), wide))
