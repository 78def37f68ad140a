"""Pixels in arrays: their depth, and resizing them."""

from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation

from rematte.video.frame import RANGE_FULL, Pixels

# Without the second flag libswscale darkens by a level or two.
_FLAGS = int(Interpolation.AREA | Interpolation.ACCURATE_RND)


def with_depth(pixels: Pixels, wide: bool) -> Pixels:
    """Give pixels 16 bits, or 8, rounded; white stays white."""
    if wide == (pixels.dtype == np.uint16):
        return pixels
    if wide:
        return pixels * np.uint16(257)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def premultiply(pixels: Pixels) -> Pixels:
    """Multiply the colours of (H, W, 4), 8 or 16 bits, by alpha, rounded."""
    most = np.uint32(np.iinfo(pixels.dtype).max)
    made = pixels.copy()
    share = pixels[..., 3:].astype(np.uint32)
    made[..., :3] = (pixels[..., :3] * share + most // 2) // most
    return made


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize a picture: smaller by averaging areas, larger linearly.

    Args:
        pixels: (H, W, C), 8 or 16 bits.
        width: Width of the result [pixels].
        height: Height of the result [pixels].
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    name = "gray16le" if pixels.dtype == np.uint16 else "gray"
    made = np.empty((height, width, pixels.shape[2]), pixels.dtype)
    # One channel at a time: of RGB, libswscale would make YUV and RGB again.
    for channel in range(pixels.shape[2]):
        plane: Any = np.ascontiguousarray(pixels[..., channel])
        frame = av.VideoFrame.from_ndarray(plane, name).reformat(
            width,
            height,
            src_color_range=RANGE_FULL,
            dst_color_range=RANGE_FULL,
            interpolation=_FLAGS,
        )
        made[..., channel] = frame.to_ndarray()
    return made
