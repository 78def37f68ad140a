"""Estimates the person's own colours at edges, where the picture shows the room too.

A pixel I of alpha a shows a F + (1 - a) B. F and B are averages around the pixel,
weighted by alpha and by 1 - alpha; what is left of I then is added to F. A first pass
looks far, a second one near and at what the first has found.

Averages are sums over blocks of a few pixels, five by five blocks each, interpolated in
between. The time is linear in the number of pixels of the blocks that edges cross. This
module needs no torch.

Source:
    Forte, Approximate Fast Foreground Colour Estimation, ICIP 2021.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from rematte.engines.kernels.guided_filter import Floats
from rematte.video.frame import Pixels
from rematte.video.parallel_rows import run_rows

# The longer side of a frame in blocks: at 1080p a block has a side of 3 pixels, and
# averages are over 15 and over 120 pixels.
_BLOCKS = 640
_LEAST = 2  # side of a block [pixels]
_WINDOW = 2  # blocks to each side that an average is over
_WIDE = 8  # how much larger the blocks of the first pass are

# In codes of 16 bits: what 8 bits round to 0, and to 255.
_CLEAR, _OPAQUE = 128, 65535 - 128


class Edges(NamedTuple):
    """The person's own colours at edges and just outside.

    Attributes:
        alpha: The alpha that they were estimated with, (H, W), 16 bits.
        blocks: Number of each block that was looked at, (h, w); -1 for the others.
        colours: Of each of these its pixels, (N, side, side, 4), 16 bits: straight RGB,
            and whether there is one.
    """

    alpha: Pixels
    blocks: NDArray[np.int32]
    colours: Pixels


def estimate(
    source: Pixels, alpha: Pixels, own: Pixels | None = None, reach: int = 0
) -> Edges:
    """Estimate the person's colours where alpha is neither 0 nor 1.

    Args:
        source: The picture, (H, W, 3), 8 or 16 bits.
        alpha: (H, W, 1), 16 bits, multiplied by `own`.
        own: The source's own alpha, (H, W, 1), 8 or 16 bits.
        reach: How far the colours are continued where alpha is 0 [pixels]; at least
            over the blocks that touch an edge's.
    """
    height, width = alpha.shape[:2]
    side = max(_LEAST, round(max(height, width) / _BLOCKS))
    rows, columns = -(-height // side), -(-width // side)
    shares = np.ascontiguousarray(alpha).reshape(height, width)
    hidden = np.empty((0, 0), source.dtype) if own is None else own[..., 0]
    crossed = np.zeros((rows, columns), np.uint8)
    run_rows(_find, rows, shares, side, crossed)
    wanted = _grown(crossed, 1 + -(-reach // side))
    blocks, count = _numbered(wanted)
    colours = np.empty((count, side, side, 4), np.uint16)
    if count:
        picture = source, shares, hidden, side
        far = np.zeros((-(-rows // _WIDE), -(-columns // _WIDE), 8), np.float32)
        run_rows(_sample, len(far), *picture, far)
        large = np.arange(far.shape[0] * far.shape[1]).reshape(far.shape[:2])
        far = _sum_windows(far).reshape(-1, 8)
        around, summed = _numbered(_grown(wanted, _WINDOW))
        sums = np.zeros((summed, 8), np.float32)
        near = np.zeros((count + 1, 8), np.float32)  # the last one stands for none
        run_rows(_sum, rows, *picture, around, large, far, sums)
        run_rows(_sum_near, rows, around, blocks, sums, near)
        run_rows(_separate, rows, *picture, blocks, large, far, near, colours)
    return Edges(shares, blocks, colours)


def lay_edges(edges: Edges, out: Pixels, behind: Pixels | None = None) -> None:
    """Write the colours of edges into a picture, in place.

    Args:
        edges: From `estimate`.
        out: (H, W, 3 or 4), 8 or 16 bits: straight colours, and perhaps alpha; or a
            composite over `behind`.
        behind: The background of a composite, (H, W, 3) or (1, 1, 3), with as many bits
            as the result.
    """
    plate = np.empty((0, 0, 3), out.dtype) if behind is None else behind
    run_rows(_lay, len(edges.blocks), *edges, plate, out)


def _numbered(flags: NDArray[np.uint8]) -> tuple[NDArray[np.int32], int]:
    """Number the flags that are set, and count them; others get -1."""
    places = np.flatnonzero(flags)
    numbers = np.full(flags.shape, -1, np.int32)
    numbers.ravel()[places] = np.arange(len(places), dtype=np.int32)
    return numbers, len(places)


def _sum_windows(sums: Floats) -> Floats:
    """Add up the sums of five by five blocks around each."""
    rows, columns = sums.shape[:2]
    pad = _WINDOW, _WINDOW
    padded = np.pad(sums, (pad, pad, (0, 0)))
    shifts = range(2 * _WINDOW + 1)
    lines = np.add.reduce([padded[shift : shift + rows] for shift in shifts])
    added: Floats = np.add.reduce(
        [lines[:, shift : shift + columns] for shift in shifts]
    )
    return added


def _grown(flags: NDArray[np.uint8], reach: int) -> NDArray[np.uint8]:
    """Set the flags that are at most `reach` from one that is set, on both axes."""
    for _ in range(reach):
        wider = flags.copy()
        wider[:, 1:] |= flags[:, :-1]
        wider[:, :-1] |= flags[:, 1:]
        flags = wider.copy()
        flags[1:] |= wider[:-1]
        flags[:-1] |= wider[1:]
    return flags


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _find(begin: int, end: int, shares: Any, side: int, blocks: Any) -> None:
    """Find blocks with a pixel whose alpha is neither 0 nor 1."""
    mixed = np.empty(shares.shape[1], np.uint8)
    for row in range(begin, end):
        mixed[:] = 0
        for y in range(row * side, min((row + 1) * side, len(shares))):
            line = shares[y]
            for x in range(len(line)):  # vector code
                mixed[x] |= (line[x] > _CLEAR) & (line[x] < _OPAQUE)
        for x in range(len(mixed)):
            blocks[row, x // side] |= mixed[x]


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _parts(shares: Any, hidden: Any, y: int, x: int) -> Any:
    """Give the person's part in a pixel's colour, and weights of person and room."""
    one = np.float32(1)
    person = shares[y, x] * np.float32(1 / 65535)
    if not len(hidden):
        return person, person, one - person
    scale = np.float32(1 / 255) if hidden.itemsize == 1 else np.float32(1 / 65535)
    own = hidden[y, x] * scale
    if own == 0:
        return np.float32(0), np.float32(0), np.float32(0)
    return min(person / own, one), person, max(own - person, np.float32(0))


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _sample(
    begin: int, end: int, source: Any, shares: Any, hidden: Any, side: int, far: Any
) -> None:
    """Sum weighted colours and weights, of one pixel in each block, far around."""
    height, width = shares.shape
    scale = np.float32(1 / 255) if source.itemsize == 1 else np.float32(1 / 65535)
    step = side * _WIDE
    for row in range(begin, end):
        for y in range(row * step + side // 2, min((row + 1) * step, height), side):
            for x in range(side // 2, width, side):
                _, person, room = _parts(shares, hidden, y, x)
                to = far[row, x // step]
                for c in range(3):
                    value = source[y, x, c] * scale
                    to[c] += person * value
                    to[c + 4] += room * value
                to[3] += person
                to[7] += room


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _between(at: Any, cells: int) -> Any:
    """Find the two cells whose middles a position lies between, and how far."""
    at = min(max(at - np.float32(0.5), np.float32(0)), np.float32(cells - 1))
    before = int(at)
    return before, min(before + 1, cells - 1), at - np.float32(before)


# Indices rather than slices below: a slice in a loop over pixels takes longer than what
# is done with it.


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _look(sums: Any, cells: Any, down: Any, right: Any, out: Any) -> None:
    """Interpolate between the sums of four cells.

    Args:
        sums: (N, 8).
        cells: The number of each cell's sums, (h, w).
        down: Position from the top [cells].
        right: Position from the left [cells].
        out: Receives the sums, (8,).
    """
    y, below, v = _between(down, cells.shape[0])
    x, beside, u = _between(right, cells.shape[1])
    a, b, c, d = cells[y, x], cells[y, beside], cells[below, x], cells[below, beside]
    for k in range(8):
        upper = sums[a, k] + u * (sums[b, k] - sums[a, k])
        lower = sums[c, k] + u * (sums[d, k] - sums[c, k])
        out[k] = upper + v * (lower - upper)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _solve(part: Any, value: Any, person: Any, room: Any) -> Any:
    """Add to the person's average colour what it and the room's leave of a pixel."""
    return person + part * (value - part * person - (np.float32(1) - part) * room)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _sum(
    begin: int, end: int, source: Any, shares: Any, hidden: Any, side: int,
    around: Any, large: Any, far: Any, sums: Any,
) -> None:  # fmt: skip
    """Sum weighted colours and weights in blocks, the person's after the first pass."""
    height, width = shares.shape
    scale = np.float32(1 / 255) if source.itemsize == 1 else np.float32(1 / 65535)
    zero, half, wide = np.float32(0), np.float32(0.5), np.float32(1 / _WIDE)
    average = np.empty(8, np.float32)
    for row in range(begin, end):
        for column in range(around.shape[1]):
            if around[row, column] < 0:
                continue
            _look(far, large, (row + half) * wide, (column + half) * wide, average)
            person_known, room_known = average[3] > zero, average[7] > zero
            for c in range(3):
                average[c] = average[c] / average[3] if person_known else zero
                average[c + 4] = average[c + 4] / average[7] if room_known else zero
            known = person_known and room_known
            to = sums[around[row, column]]
            for y in range(row * side, min((row + 1) * side, height)):
                for x in range(column * side, min((column + 1) * side, width)):
                    part, person, room = _parts(shares, hidden, y, x)
                    for c in range(3):
                        value = source[y, x, c] * scale
                        to[c + 4] += room * value
                        if known:
                            value = _solve(part, value, average[c], average[c + 4])
                        to[c] += person * value
                    to[3] += person
                    to[7] += room


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _add(values: Any, to: Any) -> None:
    for k in range(8):
        to[k] += values[k]


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _sum_near(
    begin: int, end: int, around: Any, blocks: Any, sums: Any, near: Any
) -> None:
    """Add up the sums of five by five blocks around each that is asked for."""
    height, width = blocks.shape
    line = np.zeros((width + 2 * _WINDOW, 8), np.float32)
    for row in range(begin, end):
        top, bottom = max(row - _WINDOW, 0), min(row + _WINDOW + 1, height)
        line[:] = 0
        for column in range(width):
            if around[row, column] >= 0:
                for y in range(top, bottom):
                    if around[y, column] >= 0:
                        _add(sums[around[y, column]], line[column + _WINDOW])
        for column in range(width):
            if blocks[row, column] >= 0:
                for x in range(column, column + 2 * _WINDOW + 1):
                    _add(line[x], near[blocks[row, column]])


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _code(part: Any, value: Any, average: Any, c: int) -> Any:
    """Estimate a channel of the person's colour in a pixel, in a code of 16 bits."""
    zero, one = np.float32(0), np.float32(1)
    person = average[c] / average[3]
    # Without a room there is nothing to take away.
    room = average[c + 4] / average[7] if average[7] > zero else value
    found = min(max(_solve(part, value, person, room), zero), one)
    return np.int32(found * np.float32(65535) + np.float32(0.5))


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _separate(
    begin: int, end: int, source: Any, shares: Any, hidden: Any, side: int,
    blocks: Any, large: Any, far: Any, near: Any, colours: Any,
) -> None:  # fmt: skip
    """Estimate the person's colours in the blocks that are asked for.

    Where alpha is 0 they are the average alone, which is none where the person is
    hardly seen.
    """
    height, width = shares.shape
    scale = np.float32(1 / 255) if source.itemsize == 1 else np.float32(1 / 65535)
    zero, half, cell = np.float32(0), np.float32(0.5), np.float32(1 / side)
    cells = np.float32((2 * _WINDOW + 1) ** 2)
    close, wide = cells * side * side / np.float32(255), cells * _WIDE**2 / 255
    average = np.empty(8, np.float32)
    for row in range(begin, end):
        for column in range(blocks.shape[1]):
            if blocks[row, column] < 0:
                continue
            block = colours[blocks[row, column]]
            for y in range(row * side, min((row + 1) * side, height)):
                for x in range(column * side, min((column + 1) * side, width)):
                    v, u = y - row * side, x - column * side
                    block[v, u, 3] = 0
                    part, person, room = _parts(shares, hidden, y, x)
                    if shares[y, x] >= _OPAQUE or person + room == zero:
                        continue
                    down, right = (y + half) * cell, (x + half) * cell
                    _look(near, blocks, down, right, average)
                    clear = shares[y, x] <= _CLEAR
                    part = zero if clear else part
                    if clear and average[3] < close:
                        _look(far, large, down / _WIDE, right / _WIDE, average)
                        average[3] *= average[3] >= wide
                    if average[3] == zero:
                        continue
                    block[v, u, 3] = 1
                    for c in range(3):
                        value = source[y, x, c] * scale
                        block[v, u, c] = _code(part, value, average, c)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _lay(
    begin: int, end: int, shares: Any, blocks: Any, colours: Any, behind: Any, out: Any
) -> None:  # fmt: skip
    """Write colours into `out`, over `behind` if that has any rows."""
    height, width = shares.shape
    half, side = np.float32(0.5), colours.shape[1]
    scale = np.float32(255 / 65535) if out.itemsize == 1 else np.float32(1)
    rows, columns = len(behind) - 1, behind.shape[1] - 1
    for row in range(begin, end):
        for column in range(blocks.shape[1]):
            if blocks[row, column] < 0:
                continue
            block = colours[blocks[row, column]]
            for y in range(row * side, min((row + 1) * side, height)):
                for x in range(column * side, min((column + 1) * side, width)):
                    v, u = y - row * side, x - column * side
                    if not block[v, u, 3]:
                        continue
                    for c in range(3):
                        value = block[v, u, c] * scale
                        if rows >= 0:
                            back = np.float32(behind[min(y, rows), min(x, columns), c])
                            share = shares[y, x] * np.float32(1 / 65535)
                            value = back + share * (value - back)
                        out[y, x, c] = np.int32(value + half)
