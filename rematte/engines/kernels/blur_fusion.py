"""Estimates the person's own colours at edges, where the background shows through.

A pixel I of alpha a shows a F + (1 - a) B. F and B are averages around the pixel,
weighted by alpha and by 1 - alpha; the remaining difference from I is then added to F.
A first pass averages over a wide area, a second one over a small area, starting from
the first one's result.

Averages are sums over five by five blocks of a few pixels, interpolated in between. The
time is linear in the number of pixels of the blocks that edges cross. This module needs
no torch.

Source:
    Forte, Approximate Fast Foreground Colour Estimation, ICIP 2021.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rematte.engines.kernels.guided_filter import Floats, flat
from rematte.video.frame import Pixels
from rematte.video.parallel_rows import kernels, run_rows

# The longer side of a frame in blocks: at 1080p a block has a side of 3 pixels, and
# averages are over 15 and over 120 pixels.
_BLOCKS = 640
_LEAST = 2  # side of a block [pixels]
# As in blur_fusion.cpp.
_WINDOW = 2  # blocks to each side that an average is over
_WIDE = 8  # how much larger the blocks of the first pass are


class Edges(NamedTuple):
    """The person's own colours at edges and just outside."""

    alpha: Pixels  # that they were estimated with, (H, W), 16 bits
    blocks: NDArray[np.int32]  # number of each block that was examined, (h, w), or -1
    # The pixels of each numbered block, (N, side * side, 4), 16 bits: straight RGB, and
    # whether there is a colour.
    colours: Pixels
    side: int  # of a block [pixels]


def estimate(
    source: Pixels, alpha: Pixels, own: Pixels | None = None, reach: int = 0
) -> Edges:
    """Estimate the person's colours where alpha is neither 0 nor 1.

    Args:
        source: The picture, (H, W, 3), 8 or 16 bits.
        alpha: (H, W, 1), 16 bits, multiplied by `own`.
        own: The source's own alpha, (H, W, 1), with as many bits as the picture, or 8.
        reach: How far the colours are continued where alpha is 0 [pixels]; at least
            over the blocks that touch an edge's.
    """
    height, width = alpha.shape[:2]
    side = max(_LEAST, round(max(height, width) / _BLOCKS))
    rows, columns = -(-height // side), -(-width // side)
    shares = np.ascontiguousarray(alpha).reshape(height, width)
    crossed = np.zeros((rows, columns), np.uint8)
    run_rows(kernels.find, rows, shares, side, crossed)
    wanted = _grown(crossed, 1 + -(-reach // side))
    blocks, count = _numbered(wanted)
    colours = np.empty((count, side * side, 4), np.uint16)
    if count:
        picture = source, shares, flat(own, source), side
        far = np.zeros((-(-rows // _WIDE), -(-columns // _WIDE), 8), np.float32)
        run_rows(kernels.sum_far, len(far), *picture, far)
        far = _sum_windows(far)
        around, summed = _numbered(_grown(wanted, _WINDOW))
        sums = np.zeros((summed, 8), np.float32)
        near = np.zeros((count + 1, 8), np.float32)  # the last one stands for none
        run_rows(kernels.sum, rows, *picture, around, far, sums)
        run_rows(kernels.sum_near, rows, around, blocks, sums, near)
        run_rows(kernels.separate, rows, *picture, blocks, far, near, colours)
    return Edges(shares, blocks, colours, side)


def lay_edges(edges: Edges, out: Pixels, behind: Pixels | None = None) -> None:
    """Write the colours of edges into a picture, (H, W, 3 or 4), in place.

    It has straight colours and perhaps alpha, or is a composite over `behind`, which is
    (H, W, 3) or (1, 1, 3) and has as many bits.
    """
    plate = np.empty((0, 0, 3), out.dtype) if behind is None else behind
    alpha, blocks, colours, side = edges
    run_rows(kernels.lay, len(blocks), alpha, side, blocks, colours, plate, out)


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
