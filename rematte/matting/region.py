"""Regions of interest: the parts of the frames that the network sees.

A region is a set of windows of one size that share no pixels of the result. Windows
move in whole steps of the network's coarsest cell, so the recurrent state can be moved
with them exactly, and parts of the picture that stand still are computed alike before
and after a step.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rematte.video.frame import Frame, Pixels

# Side of the coarsest cell of the network [pixels of the coarse pass].
CELL = 16


@dataclass(frozen=True)
class Window:
    """A part of the frame that the network sees.

    It may lie partly outside the frame, whose last pixels are repeated there.
    """

    left: int  # edge [pixels]
    top: int
    # Left, top, right and bottom [pixels] of the part that the result takes from it;
    # within the frame and within the window.
    keep: tuple[int, int, int, int]


@dataclass(frozen=True)
class Region:
    """The windows from one moment on.

    Attributes:
        since: When it starts [s].
        windows: Where the network runs; empty for the whole frame.
        size: Height and width of each window [pixels].
        ratio: Size of the coarse pass within a window, in (0, 2].
        restart: Whether the recurrent state starts empty here, as after a cut.
        empty: Whether nobody is there: alpha is 0, and the network does not run.
    """

    since: Fraction = Fraction(0)
    windows: tuple[Window, ...] = ()
    size: tuple[int, int] = (0, 0)
    ratio: float = 1.0
    restart: bool = False
    empty: bool = False


WHOLE = Region()


@dataclass(frozen=True)
class Regions:
    """The regions of a video, in order of time."""

    # Height and width of the frames they are for [pixels]; frames of another size are
    # seen whole.
    shape: tuple[int, int]
    regions: tuple[Region, ...]  # at least one
    why: tuple[str, ...] = ()  # the reason for each region, in words

    @cached_property
    def _starts(self) -> list[Fraction]:
        return [region.since for region in self.regions]

    def at(self, frame: Frame, time: Fraction | None = None) -> Region:
        """Return the region of a frame, or of one like it at another time [s]."""
        if frame.pixels.shape[:2] != self.shape:
            return WHOLE
        time = frame.time if time is None else time
        return self.regions[max(0, bisect_right(self._starts, time) - 1)]

    def learn(self, matted: object) -> None:
        """Do nothing: all regions are known."""

    def usual(self, ratio: float) -> float:
        """Return the ratio of the first windows or, without any, the given one."""
        return next((each.ratio for each in self.regions if each.windows), ratio)

    def as_json(self) -> list[dict[str, Any]]:
        """Describe the regions as JSON values."""
        return [
            {**asdict(region), "since": str(region.since), "why": why}
            for region, why in zip(self.regions, self.why, strict=True)
        ]

    @classmethod
    def from_json(
        cls, shape: tuple[int, int], described: Sequence[dict[str, Any]]
    ) -> "Regions":
        """Make the regions that `as_json` described."""
        regions = []
        for each in described:
            windows = tuple(
                Window(w["left"], w["top"], tuple(w["keep"])) for w in each["windows"]
            )
            since, size = Fraction(each["since"]), tuple(each["size"])
            how = each["ratio"], each["restart"], each.get("empty", False)
            regions.append(Region(since, windows, size, *how))
        why = tuple(each["why"] for each in described)
        return cls((shape[0], shape[1]), tuple(regions), why)


def ratio_for(size: tuple[int, int], coarse: tuple[int, int]) -> float:
    """Return the downsample ratio that shrinks a frame or window to a given size.

    Both sizes are height and width [pixels].
    """
    ratio = max(small / side for small, side in zip(coarse, size, strict=True))
    # The network rounds the size of the coarse pass down.
    while any(int(n * ratio) < few for n, few in zip(size, coarse, strict=True)):
        ratio = math.nextafter(ratio, 2)
    return ratio


def cut(pixels: Pixels, window: Window, size: tuple[int, int]) -> Pixels:
    """Cut a window out of the pixels of a whole frame, (H, W, C).

    Beyond the edge the last pixels are repeated. `size` is the height and width of the
    window [pixels].
    """
    height, width = pixels.shape[:2]
    rows = window.top, window.top + size[0]
    columns = window.left, window.left + size[1]
    part = pixels[max(0, rows[0]) : rows[1], max(0, columns[0]) : columns[1]]
    beyond = [
        (max(0, -first), max(0, last - most))
        for (first, last), most in ((rows, height), (columns, width))
    ]
    if any(map(any, beyond)):
        return np.pad(part, [*beyond, (0, 0)], mode="edge")
    return np.ascontiguousarray(part)


def crop(frame: Frame, window: Window, size: tuple[int, int]) -> Frame:
    """Cut a window out of a frame with its own alpha."""
    alpha = None if frame.alpha is None else cut(frame.alpha, window, size)
    pixels = cut(frame.pixels, window, size)
    return replace(frame, pixels=pixels, alpha=alpha, original=None)


def move_states(
    states: Sequence[Sequence[NDArray[Any]]],
    before: Sequence[Window],
    after: Sequence[Window],
    size: tuple[int, int],
) -> list[list[NDArray[Any]]]:
    """Move recurrent states from some windows to others, whole cells away.

    The states of each window are maps of it, (1, C, h, w), or other values, which are
    not moved. What no window saw before is 0, as at the start. `size` is the height and
    width of all windows [pixels].
    """
    moved = []
    for new in after:
        fresh = [np.zeros_like(each) for each in states[0]]
        for old, state in zip(before, states, strict=True):
            for source, target in zip(state, fresh, strict=True):
                if source.ndim < 3:
                    continue
                # Rounded: some sizes are no whole number of cells.
                down = round((old.top - new.top) * source.shape[-2] / size[0])
                right = round((old.left - new.left) * source.shape[-1] / size[1])
                _paste(source, target, down, right)
        moved.append(fresh)
    return moved


def _paste(source: NDArray[Any], target: NDArray[Any], down: int, right: int) -> None:
    """Copy (..., h, w) into an array of its size, moved and cut off at the edge."""
    height, width = source.shape[-2:]
    if abs(down) >= height or abs(right) >= width:
        return
    rows, columns = (max(0, down), max(0, -down)), (max(0, right), max(0, -right))
    h, w = height - abs(down), width - abs(right)
    target[..., rows[0] : rows[0] + h, columns[0] : columns[0] + w] = source[
        ..., rows[1] : rows[1] + h, columns[1] : columns[1] + w
    ]
