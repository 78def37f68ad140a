"""Where one scene ends and the next begins."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from rematte.video.frame import Frame

SIZE = (64, 36)  # of the pictures that are compared
_CHANGE = 0.06  # mean change of a pixel, of the whole range
_ABOVE = 3.0  # times the change before and after it: motion and flashes are no cuts


def find_cut(frames: Iterable[Frame]) -> int | None:
    """Find the sharpest cut.

    A cut changes the picture at once, and more than before and after, which tells it
    from fast motion; a flash changes it twice.

    Args:
        frames: Small ones will do: see `SIZE`.

    Returns:
        The index of the first frame of the new scene; None where there is no cut with
        two frames before and after it.
    """
    pictures = [
        frame.pixels.mean(axis=-1) / np.iinfo(frame.pixels.dtype).max
        for frame in frames
    ]
    changes = [float(np.abs(new - old).mean()) for old, new in pairwise(pictures)]
    cuts = [
        (change, index + 1)
        for index, change in enumerate(changes[1:-1], 1)
        if change > max(_CHANGE, _ABOVE * max(changes[index - 1], changes[index + 1]))
    ]
    return max(cuts)[1] if cuts else None
