"""Arrays of pixels: depth, size, and conversion from and to callers' arrays."""

from typing import Any, Literal, TypeAlias

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from rematte.video.frame import RANGE_FULL, Pixels

Order: TypeAlias = Literal["rgb", "bgr"]
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


def with_depth(pixels: Pixels, wide: bool) -> Pixels:
    """Convert pixels to 16 bits, or 8, rounded; white stays white."""
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
