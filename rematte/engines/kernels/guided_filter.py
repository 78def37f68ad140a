"""Applies the guided filter to full-size frames on a CPU, from pixels to pixels.

What the network's `refine`, clamping and compositing do to whole tensors happens here a
row at a time, so that nothing of full size is ever held in floats. This module needs no
torch.

Source:
    He and Sun, Fast Guided Filter, 2015, for the local linear model; Porter and Duff,
    Compositing Digital Images, 1984, for the operator "over".
"""

from typing import Any, Literal

import numba
import numpy as np
from numpy.typing import NDArray

from rematte.video.frame import Pixels
from rematte.video.parallel_rows import run_rows

Floats = NDArray[np.float32]
Kind = Literal["alpha", "foreground", "composite", "cutout"]
_KINDS: dict[Kind, int] = {"alpha": 0, "foreground": 1, "composite": 2, "cutout": 3}
_CHANNELS = {"alpha": 1, "foreground": 3, "composite": 3, "cutout": 4}


def render(
    pixels: Pixels,
    maps: Floats,
    kind: Kind,
    wide: bool,
    behind: Pixels | None = None,
    own: Pixels | None = None,
) -> Pixels:
    """Apply the guided filter to a frame and make the pixels of one kind of output.

    Args:
        pixels: The frame, (H, W, 3), 8 or 16 bits.
        maps: What `network.parts.Coarse` gives: (8, h, w), or (4, H, W) without the
            guided filter.
        kind: "alpha", "foreground" (straight RGB), "composite" (over `behind`), or
            "cutout" (RGBA, straight, with RGB 0 where alpha is 0).
        wide: Whether the result has 16 bits.
        behind: The background of a composite, (H, W, 3) or (1, 1, 3), with as many bits
            as the result.
        own: The source's own alpha, (H, W, 1), with as many bits as the frame; where it
            is 0, nothing of the foreground is left.

    Returns:
        (H, W, C): 1, 3, 3 or 4 channels.
    """
    height, width = pixels.shape[:2]
    dtype = np.uint16 if wide else np.uint8
    out = np.empty((height, width, _CHANNELS[kind]), dtype)
    if behind is None:
        behind = np.zeros((1, 1, 3), dtype)
    hidden = np.empty((0, 0), pixels.dtype) if own is None else _flat(own)
    rows, columns = _positions(height, maps.shape[1]), _positions(width, maps.shape[2])
    run_rows(
        _render, height, _flat(pixels), np.ascontiguousarray(maps), _flat(behind),
        hidden, _flat(out), _KINDS[kind], *rows, *columns,
    )  # fmt: skip
    return out


def _flat(pixels: Pixels) -> Pixels:
    """Join the channels of each row's pixels one after the other."""
    return np.ascontiguousarray(pixels).reshape(len(pixels), -1)


def shrink(pixels: Pixels, ratio: float) -> Floats:
    """Sample a frame at the size of the coarse pass, as the network's `shrink` does.

    Args:
        pixels: (H, W, 3), 8 or 16 bits.
        ratio: In (0, 1].

    Returns:
        (h, w, 3) in [0, 1].
    """
    height, width = pixels.shape[:2]
    if ratio == 1:
        out = np.empty(pixels.shape, np.float32)
        run_rows(_scale, height, _flat(pixels), out.reshape(height, -1))
        return out
    rows, columns = _samples(height, ratio), _samples(width, ratio)
    out = np.empty((len(rows[0]), len(columns[0]), 3), np.float32)
    flat = out.reshape(len(out), -1)
    run_rows(_sample, len(out), _flat(pixels), flat, *rows, *columns)
    return out


def _positions(size: int, small: int) -> tuple[NDArray[np.int32], Floats]:
    """Find between which pixels of a smaller copy those of a side lie, and how far."""
    step = np.float32(small) / np.float32(size)
    return _between((np.arange(size, dtype=np.float32) + 0.5) * step - 0.5, small)


def _samples(size: int, ratio: float) -> tuple[NDArray[np.int32], Floats]:
    """Find between which pixels of a side those of a copy lie, 1 / ratio apart."""
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
        row, to = pixels[y], out[y]
        for x in range(len(row)):
            to[x] = row[x] * most


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _sample(
    begin: int, end: int, pixels: Any, out: Any,
    rows: Any, down: Any, columns: Any, right: Any,
) -> None:  # fmt: skip
    """Interpolate between two rows first, for all pixels, since that is vector code."""
    most = np.float32(1 / 255) if pixels.itemsize == 1 else np.float32(1 / 65535)
    line = np.empty(pixels.shape[1], np.float32)
    last = len(line) - 3
    for y in range(begin, end):
        upper, lower = pixels[rows[y]], pixels[min(rows[y] + 1, len(pixels) - 1)]
        weight = down[y]
        for x in range(len(line)):
            a, b = np.float32(upper[x]), np.float32(lower[x])
            line[x] = (a + weight * (b - a)) * most
        to = out[y]
        for x in range(len(columns)):
            i, weight = 3 * columns[x], right[x]
            j = min(i + 3, last)
            for c in range(3):
                a, b = line[i + c], line[j + c]
                to[3 * x + c] = a + weight * (b - a)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _read_row(row: Any, source: Any) -> None:
    """Read RGB in [0, 1] and its mean, one row per channel; `row` is flat."""
    scale = np.float32(1 / 255) if row.itemsize == 1 else np.float32(1 / 65535)
    for x in range(source.shape[1]):
        source[0, x] = row[3 * x] * scale
        source[1, x] = row[3 * x + 1] * scale
        source[2, x] = row[3 * x + 2] * scale
    for x in range(source.shape[1]):
        source[3, x] = (source[0, x] + source[1, x] + source[2, x]) / np.float32(3)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _mix_rows(maps: Any, y: int, weight: Any, line: Any) -> None:
    """Interpolate maps between two of their rows, and repeat the last pixel."""
    below, small = min(y + 1, maps.shape[1] - 1), maps.shape[2]
    for c in range(len(line)):
        for x in range(small):
            upper = maps[c, y, x]
            line[c, x] = upper + weight * (maps[c, below, x] - upper)
        line[c, small] = line[c, small - 1]


def _stretch_by(factor: int) -> Any:
    """Make a function that stretches a row to `factor` times its width.

    Neighbours come in a fixed pattern then. With the factor as a constant, that is
    vector code, and many times faster than looking each of them up.
    """
    half = factor // 2

    @numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
    def stretch(line: Any, right: Any, out: Any) -> None:
        small, width = len(line) - 1, len(out)
        for x in range(half):
            out[x] = line[0]
        for i in range(small - 1):
            for k in range(factor):
                weight = right[half + k]
                out[factor * i + half + k] = line[i] + weight * (line[i + 1] - line[i])
        for x in range(width - factor + half, width):
            out[x] = line[small - 1]

    return stretch


# One over the usual ratios.
_by_2, _by_3, _by_4, _by_8 = map(_stretch_by, (2, 3, 4, 8))


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _stretch(line: Any, columns: Any, right: Any, out: Any) -> None:
    """Stretch one row of a map to the full width."""
    small, width = len(line) - 1, len(out)
    if width == 4 * small:
        _by_4(line, right, out)
    elif width == 8 * small:
        _by_8(line, right, out)
    elif width == 2 * small:
        _by_2(line, right, out)
    elif width == 3 * small:
        _by_3(line, right, out)
    else:
        for x in range(width):
            i = columns[x]
            out[x] = line[i] + right[x] * (line[i + 1] - line[i])


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _refine_row(
    source: Any, line: Any, columns: Any, right: Any, c: int, room: Any, result: Any
) -> None:
    """Apply the filter to channel `c`: foreground (0 to 2) or alpha (3), clamped.

    Loops of one statement, since those become vector code.
    """
    width, zero, one = len(result), np.float32(0), np.float32(1)
    # The network gives the foreground as what to add to the frame.
    own = one if c < 3 else zero
    if len(line) == 8:
        _stretch(line[c], columns, right, room)
        _stretch(line[c + 4], columns, right, result)
        for x in range(width):
            value = result[x] + (room[x] + own) * source[c, x]
            result[x] = min(max(value, zero), one)
    else:
        for x in range(width):
            result[x] = min(max(line[c, x] + own * source[c, x], zero), one)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _hide(own: Any, result: Any) -> None:
    """Multiply alpha by the source's own; where that is 0, so is the foreground."""
    scale = np.float32(1 / 255) if own.itemsize == 1 else np.float32(1 / 65535)
    for x in range(len(own)):
        result[3, x] *= own[x] * scale
        if own[x] == 0:
            result[0, x] = result[1, x] = result[2, x] = 0


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _round(  # noqa: C901
    result: Any, behind: Any, kind: int, codes: Any
) -> None:
    """Round one kind of output to codes, one row per channel; `behind` is flat."""
    zero, half = np.float32(0), np.float32(0.5)
    most = np.float32(255) if codes.itemsize == 1 else np.float32(65535)
    width, alpha = codes.shape[1], result[3]
    for c in range(0 if kind == 0 else 3):
        values, out = result[c], codes[c]
        if kind == 1:
            for x in range(width):
                out[x] = np.int32(values[x] * most + half)
        elif kind == 3:
            for x in range(width):
                seen = most if np.int32(alpha[x] * most + half) else zero
                out[x] = np.int32(values[x] * seen + half)
        elif len(behind) == 3:
            back = np.float32(behind[c])
            for x in range(width):
                out[x] = np.int32(back + alpha[x] * (values[x] * most - back) + half)
        else:
            for x in range(width):
                back = np.float32(behind[3 * x + c])
                out[x] = np.int32(back + alpha[x] * (values[x] * most - back) + half)
    if kind == 0 or kind == 3:
        out = codes[kind]
        for x in range(width):
            out[x] = np.int32(alpha[x] * most + half)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _interleave(codes: Any, row: Any) -> None:
    """Turn one row per channel into a flat row of pixels.

    Spelt out, and flat, since only that becomes vector code.
    """
    if len(codes) == 1:
        row[:] = codes[0]
    elif len(codes) == 3:
        r, g, b = codes[0], codes[1], codes[2]
        for x in range(len(r)):
            row[3 * x], row[3 * x + 1], row[3 * x + 2] = r[x], g[x], b[x]
    else:
        r, g, b, a = codes[0], codes[1], codes[2], codes[3]
        for x in range(len(r)):
            row[4 * x], row[4 * x + 1] = r[x], g[x]
            row[4 * x + 2], row[4 * x + 3] = b[x], a[x]


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _render(
    begin: int, end: int, pixels: Any, maps: Any, behind: Any, own: Any, out: Any,
    kind: int, rows: Any, down: Any, columns: Any, right: Any,
) -> None:  # fmt: skip
    """Make the rows `begin` to `end` of `render`; rows of pictures are flat."""
    width = len(columns)
    source = np.empty((4, width), np.float32)
    line = np.empty((len(maps), maps.shape[2] + 1), np.float32)
    result = np.empty((4, width), np.float32)
    room = np.empty(width, np.float32)
    codes = np.empty((out.shape[1] // width, width), out.dtype)
    for y in range(begin, end):
        _read_row(pixels[y], source)
        _mix_rows(maps, rows[y], down[y], line)
        # Alpha alone needs no colours, the foreground no alpha.
        for c in range(3 if kind == 0 else 0, 3 if kind == 1 else 4):
            _refine_row(source, line, columns, right, c, room, result[c])
        if len(own):
            _hide(own[y], result)
        _round(result, behind[y if len(behind) > 1 else 0], kind, codes)
        _interleave(codes, out[y])
