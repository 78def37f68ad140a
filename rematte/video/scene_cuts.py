"""Where one scene ends and the next begins."""

from collections.abc import Iterable
from itertools import pairwise

import av
import numpy as np
from numpy.typing import NDArray

from rematte.video.frame import Frame

SIZE = (64, 36)  # of the pictures that are compared
_CHANGE = 0.06  # mean change of a pixel, of the whole range
_ABOVE = 3.0  # times the change before and after it: motion and flashes are no cuts


_STEP = 8  # pixels between those of a sketch


def sketch(picture: av.VideoFrame) -> NDArray[np.float32]:
    """Give some brightness values of a decoded picture, (h, w) in [0, 1].

    Those of planar YUV are taken as they lie in memory, in a tenth of a millisecond.
    """
    parts = picture.format.components
    if picture.format.is_planar and not picture.format.is_rgb and picture.planes:
        kind = np.uint8 if parts[0].bits <= 8 else np.uint16
        plane = picture.planes[0]
        lines = np.frombuffer(plane, kind).reshape(plane.height, -1)  # type: ignore[call-overload]
        values: NDArray[np.float32]
        values = lines[::_STEP, : plane.width : _STEP].astype(np.float32)
        return values / np.float32((1 << parts[0].bits) - 1)
    small: NDArray[np.float32]
    small = picture.reformat(*SIZE, "gray").to_ndarray().astype(np.float32)
    return small / np.float32(255)


def is_cut(before: float, change: float, after: float) -> bool:
    """Decide whether a change begins a scene.

    Args:
        before: Mean change of a pixel, of the whole range, from the frame before last
            to the last frame.
        change: That from the last frame to this one.
        after: That from this one to the next.
    """
    return change > max(_CHANGE, _ABOVE * max(before, after))


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
        if is_cut(changes[index - 1], change, changes[index + 1])
    ]
    return max(cuts)[1] if cuts else None
