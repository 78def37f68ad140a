"""Finds the cuts between scenes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, pairwise, takewhile

import av
import numpy as np
from numpy.typing import NDArray

from rematte.video.frame import Frame, Pixels
from rematte.video.pixels import plane_values

Thumbnail = NDArray[np.float32]

SIZE = (64, 36)  # size of the compared pictures
CHANGE = 0.06  # least mean change of a pixel at a cut, as a share of the whole range
_ABOVE = 3.0  # times the change before and after it: motion and flashes are no cuts
# How many frames before and after a cut are compared, when frames come one by one: a
# flash is over by then, and frames that are shown several times have changed.
SPAN = 4
_STEP = 8  # step between the pixels of a sketch


def sketch(picture: av.VideoFrame) -> NDArray[np.float32]:
    """Return some brightness values of a decoded picture, (h, w) in [0, 1].

    Those of planar YUV are taken as they lie in memory, in a tenth of a millisecond.
    """
    parts = picture.format.components
    if picture.format.is_planar and not picture.format.is_rgb and picture.planes:
        luma = plane_values(picture, 0)[: picture.height, : picture.width]
        values: NDArray[np.float32] = luma[::_STEP, ::_STEP].astype(np.float32)
        # Hardware decoders give P010 and the like, whose values are in the upper bits.
        upper = picture.format.name.startswith("p") and luma.itemsize > 1
        return values / np.float32(65535 if upper else (1 << parts[0].bits) - 1)
    small: NDArray[np.float32]
    small = picture.reformat(*SIZE, "gray").to_ndarray().astype(np.float32)
    return small / np.float32(255)


def find_cut(frames: Iterable[Frame]) -> int | None:
    """Find the index of the frame after the sharpest cut; None where there is no cut.

    Frames may be as small as `SIZE`; see `Cuts`.
    """
    pictures = [shrink(frame.pixels) for frame in frames]
    cuts, found = Cuts(), list[tuple[float, int]]()
    for index, picture in enumerate(pictures):
        if cuts.begins(picture, partial(islice, pictures[index + 1 :])):
            found.append((cuts.changes[-1], index))
    return max(found)[1] if found else None


def shrink(pixels: Pixels) -> Thumbnail:
    """Make a small gray picture in [0, 1], of one row in each cell of 64x36.

    It reads a thirtieth of a frame at HD, which takes 0.15 ms.
    """
    height, width = pixels.shape[:2]
    rows = pixels[height // SIZE[1] // 2 :: max(1, height // SIZE[1])]
    cell = max(1, width // SIZE[0])
    rows = rows[:, : width - width % cell].reshape(len(rows), -1, cell * 3)
    small: Thumbnail = rows.mean(axis=2, dtype=np.float32)
    return small / np.float32(np.iinfo(pixels.dtype).max)


def difference(old: Thumbnail, new: Thumbnail) -> float:
    """Return the mean change of a pixel between two small pictures, in [0, 1]."""
    return float(np.abs(new - old).mean())


def same_scene(frames: Sequence[Frame]) -> int:
    """Count the frames before the picture jumps or its size changes.

    A jump is a change much larger than the median change.
    """
    shape = frames[0].pixels.shape
    alike = takewhile(lambda frame: frame.pixels.shape == shape, frames)
    pictures = [shrink(frame.pixels) for frame in alike]
    changes = [difference(*pair) for pair in pairwise(pictures)]
    most = max(CHANGE, _ABOVE * float(np.median(changes or [0.0])))
    jumps = (count for count, change in enumerate(changes, 1) if change > most)
    return next(jumps, len(pictures))


@dataclass
class Cuts:
    """Finds cuts as frames come.

    A cut changes the picture at once, and more than any of the `SPAN` changes before
    and after it, unlike fast motion; and the old picture does not return within `SPAN`
    frames, unlike after a flash. Later frames are needed only after a change of that
    size.

    Attributes:
        picture: The small copy of the last frame; None before the first. A frame of
            another shape is never a cut.
        changes: The last changes, the newest last.
    """

    picture: Thumbnail | None = None
    changes: list[float] = field(default_factory=list)

    def begins(
        self, picture: Thumbnail, ahead: Callable[[int], Iterable[Thumbnail]]
    ) -> bool:
        """Find whether a scene begins with a frame; to be called once for each.

        The frame was made small by `shrink` or `sketch`, and `ahead` gives such copies
        of up to `n` frames that follow it.
        """
        before, self.picture = self.picture, picture
        earlier = self.changes
        if before is None or picture.shape != before.shape:
            self.changes = []
            return False
        change = difference(before, picture)
        self.changes = [*earlier, change][-SPAN:]
        if change <= max(CHANGE, _ABOVE * max(earlier, default=0.0)):
            return False
        alike = takewhile(lambda each: each.shape == picture.shape, ahead(SPAN))
        after = [picture, *alike]
        later = max((difference(*pair) for pair in pairwise(after)), default=change)
        goes_back = any(difference(before, each) < change / 2 for each in after)
        return change > _ABOVE * later and not goes_back
