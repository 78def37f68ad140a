"""Reshapes alpha mattes: levels, growing, feathering. This module needs no torch.

Source:
    Serra, Image Analysis and Mathematical Morphology, 1982, for growing (dilation of
    gray values by a disc).
"""

import numpy as np
from numpy.typing import NDArray

from rematte.engines.kernels.guided_filter import Floats
from rematte.video.frame import Pixels
from rematte.video.parallel_rows import kernels, run_rows

# The most that alpha grows or fades [pixels]. A tile is no smaller, so that what
# happens in one depends on its neighbours alone. As in alpha_shape.cpp.
REACH = 32
_TILE = REACH


def set_levels(alpha: Pixels, black: float, white: float) -> Floats:
    """Stretch 16-bit alpha, (H, W), so that `black` becomes 0 and `white` becomes 1."""
    values = alpha.astype(np.float32) * np.float32(1 / 65535) - np.float32(black)
    levels: Floats = np.clip(values * np.float32(1 / (white - black)), 0, 1)
    return levels


def grow(alpha: Floats, distance: float) -> Floats:
    """Move edges outward: the largest alpha within a distance.

    Between pixels alpha, (H, W) in [0, 1], is interpolated, so that fractions of pixels
    work. Edges move inward if the distance, at most `REACH` [pixels], is negative.
    """
    if distance < 0:
        shrunk: Floats = 1 - grow(1 - alpha, -distance)
        return shrunk
    out = alpha.copy()
    run_rows(kernels.grow, len(alpha), alpha, _uneven(alpha), distance, out)
    return out


def feather(alpha: Floats, distance: float) -> Floats:
    """Soften edges to both sides alike: an average with weights like a roof.

    Alpha, (H, W) in [0, 1], fades over the distance, at most `REACH` [pixels].
    """
    steps = np.arange(-int(np.ceil(distance)), int(np.ceil(distance)) + 1)
    weights = 1 - np.abs(steps) / (distance + 1)
    weights = (weights / weights.sum()).astype(np.float32)
    out = alpha.copy()
    run_rows(kernels.feather, len(alpha), alpha, _uneven(alpha), weights, out)
    return out


def despill(colours: Pixels, channel: int) -> None:
    """Limit a channel to the larger one of the other two, in place.

    It is 1 for a green backing and 2 for a blue one; colours are (H, W, 3 or more).
    """
    run_rows(kernels.despill, len(colours), colours, channel)


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
