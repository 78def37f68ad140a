"""Converts 8-bit YUV 4:2:0 to RGB and back, several times faster than libswscale.

Nearly every video needs only this; `colour` converts other formats with libswscale.
Like there, chroma lies in the middle of its four pixels and is sampled bilinearly.

Source:
    ITU-T H.273, equations of MatrixCoefficients.
"""

from typing import Any

import av
import numba
import numpy as np
from numpy.typing import NDArray

from rematte.video.frame import RANGE_FULL, Colour, Pixels
from rematte.video.parallel_rows import run_rows

# Luma weights of red and blue by the code point of the matrix.
_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}


def can_convert(pixel_format: str, colour: Colour) -> bool:
    """Whether this module converts a pixel format and a colour."""
    return pixel_format in ("yuv420p", "yuvj420p") and colour.matrix in _WEIGHTS


def views(frame: av.VideoFrame, kind: Any = np.uint8) -> list[NDArray[Any]]:
    """Views of a frame's planes; `kind` is the type of a value."""
    return [_rows(plane, kind)[: plane.height, : plane.width] for plane in frame.planes]


# Formats of hardware decoders: the planar format with the same values, their type, and
# the number of bits that they are shifted up.
_PAIRED = {"nv12": ("yuv420p", np.uint8, 0), "p010le": ("yuv420p10le", np.uint16, 6)}


def to_planar(frame: av.VideoFrame) -> av.VideoFrame:
    """Split interleaved chroma into two planes; other frames are returned unchanged.

    libswscale would leave the last column of odd widths undefined.
    """
    if frame.format.name not in _PAIRED:
        return frame
    name, kind, shift = _PAIRED[frame.format.name]
    made = av.VideoFrame(frame.width, frame.height, name)
    luma, pairs = (_rows(plane, kind) for plane in frame.planes)
    given = luma, pairs[:, ::2], pairs[:, 1::2]
    for plane, values in zip(views(made, kind), given, strict=True):
        plane[:] = values[: len(plane), : plane.shape[1]] >> shift
    return made


def _rows(plane: Any, kind: Any) -> NDArray[Any]:
    """A view of a plane with its padding beyond the width."""
    return np.frombuffer(plane, kind).reshape(
        -1, plane.line_size // np.dtype(kind).itemsize
    )


def _luma(colour: Colour) -> tuple[np.float32, np.float32, np.float32]:
    """The code of black, and the ranges of codes of luma and of chroma."""
    numbers = (0, 255, 255) if colour.range == RANGE_FULL else (16, 219, 224)
    return np.float32(numbers[0]), np.float32(numbers[1]), np.float32(numbers[2])


def to_rgb(frame: av.VideoFrame, colour: Colour) -> Pixels:
    """Convert a frame that `can_convert` accepts to (H, W, 3), full range."""
    out = np.empty((frame.height, frame.width, 3), np.uint8)
    kr, kb = _WEIGHTS[colour.matrix]
    kg = 1 - kr - kb
    black, white, chroma = _luma(colour)
    gains = np.array(
        [2 * (1 - kr), 2 * kb * (1 - kb) / kg, 2 * kr * (1 - kr) / kg, 2 * (1 - kb)]
    )
    gains = (gains * 255 / chroma).astype(np.float32)
    run_rows(
        _to_rgb, frame.height, *views(frame), out.reshape(len(out), -1), black,
        np.float32(255 / white), gains,
    )  # fmt: skip
    return out


def from_rgb(pixels: Pixels, colour: Colour) -> av.VideoFrame:
    """Convert (H, W, 3) or gray (H, W, 1), 8 bits, full range, to yuv420p."""
    height, width = pixels.shape[:2]
    frame = av.VideoFrame(width, height, "yuv420p")
    kr, kb = _WEIGHTS[colour.matrix]
    black, white, chroma = _luma(colour)
    weights = np.array([kr, 1 - kr - kb, kb]) * (white / 255)
    chroma_b = np.array([-kr, kr + kb - 1, 1 - kb]) / (2 * (1 - kb)) * (chroma / 255)
    chroma_r = np.array([1 - kr, kr + kb - 1, -kb]) / (2 * (1 - kr)) * (chroma / 255)
    matrix = np.stack([weights, chroma_b, chroma_r]).astype(np.float32)
    # Only flat rows of interleaved channels are read with vector instructions.
    rgb = np.broadcast_to(pixels, (height, width, 3)).reshape(height, -1)
    run_rows(_from_rgb, (height + 1) // 2, rgb, *views(frame), black, matrix)
    return frame


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _upsample(near: Any, far: Any, middle: Any, out: Any) -> None:
    """Interpolate a row of chroma, minus 128, at twice its width from two rows."""
    big, small = np.float32(0.75), np.float32(0.25)
    last = len(near) - 1
    for i in range(last + 1):
        middle[i + 1] = big * near[i] + small * far[i] - np.float32(128)
    middle[0], middle[last + 2] = middle[1], middle[last + 1]
    for i in range(last + 1):
        out[2 * i] = big * middle[i + 1] + small * middle[i]
        out[2 * i + 1] = big * middle[i + 1] + small * middle[i + 2]


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _code(value: Any) -> Any:
    """Round and clip to 0 to 255."""
    return np.int32(min(max(value, np.float32(0)), np.float32(255)) + np.float32(0.5))


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _to_rgb(
    begin: int, end: int, luma: Any, blue: Any, red: Any, out: Any,
    black: Any, scale: Any, gains: Any,
) -> None:  # fmt: skip
    width, half = luma.shape[1], blue.shape[1]
    middle = np.empty(half + 2, np.float32)
    cb, cr = np.empty(2 * half, np.float32), np.empty(2 * half, np.float32)
    gray = np.empty(width, np.float32)
    r, g, b = np.empty((3, width), np.uint8)
    for y in range(begin, end):
        near = y // 2
        far = min(max(near + (1 if y % 2 else -1), 0), len(blue) - 1)
        _upsample(blue[near], blue[far], middle, cb)
        _upsample(red[near], red[far], middle, cr)
        row, line = out[y], luma[y]
        # Loops of one statement over flat rows compile to vector code.
        for x in range(width):
            gray[x] = (np.float32(line[x]) - black) * scale
        for x in range(width):
            r[x] = _code(gray[x] + gains[0] * cr[x])
        for x in range(width):
            g[x] = _code(gray[x] - gains[1] * cb[x] - gains[2] * cr[x])
        for x in range(width):
            b[x] = _code(gray[x] + gains[3] * cb[x])
        for x in range(width):
            row[3 * x], row[3 * x + 1], row[3 * x + 2] = r[x], g[x], b[x]


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _from_rgb(  # noqa: C901
    begin: int, end: int, rgb: Any, luma: Any, blue: Any, red: Any,
    black: Any, matrix: Any,
) -> None:  # fmt: skip
    """Convert two rows of luma and one of chroma for each row from `begin` to `end`."""
    height, width = luma.shape
    quarter, zero = np.float32(0.25), np.float32(128)
    codes = np.empty((2, 3, width), np.uint8)
    sums = np.empty((3, width + width % 2), np.float32)
    means = np.empty((3, blue.shape[1]), np.float32)
    for j in range(begin, end):
        for k in range(2):
            y = min(2 * j + k, height - 1)
            row, line = rgb[y], luma[y]
            r, g, b = codes[k, 0], codes[k, 1], codes[k, 2]
            for x in range(width):
                r[x], g[x], b[x] = row[3 * x], row[3 * x + 1], row[3 * x + 2]
            for x in range(width):
                line[x] = _code(
                    black
                    + matrix[0, 0] * np.float32(r[x])
                    + matrix[0, 1] * np.float32(g[x])
                    + matrix[0, 2] * np.float32(b[x])
                )
        for c in range(3):
            upper, lower = codes[0, c], codes[1, c]
            for x in range(width):
                sums[c, x] = np.float32(upper[x]) + np.float32(lower[x])
            if width % 2:
                sums[c, width] = sums[c, width - 1]
            for i in range(blue.shape[1]):
                means[c, i] = (sums[c, 2 * i] + sums[c, 2 * i + 1]) * quarter
        for row, k in ((blue[j], 1), (red[j], 2)):
            for i in range(len(row)):
                row[i] = _code(
                    zero
                    + matrix[k, 0] * means[0, i]
                    + matrix[k, 1] * means[1, i]
                    + matrix[k, 2] * means[2, i]
                )
