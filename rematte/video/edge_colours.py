"""Continues the colours of a cut-out beyond its edge, for codecs that blur edges.

Chroma subsampling and quantisation mix the colours on both sides of an edge. Black in
transparent pixels would darken the edge there, and costs a quarter of the bytes.
"""

from typing import Any

import numpy as np

from rematte.video.frame import Pixels
from rematte.video.parallel_rows import kernels, run_rows


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
        run_rows(kernels.shrink, len(small), large, small)
        levels.append(small)
    filled: Any = np.zeros((1, 1, 3), np.float32)
    for level in reversed(levels):
        out = np.empty((*level.shape[:2], 3), level.dtype)
        run_rows(kernels.fill, len(out), level, filled, out)
        filled = out
    result: Pixels = filled
    return result
