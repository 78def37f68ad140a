"""The full-resolution part on a CPU in one pass, from pixels to pixels.

What `network.refine`, clamping and compositing do to whole tensors happens here a row
at a time, so that nothing of full size is ever held in floats. Knows no torch.

Source:
    He and Sun, Fast Guided Filter, 2015, for the local linear model; Porter and Duff,
    Compositing Digital Images, 1984, for the operator "over".
"""

from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from rematte.video.bands import in_bands
from rematte.video.frame import Pixels

Floats = NDArray[np.float32]
Kind = Literal["alpha", "foreground", "composite", "cutout"]
_KINDS: dict[Kind, int] = {"alpha": 0, "foreground": 1, "composite": 2, "cutout": 3}
_CHANNELS = {"alpha": 1, "foreground": 3, "composite": 3, "cutout": 4}


def render(
    pixels: Pixels, maps: Floats, kind: Kind, wide: bool, behind: Pixels | None = None
) -> Pixels:
    """Refine a frame and give what is asked for, and nothing else.

    Args:
        pixels: The frame, (H, W, 3), 8 or 16 bits.
        maps: Of `network.Coarse`: (h, w, 8), or (H, W, 4) without the guided filter.
        kind: "alpha", "foreground" (straight RGB), "composite" (over `behind`), or
            "cutout" (RGBA, straight, with RGB 0 where alpha is 0).
        wide: Whether the result has 16 bits.
        behind: Of a composite, (H, W, 3) or (1, 1, 3), bits like the result.

    Returns:
        (H, W, C): 1, 3, 3 or 4 channels.
    """
    height, width = pixels.shape[:2]
    dtype = np.uint16 if wide else np.uint8
    out = np.empty((height, width, _CHANNELS[kind]), dtype)
    if behind is None:
        behind = np.zeros((1, 1, 3), dtype)
    rows, columns = _positions(height, maps.shape[0]), _positions(width, maps.shape[1])
    in_bands(
        _render, height, pixels, np.ascontiguousarray(maps), behind, out, _KINDS[kind],
        *rows, *columns,
    )  # fmt: skip
    return out


def shrink(pixels: Pixels, ratio: float) -> Floats:
    """Sample a frame at the size of the coarse pass, as `network.shrink` does.

    Args:
        pixels: (H, W, 3), 8 or 16 bits.
        ratio: In (0, 1].

    Returns:
        (h, w, 3) in [0, 1].
    """
    height, width = pixels.shape[:2]
    if ratio == 1:
        out = np.empty(pixels.shape, np.float32)
        in_bands(_scale, height, pixels, out)
        return out
    rows, columns = _samples(height, ratio), _samples(width, ratio)
    out = np.empty((len(rows[0]), len(columns[0]), 3), np.float32)
    in_bands(_sample, len(out), pixels, out, *rows, *columns)
    return out


def _positions(size: int, small: int) -> tuple[NDArray[np.int32], Floats]:
    """Where the pixels of a side lie in its smaller copy: before which, how far."""
    step = np.float32(small) / np.float32(size)
    return _between((np.arange(size, dtype=np.float32) + 0.5) * step - 0.5, small)


def _samples(size: int, ratio: float) -> tuple[NDArray[np.int32], Floats]:
    """Where the pixels of a smaller copy lie in a side; the step is 1 / ratio."""
    step = np.float32(1 / ratio)
    small = np.arange(int(size * ratio), dtype=np.float32)
    return _between((small + 0.5) * step - 0.5, size)


def _between(at: Floats, size: int) -> tuple[NDArray[np.int32], Floats]:
    at = np.maximum(at, np.float32(0)).astype(np.float32)
    before = np.minimum(at.astype(np.int32), size - 1)
    # The last one has no neighbour to be mixed with.
    return before, np.where(before < size - 1, at - before, 0).astype(np.float32)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _scale(begin: int, end: int, pixels: Any, out: Any) -> None:
    most = np.float32(1 / 255) if pixels.itemsize == 1 else np.float32(1 / 65535)
    for y in range(begin, end):
        for x in range(pixels.shape[1]):
            for c in range(3):
                out[y, x, c] = pixels[y, x, c] * most


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _sample(
    begin: int, end: int, pixels: Any, out: Any,
    rows: Any, down: Any, columns: Any, right: Any,
) -> None:  # fmt: skip
    most = np.float32(1 / 255) if pixels.itemsize == 1 else np.float32(1 / 65535)
    for y in range(begin, end):
        y0 = rows[y]
        y1 = min(y0 + 1, pixels.shape[0] - 1)
        for x in range(out.shape[1]):
            x0 = columns[x]
            x1 = min(x0 + 1, pixels.shape[1] - 1)
            for c in range(3):
                a, b = np.float32(pixels[y0, x0, c]), np.float32(pixels[y0, x1, c])
                upper = a + right[x] * (b - a)
                a, b = np.float32(pixels[y1, x0, c]), np.float32(pixels[y1, x1, c])
                lower = a + right[x] * (b - a)
                out[y, x, c] = (upper + down[y] * (lower - upper)) * most


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _read_row(row: Any, source: Any) -> None:
    """RGB in [0, 1] and its mean, one row per channel."""
    scale = np.float32(1 / 255) if row.itemsize == 1 else np.float32(1 / 65535)
    for x in range(len(row)):
        for c in range(3):
            source[c, x] = row[x, c] * scale
    for x in range(len(row)):
        source[3, x] = (source[0, x] + source[1, x] + source[2, x]) / np.float32(3)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _mix_rows(upper: Any, lower: Any, weight: Any, line: Any) -> None:
    """The maps between two of their rows, one row per channel, the last pixel twice."""
    small = len(upper)
    for x in range(small):
        for c in range(len(line)):
            line[c, x] = upper[x, c] + weight * (lower[x, c] - upper[x, c])
    for c in range(len(line)):
        line[c, small] = line[c, small - 1]


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _stretch(line: Any, columns: Any, right: Any, out: Any) -> None:
    """One row of a map at the full width.

    Where the width is a small multiple, as it is at most ratios, neighbours come in a
    fixed pattern: much faster than looking each of them up.
    """
    small, width = len(line) - 1, len(out)
    factor = width // small
    if factor * small != width or factor > 8:
        for x in range(width):
            i = columns[x]
            out[x] = line[i] + right[x] * (line[i + 1] - line[i])
        return
    half = factor // 2
    for x in range(half):
        out[x] = line[0]
    for x in range(width - factor + half, width):
        out[x] = line[small - 1]
    for k in range(factor):
        weight = right[half + k]
        for i in range(small - 1):
            out[half + k + i * factor] = line[i] + weight * (line[i + 1] - line[i])


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _refine_row(
    source: Any, line: Any, columns: Any, right: Any, c: int, room: Any, result: Any
) -> None:
    """Channel `c` of foreground (0 to 2) and alpha (3), clamped.

    Loops of one statement, since those become vector code.
    """
    width = len(result)
    if len(line) == 8:
        _stretch(line[c], columns, right, room)
        _stretch(line[c + 4], columns, right, result)
        for x in range(width):
            result[x] += room[x] * source[c, x]
    else:
        for x in range(width):
            result[x] = line[c, x]
    if c < 3:
        for x in range(width):
            result[x] += source[c, x]
    for x in range(width):
        result[x] = min(max(result[x], np.float32(0)), np.float32(1))


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _write_row(  # noqa: C901
    result: Any, behind: Any, kind: int, row: Any
) -> None:
    """Round to codes what is asked for."""
    zero, half = np.float32(0), np.float32(0.5)
    most = np.float32(255) if row.itemsize == 1 else np.float32(65535)
    width = len(row)
    if kind == 0:
        for x in range(width):
            row[x, 0] = int(result[3, x] * most + half)
    elif kind == 1:
        for x in range(width):
            for c in range(3):
                row[x, c] = int(result[c, x] * most + half)
    elif kind == 2:
        step = 1 if len(behind) > 1 else 0
        for x in range(width):
            for c in range(3):
                back = np.float32(behind[x * step, c])
                code = back + result[3, x] * (result[c, x] * most - back)
                row[x, c] = int(code + half)
    else:
        for x in range(width):
            seen = most if result[3, x] > zero else zero
            for c in range(3):
                row[x, c] = int(result[c, x] * seen + half)
            row[x, 3] = int(result[3, x] * most + half)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _render(
    begin: int, end: int, pixels: Any, maps: Any, behind: Any, out: Any, kind: int,
    rows: Any, down: Any, columns: Any, right: Any,
) -> None:  # fmt: skip
    """Rows `begin` to `end` of `render`."""
    width = pixels.shape[1]
    source = np.empty((4, width), np.float32)
    line = np.empty((maps.shape[2], maps.shape[1] + 1), np.float32)
    result = np.empty((4, width), np.float32)
    room = np.empty(width, np.float32)
    for y in range(begin, end):
        _read_row(pixels[y], source)
        y0 = rows[y]
        _mix_rows(maps[y0], maps[min(y0 + 1, maps.shape[0] - 1)], down[y], line)
        # Alpha alone needs no colours, the foreground no alpha.
        for c in range(3 if kind == 0 else 0, 3 if kind == 1 else 4):
            _refine_row(source, line, columns, right, c, room, result[c])
        _write_row(result, behind[y if len(behind) > 1 else 0], kind, out[y])
