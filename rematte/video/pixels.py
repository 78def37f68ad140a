"""Arrays of pixels: depth, size, alpha, and conversion from and to callers' arrays."""

from typing import Any, Literal, TypeAlias

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from rematte.video.frame import RANGE_FULL, Pixels
from rematte.video.parallel_rows import kernels, run_rows

Order: TypeAlias = Literal["rgb", "bgr"]
# How colour and alpha are packed into one opaque picture, for players without alpha.
ARRANGEMENTS = ("side", "stacked")
_BLOCK = 16
# The types that a caller's array of pixels may have.
Image: TypeAlias = NDArray[np.uint8 | np.uint16 | np.float16 | np.float32 | np.float64]


def plane_values(frame: av.VideoFrame, index: int) -> NDArray[Any]:
    """Return a view of a plane's values, its padding beyond the width included."""
    name, plane = frame.format.name, frame.planes[index]
    bits = max(p.bits for p in frame.format.components if p.plane == index)
    letter = "f" if "f16" in name or "f32" in name else "u"
    order = ">" if name.endswith("be") else "<"
    kind = np.dtype(f"{order}{letter}{-(-bits // 8)}")
    memory: Any = plane  # NumPy's stub does not know it as a buffer
    return np.frombuffer(memory, kind).reshape(-1, plane.line_size // kind.itemsize)


def views(frame: av.VideoFrame) -> list[NDArray[Any]]:
    """Views of the values in a planar frame's planes, without padding."""
    return [
        plane_values(frame, index)[: plane.height, : plane.width]
        for index, plane in enumerate(frame.planes)
    ]


def with_depth(pixels: Pixels, sixteen_bit: bool) -> Pixels:
    """Convert pixels to 16 bits, or 8, rounded; white stays white."""
    if sixteen_bit == (pixels.dtype == np.uint16):
        return pixels
    if sixteen_bit:
        return pixels * np.uint16(257)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def premultiply(pixels: Pixels) -> Pixels:
    """Multiply the colours of (H, W, 4), 8 or 16 bits, by alpha, rounded."""
    most = np.uint32(np.iinfo(pixels.dtype).max)
    made = pixels.copy()
    share = pixels[..., 3:].astype(np.uint32)
    made[..., :3] = (pixels[..., :3] * share + most // 2) // most
    return made


def extend_colours(pixels: Pixels) -> Pixels:
    """Fill transparent pixels with the colours of the nearest visible ones, smoothly.

    This is for codecs that blur: chroma subsampling and quantisation mix the colours on
    both sides of an edge. Black in transparent pixels would darken the edge there, and
    costs a quarter of the bytes.

    Makes (H, W, 3) of (H, W, 4), 8 bits, straight alpha; equal where alpha is above 0.
    The colours come from visible pixels alone, weighted by their alpha: averages over
    ever larger squares are made first, and holes are then filled from the next larger
    squares. Nothing that was invisible can be seen.

    Source:
        Gortler, Grzeszczuk, Szeliski and Cohen, The Lumigraph (1996), section 3.4
        (pull-push).
    """
    levels: list[Any] = [pixels]
    while max(levels[-1].shape[:2]) > 1:
        large = levels[-1]
        small = np.empty((-(-len(large) // 2), -(-large.shape[1] // 2), 4), np.float32)
        run_rows(kernels.shrink, len(small), large, small)
        levels.append(small)
    filled: Any = np.zeros((1, 1, 3), np.float32)
    for level in reversed(levels):
        out = np.empty((*level.shape[:2], 3), level.dtype)
        run_rows(kernels.fill, len(out), level, filled, out)
        filled = out
    result: Pixels = filled
    return result


def resize(
    pixels: Pixels, width: int, height: int, method: Interpolation = Interpolation.AREA
) -> Pixels:
    """Resize (H, W, C); areas are averaged, and a larger picture is made linearly."""
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
            # Without the second flag libswscale darkens by a level or two.
            interpolation=int(method | Interpolation.ACCURATE_RND),
        )
        made[..., channel] = frame.to_ndarray()
    return made


def half_size(least: int, width: int, height: int) -> tuple[int, int]:
    """Return the width and height of one half, for a picture of this size [pixels].

    An encoder takes `least` at least. A half is padded at its right and lower edges to
    multiples of 16, the blocks of codecs, so that no block holds pixels of both.
    """
    width, height = (
        -(-max(side, least) // _BLOCK) * _BLOCK for side in (width, height)
    )
    return width, height


def packed_size(half: tuple[int, int], packed: str) -> tuple[int, int]:
    """Return the width and height of a packed picture with such halves [pixels]."""
    width, height = half
    return (2 * width, height) if packed == "side" else (width, 2 * height)


def pack(
    pixels: Pixels, half: tuple[int, int], packed: str, premultiplied: bool
) -> Pixels:
    """Pack colour and alpha of (H, W, 4), 8 bits, straight alpha, into (H, W, 3).

    Its two halves of equal size are colours, on the left or above, and alpha as gray.
    Straight colours continue beyond the person's edge, so that blurring by the codec
    mixes in no other colours and no background can be seen. `half` comes from
    `half_size`.
    """
    colours = premultiply(pixels)[..., :3] if premultiplied else extend_colours(pixels)
    right, down = half[0] - pixels.shape[1], half[1] - pixels.shape[0]
    halves = [
        np.pad(each, ((0, down), (0, right), (0, 0)), "edge")
        for each in (colours, pixels[..., 3:].repeat(3, 2))
    ]
    return np.concatenate(halves, 1 if packed == "side" else 0)


def blur(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur (H, W, C) with a Gaussian; its last pixels are repeated beyond the edges."""
    reach = max(1, round(3 * sigma))
    steps = np.arange(-reach, reach + 1, dtype=np.float32)
    kernel = np.exp(-(steps**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        length = picture.shape[axis]
        edge = [(reach, reach) if n == axis else (0, 0) for n in range(3)]
        padded = np.pad(picture, edge, mode="edge")
        views = (
            padded[first : first + length] if axis == 0
            else padded[:, first : first + length]
            for first in range(len(kernel))
        )  # fmt: skip
        picture = np.zeros_like(picture)
        for share, view in zip(kernel, views, strict=True):
            picture += share * view
    return picture


def to_pixels(array: Image, order: Order) -> Pixels:
    """Turn a caller's array into pixels: contiguous RGB or RGBA of 8 or 16 bits.

    It is (H, W, 3) or (H, W, 4), uint8, uint16 or floating in [0, 1].

    Raises:
        TypeError: If its type is another.
        ValueError: If its shape is another, or its numbers are out of range.
    """
    if array.ndim != 3 or array.shape[2] not in (3, 4) or not array.size:
        raise ValueError(
            f"a frame must have the shape (H, W, 3), or (H, W, 4) with alpha, got "
            f"{array.shape}"
        )
    kind = array.dtype.kind
    if order not in ("rgb", "bgr"):
        raise ValueError(f'order must be "rgb" or "bgr", got {order!r}')
    if order == "bgr":
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    if kind == "f":
        least, most = float(array.min()), float(array.max())
        if not (least >= 0 and most <= 1):  # catches NaN, too
            raise ValueError(
                f"a frame of floating numbers must be in [0, 1], got {least:g} to "
                f"{most:g}; divide frames of 0 to 255 by 255 or give them as uint8, "
                "and clip what is a little beyond"
            )
        scaled: Any = array.astype(np.float32, copy=False) * np.float32(65535)
        array = np.rint(scaled).astype(np.uint16)
    elif kind != "u" or array.dtype.itemsize > 2:
        raise TypeError(
            f"a frame must be uint8, uint16 or floating in [0, 1], got {array.dtype}; "
            "convert it, for example with frame.astype(np.uint8)"
        )
    native: Any = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    pixels: Pixels = native
    return pixels


def as_given(pixels: Pixels, dtype: "np.dtype[Any]", order: Order) -> Image:
    """Turn pixels into an array of a caller's type and channel order.

    Pixels have 8 bits if the type is uint8, else 16; floating numbers are in [0, 1].
    """
    array: Any = pixels
    if order == "bgr" and pixels.shape[2] > 1:
        array = np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])
    if dtype.kind == "f":
        array = (array / np.float32(65535)).astype(dtype, copy=False)
    given: Image = array
    return given
