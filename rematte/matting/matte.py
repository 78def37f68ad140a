"""A frame with its matte, the pixels that are made of it, and conversions of pixels."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rematte.engines.device import download, upload
from rematte.engines.kernels.guided_filter import Floats, Kind, render
from rematte.matting.region import Region, Window, cut
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

    def cut(self, window: Window, size: tuple[int, int], wide: bool) -> "Plate":
        """Give the part of the picture that lies behind a window."""
        if self.image.shape[-1] == 1:
            return self
        pixels = cut(self.pixels(wide), window, size)
        plate = Plate(to_tensor(pixels, self.image.device, self.image.dtype))
        plate._pixels[wide] = pixels
        return plate


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
        cut: Whether a scene begins with the frame, after another.
    """

    cut = False
    # The small maps, or the parts that a region's windows gave.
    _maps: Floats | None = None
    _parts: "Sequence[Matted]" = ()
    _region: Region

    def __init__(self, frame: Frame, src: Tensor, fgr: Tensor, pha: Tensor) -> None:
        self.frame, self.like = frame, src[:0]
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

    @classmethod
    def from_parts(
        cls, frame: Frame, region: Region, parts: "Sequence[Matted]"
    ) -> "Matted":
        """Make one of what was matted in windows; elsewhere there is nobody.

        Args:
            frame: The frame as it was read.
            region: The windows.
            parts: The matte within each of them.
        """
        matted = cls.__new__(cls)
        matted.frame, matted._region, matted._parts = frame, region, parts
        matted.like = parts[0].like.new_empty(0, *frame.pixels.shape[:2])
        return matted

    @cached_property
    def made(self) -> dict[str, Any]:
        """What `finish` has made of the frame for one output, for the others."""
        return {}

    @cached_property
    def src(self) -> Tensor:
        """The frame, (3, H, W) in [0, 1]."""
        return to_tensor(self.frame.pixels, self.like.device, self.like.dtype)

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
        if self._parts:
            own = own_alpha(self.frame, self.src)
            fgr = self.src.clone() if own is None else self.src * (own > 0)
            return self._paste(fgr, [part.fgr for part in self._parts])
        fgr = (self.src + self._fine[:3]).clamp_(0, 1)
        own = own_alpha(self.frame, fgr)
        return fgr if own is None else fgr * (own > 0)

    @cached_property
    def pha(self) -> Tensor:
        """Alpha, (1, H, W) in [0, 1], multiplied by the source's own."""
        if self._parts:
            pha = self.like.new_zeros(1, *self.like.shape[1:])
            return self._paste(pha, [part.pha for part in self._parts])
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
        if self._parts:
            return self._assemble(kind, wide, plate)
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

    def _paste(self, whole: Tensor, parts: "Sequence[Tensor]") -> Tensor:
        """Lay what windows gave, (C, h, w), into (C, H, W)."""
        for (rows, columns), (down, across), part in self._places(parts):
            whole[:, rows, columns] = part[:, down, across]
        return whole

    def _assemble(self, kind: Kind, wide: bool, plate: Plate | None) -> Pixels:
        """Make the pixels of windows, and lay them into what is outside of them."""
        height, width = self.like.shape[1:]
        whole: Pixels
        dtype = np.uint16 if wide else np.uint8
        if kind == "foreground":
            return to_pixels(self.fgr, wide)
        if kind == "composite" and plate is not None:
            shape = height, width, 3
            whole = np.broadcast_to(plate.pixels(wide), shape).astype(dtype)
        else:
            whole = np.zeros((height, width, 1 if kind == "alpha" else 4), dtype)
        windows, size = self._region.windows, self._region.size
        made = [
            part.pixels(kind, wide, plate and plate.cut(window, size, wide))
            for window, part in zip(windows, self._parts, strict=True)
        ]
        for (rows, columns), (down, across), part in self._places(made):
            whole[rows, columns] = part[down, across]
        return whole

    def _places(self, parts: Sequence[Any]) -> Iterator[tuple[Any, Any, Any]]:
        """Give where each part's kept pixels lie in the frame and in its window."""
        for window, part in zip(self._region.windows, parts, strict=True):
            left, top, right, bottom = window.keep
            yield (
                (slice(top, bottom), slice(left, right)),
                (
                    slice(top - window.top, bottom - window.top),
                    slice(left - window.left, right - window.left),
                ),
                part,
            )
