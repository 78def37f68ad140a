"""Reshapes alpha mattes: levels, growing, feathering. This module needs no torch.

Source:
    Serra, Image Analysis and Mathematical Morphology, 1982, for growing (dilation of
    gray values by a disc).
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from rematte.engines.kernels.guided_filter import Floats
from rematte.video.frame import Pixels
from rematte.video.parallel_rows import run_rows

# The most that alpha grows or fades [pixels]. A tile is no smaller, so that what
# happens in one depends on its neighbours alone.
REACH = 32
_TILE = REACH


def set_levels(alpha: Pixels, black: float, white: float) -> Floats:
    """Stretch alpha so that `black` becomes 0 and `white` becomes 1.

    Args:
        alpha: (H, W), 16 bits.
        black: In [0, 1), below `white`.
        white: In (0, 1].

    Returns:
        (H, W) in [0, 1].
    """
    values = alpha.astype(np.float32) * np.float32(1 / 65535) - np.float32(black)
    levels: Floats = np.clip(values * np.float32(1 / (white - black)), 0, 1)
    return levels


def grow(alpha: Floats, distance: float) -> Floats:
    """Move edges outward: the largest alpha within a distance.

    Between pixels alpha is interpolated, so that fractions of pixels work.

    Args:
        alpha: (H, W) in [0, 1].
        distance: At most `REACH` [pixels]; edges move inward if it is negative.
    """
    if distance < 0:
        shrunk: Floats = 1 - grow(1 - alpha, -distance)
        return shrunk
    out = alpha.copy()
    run_rows(_grow, len(alpha), alpha, _uneven(alpha), np.float32(distance), out)
    return out


def feather(alpha: Floats, distance: float) -> Floats:
    """Soften edges to both sides alike: an average with weights like a roof.

    Args:
        alpha: (H, W) in [0, 1].
        distance: How far it fades, at most `REACH` [pixels].
    """
    steps = np.arange(-int(np.ceil(distance)), int(np.ceil(distance)) + 1)
    weights = 1 - np.abs(steps) / (distance + 1)
    weights = (weights / weights.sum()).astype(np.float32)
    out = alpha.copy()
    run_rows(_feather, len(alpha), alpha, _uneven(alpha), weights, out)
    return out


def despill(colours: Pixels, channel: int) -> None:
    """Limit a channel to the larger one of the other two, in place.

    Args:
        colours: (H, W, 3 or more).
        channel: 1 for a green backing, 2 for a blue one.
    """
    run_rows(_despill, len(colours), colours, channel)


def _uneven(alpha: Floats) -> NDArray[np.bool_]:
    """Find tiles in which, or beside which, alpha is not the same everywhere."""
    height, width = alpha.shape
    rows, columns = -(-height // _TILE), -(-width // _TILE)
    padding = (0, rows * _TILE - height), (0, columns * _TILE - width)
    tiles = np.pad(alpha, padding, "edge").reshape(rows, _TILE, columns, _TILE)
    low, high = (
        np.pad(each, 1, "edge") for each in (tiles.min((1, 3)), tiles.max((1, 3)))
    )
    shifts = [(slice(y, y + rows), slice(x, x + columns)) for y, x in np.ndindex(3, 3)]
    lowest = np.minimum.reduce([low[shift] for shift in shifts])
    highest = np.maximum.reduce([high[shift] for shift in shifts])
    uneven: NDArray[np.bool_] = lowest != highest
    return uneven


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _widen(row: Any, at: int, room: Any) -> None:
    """Copy what lies around a tile of a row; the row's ends are repeated."""
    last = len(row) - 1
    for x in range(len(room)):
        room[x] = row[min(max(at + x, 0), last)]


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _raise_to(room: Any, shift: int, beyond: int, part: Any, out: Any) -> None:
    """Take what lies between two pixels where it is larger; vector code."""
    for x in range(len(out)):
        a, b = room[x + shift], room[x + beyond]
        out[x] = max(out[x], a + part * (b - a))


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _grow(
    begin: int, end: int, alpha: Any, uneven: Any, distance: Any, out: Any
) -> None:
    height, width = alpha.shape
    whole, zero = int(distance), np.float32(0)
    room = np.empty(_TILE + 2 * (whole + 1), np.float32)
    middle = whole + 1
    for y in range(begin, end):
        for tile in range(uneven.shape[1]):
            if not uneven[y // _TILE, tile]:
                continue
            first = tile * _TILE
            to = out[y, first : min(first + _TILE, width)]
            for down in range(-whole, whole + 1):
                _widen(alpha[min(max(y + down, 0), height - 1)], first - middle, room)
                side = np.sqrt(distance * distance - np.float32(down * down))
                full = int(side)
                for shift in range(middle - full, middle + full + 1):
                    _raise_to(room, shift, shift, zero, to)
                part = side - np.float32(full)
                _raise_to(room, middle - full, middle - full - 1, part, to)
                _raise_to(room, middle + full, middle + full + 1, part, to)
            part = distance - np.float32(whole)
            for sign in (-1, 1):
                near = alpha[min(max(y + sign * whole, 0), height - 1)]
                far = alpha[min(max(y + sign * (whole + 1), 0), height - 1)]
                for x in range(len(to)):
                    a, b = near[first + x], far[first + x]
                    to[x] = max(to[x], a + part * (b - a))


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _feather(
    begin: int, end: int, alpha: Any, uneven: Any, weights: Any, out: Any
) -> None:
    height, width = alpha.shape
    reach = len(weights) // 2
    room = np.empty(_TILE + 2 * reach, np.float32)
    line = np.empty_like(room)
    for y in range(begin, end):
        for tile in range(uneven.shape[1]):
            if not uneven[y // _TILE, tile]:
                continue
            first = tile * _TILE
            to = out[y, first : min(first + _TILE, width)]
            line[:] = 0
            for k in range(len(weights)):
                row = alpha[min(max(y + k - reach, 0), height - 1)]
                _widen(row, first - reach, room)
                for x in range(len(line)):
                    line[x] += weights[k] * room[x]
            to[:] = 0
            for k in range(len(weights)):
                for x in range(len(to)):
                    to[x] += weights[k] * line[x + k]


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _despill(begin: int, end: int, colours: Any, channel: int) -> None:
    one, other = (channel + 1) % 3, (channel + 2) % 3
    for y in range(begin, end):
        row = colours[y]
        for x in range(len(row)):
            most = max(row[x, one], row[x, other])
            row[x, channel] = min(row[x, channel], most)
