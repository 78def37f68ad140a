"""Continues the colours of a cut-out beyond its edge, for codecs that blur edges.

Chroma subsampling and quantisation mix the colours on both sides of an edge. Black in
transparent pixels would darken the edge there, and costs a quarter of the bytes.
"""

from typing import Any

import numba
import numpy as np

from rematte.video.frame import Pixels
from rematte.video.parallel_rows import run_rows


def extend_colours(pixels: Pixels) -> Pixels:
    """Fill transparent pixels with the colours of the nearest visible ones, smoothly.

    The colours come from visible pixels alone, weighted by their alpha: averages over
    ever larger squares are made first, and holes are then filled from the next larger
    squares. Nothing that was invisible can be seen.

    Args:
        pixels: (H, W, 4), 8 bits, straight alpha.

    Returns:
        (H, W, 3), 8 bits; equal to the input where alpha is above 0.

    Source:
        Gortler, Grzeszczuk, Szeliski and Cohen, The Lumigraph (1996), section 3.4
        (pull-push).
    """
    levels: list[Any] = [pixels]
    while max(levels[-1].shape[:2]) > 1:
        large = levels[-1]
        small = np.empty((-(-len(large) // 2), -(-large.shape[1] // 2), 4), np.float32)
        run_rows(_shrink, len(small), large, small, large is pixels)
        levels.append(small)
    filled: Any = np.zeros((1, 1, 3), np.float32)
    for level in reversed(levels):
        out = np.empty(
            (*level.shape[:2], 3), np.uint8 if level is pixels else np.float32
        )
        run_rows(_fill, len(out), level, filled, out, level is pixels)
        filled = out
    result: Pixels = filled
    return result


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _shrink(begin: int, end: int, large: Any, small: Any, first: bool) -> None:
    """Sum squares of 2x2 pixels: colours times alpha, and alpha."""
    height, width = large.shape[:2]
    for y in range(begin, end):
        for x in range(small.shape[1]):
            r, g, b, a = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for j in range(2 * y, min(2 * y + 2, height)):
                for i in range(2 * x, min(2 * x + 2, width)):
                    alpha = np.float32(large[j, i, 3])
                    weight = alpha if first else np.float32(1)
                    r += weight * np.float32(large[j, i, 0])
                    g += weight * np.float32(large[j, i, 1])
                    b += weight * np.float32(large[j, i, 2])
                    a += alpha
            small[y, x, 0], small[y, x, 1], small[y, x, 2], small[y, x, 3] = r, g, b, a


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _fill(begin: int, end: int, level: Any, coarse: Any, out: Any, first: bool) -> None:
    """Take colours where there are some, and else the coarser ones, bilinearly."""
    half = np.float32(0.5 if first else 0)
    big, small = np.float32(0.75), np.float32(0.25)
    bottom, right = coarse.shape[0] - 1, coarse.shape[1] - 1
    for y in range(begin, end):
        near = y // 2
        far = min(max(near + (1 if y % 2 else -1), 0), bottom)
        for x in range(level.shape[1]):
            alpha = level[y, x, 3]
            if alpha > 0:
                scale = np.float32(1) if first else np.float32(1) / np.float32(alpha)
                for c in range(3):
                    out[y, x, c] = np.float32(level[y, x, c]) * scale + half
                continue
            close = x // 2
            away = min(max(close + (1 if x % 2 else -1), 0), right)
            for c in range(3):
                upper = big * coarse[near, close, c] + small * coarse[near, away, c]
                lower = big * coarse[far, close, c] + small * coarse[far, away, c]
                out[y, x, c] = big * upper + small * lower + half
