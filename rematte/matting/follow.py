"""Moves one window with the people, frame by frame, without reading ahead.

The coarse pass keeps its size and the window has the frame's proportions, so a window
needs no engine of its own and costs no more than a whole frame. The window follows the
alpha of the last matte. The rest of the frame is divided into tiles, which are searched
one at a time, first those in which something has changed. While the network runs on the
whole frame, or the window is empty, a larger copy is sometimes searched, which shows
distant people and in which objects are less often taken for people. An empty window
stays where it is, since the network would start again with the whole frame, and take
more things for people.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from rematte.engines.engine import Engine, State
from rematte.matting.boxes import Box, centre, contains, find_boxes, pad, union
from rematte.matting.loop import choose_ratio
from rematte.matting.matte import Matted
from rematte.matting.region import CELL, WHOLE, Region, Window, crop, ratio_for
from rematte.video.frame import Frame
from rematte.video.scene_cuts import CHANGE, Thumbnail, difference, shrink

_TILES = 4  # tiles in a row, and in a column, of the whole frame
# Frames from one search of a tile to the next. Tiles that have changed are searched
# sooner: in a share of the frames on average, and in up to `_AT_ONCE` in a row.
_EVERY, _OFTEN, _AT_ONCE = 2, 0.75, 6
_LEAST_CHANGED = 2  # cells of the small copy that must change
# Frames for which a smaller window must suffice before it is used. The number doubles
# each time that a window turns out too small, up to the maximum.
_WAIT, _MOST_WAIT = 15, 120
_SELDOM = 4  # while the network runs on whole frames, one matte in so many is searched
# How much larger the larger copy is, and how many frames there are between two.
_LARGER, _AGAIN = 1.5, 64
# How much larger than necessary a new window is, and one that replaces a too small one.
_ROOM, _MORE_ROOM = 1.1, 1.3
_WORTH = 0.75  # a smaller window must save a quarter of the pixels
_AHEAD = 2  # frames for which people's last movement is extrapolated


@dataclass
class _Tile:
    """A part of the frame that is searched periodically."""

    window: Window
    picture: Thumbnail  # the small copy of the frame at the last search
    count: int  # the number of that frame
    state: State = None  # the network's recurrent state after the last search
    boxes: list[Box] = field(default_factory=list)  # around people found there


class Follower:
    """A window that follows people as frames come; see `loop.Guide`.

    It starts with the whole frame, and returns to it after a cut, and if a window would
    not save a quarter of the pixels.

    Args:
        detector: The engine of the searches; nothing else may use it meanwhile.
        ratio: Size of the coarse pass for whole frames; see `choose_ratio`. With a
            ratio of 1 there are no windows.
    """

    def __init__(self, detector: Engine, ratio: float | str | None = None) -> None:
        self._detector, self._given = detector, ratio
        self._shape: tuple[int, ...] = ()
        self._region = self._used = WHOLE
        self._people: Box | None = None

    def at(self, frame: Frame, time: Fraction | None = None) -> Region:
        """Return the region of the next frame or, with a time, of the last one."""
        if time is not None:
            return self._used
        if frame.pixels.shape != self._shape:
            self._start(frame)
        self._now = shrink(frame.pixels)
        if difference(self._before, self._now) > CHANGE:
            self._use_whole_frame()
            self._due = self._count
        return self._region

    def _start(self, frame: Frame) -> None:
        """Reset everything for frames of this size."""
        self._shape = frame.pixels.shape
        height, width = self._shape[:2]
        self._frame, self._all = (width, height), (0, 0, width, height)
        self._ratio = choose_ratio(width, height, self._given)
        self._coarse = int(height * self._ratio), int(width * self._ratio)
        # Tiles overlap, so that people at their edges are found.
        rows, columns = (CELL * math.ceil(n / _TILES / CELL + 1) for n in self._coarse)
        self._tile = math.ceil(rows / self._ratio), math.ceil(columns / self._ratio)
        self._can = self._ratio < 1 and min(self._coarse) >= 3 * CELL
        self._before = self._now = self._known = shrink(frame.pixels)
        self._count, self._due, self._credit, self._used = 0, 0, 0.0, WHOLE
        self._use_whole_frame()
        if self._can:
            self._detector.prepare(self._shape, min(1.0, _LARGER * self._ratio))
            self._detector.prepare((*self._tile, self._shape[2]), self._ratio)

    def _use_whole_frame(self) -> None:
        """Return to the whole frame."""
        self._region, self._step = WHOLE, CELL / self._ratio
        self._wait, self._people = _WAIT, None
        self._settle()

    def _settle(self) -> None:
        """Reset the history and the tiles, after the region has changed."""
        self._since, self._recent = self._count, list[tuple[int, Box | None]]()
        self._searched, self._tiles = self._count, list[_Tile]()
        if not self._region.windows:
            return
        height, width = self._tile
        for row in range(_TILES):
            for column in range(_TILES):
                left = column * (self._frame[0] - width) // (_TILES - 1)
                top = row * (self._frame[1] - height) // (_TILES - 1)
                window = Window(left, top, (left, top, left + width, top + height))
                self._tiles.append(_Tile(window, self._now, self._count))

    def learn(self, matted: Matted) -> None:
        """Find the people in a matte, and choose the region of the next frame."""
        self._used, self._before = matted.region, self._now
        self._count += 1
        if not matted.region.windows:
            self._known = self._now
        if not self._can or (not self._region.windows and self._count % _SELDOM):
            return
        if matted.region.windows:
            # There people are large enough to be found at half of the resolution.
            (window,) = matted.region.windows
            boxes = self._boxes(matted, matted.region.ratio / 2, window)
        else:
            boxes = self._boxes(matted, self._ratio)
        if self._region.windows:
            self._search_tile(matted.frame)
            (window,) = self._region.windows
            boxes += [
                box
                for tile in self._tiles
                for box in tile.boxes
                if not contains(window.keep, box)
            ]
        if not (boxes and matted.region.windows):
            boxes = self._search_larger_copy(matted.frame, boxes) or boxes
        self._choose(union(*boxes) if boxes else None, matted.frame.time)

    def _boxes(
        self, matted: Matted, ratio: float, window: Window | None = None
    ) -> list[Box]:
        """Find the boxes around the people in a matte of the frame or of a window.

        A copy of alpha of the size `ratio` is searched; boxes are in pixels of the
        frame.
        """
        window, every = window or Window(0, 0, self._all), max(1, round(1 / ratio))
        (alpha,) = matted.glimpse(every)
        return [
            (
                max(0, window.left + every * left), max(0, window.top + every * top),
                min(self._frame[0], window.left + every * right),
                min(self._frame[1], window.top + every * bottom),
            )
            for left, top, right, bottom in find_boxes(
                alpha[..., 0].astype(np.float32) / np.float32(255)
            )
        ]  # fmt: skip

    def _search_larger_copy(self, frame: Frame, boxes: list[Box]) -> list[Box]:
        """Find the boxes around people in a larger copy, if a search is due.

        That is never the case while somebody, in one of the `boxes` found in the matte,
        fills the frame and no window would help.
        """
        steps = (self._needed(pad(box, self._frame)) for box in boxes)
        if self._count < self._due or not all(map(self._saves, steps)):
            return []
        self._due = self._count + _AGAIN
        ratio = min(1.0, _LARGER * self._ratio)
        self._detector.prepare(self._shape, ratio)
        (matted,), _ = self._detector.step([frame], None)
        self._detector.prepare((*self._tile, self._shape[2]), self._ratio)
        found = self._boxes(matted, ratio)
        if found:  # use them at once, without the wait for several mattes
            self._recent, self._since = [], self._count - self._wait
        return found

    def _search_tile(self, frame: Frame) -> None:
        """Search one tile of the frame, if a search is due."""
        self._credit = min(_AT_ONCE, self._credit + _OFTEN)
        (window,) = self._region.windows
        outside = [
            tile for tile in self._tiles if not contains(window.keep, tile.window.keep)
        ]
        changed = [tile for tile in outside if self._changed(tile, window.keep)]
        if self._credit < 1 or not changed:
            changed = outside if self._count - self._searched >= _EVERY else []
        if not changed:
            return
        tile = min(changed, key=lambda tile: tile.count)
        part = crop(frame, tile.window, self._tile)
        (matted,), tile.state = self._detector.step([part], tile.state)
        # If nothing has changed since the network ran on the whole frame, that matte
        # is right, and a person in the tile is a mistake.
        new = np.abs(self._now - self._known) > CHANGE
        # People within the window are followed by its mattes, which are newer.
        tile.boxes = [
            box
            for box in self._boxes(matted, self._ratio, tile.window)
            if self._part(new, box).any() and not contains(window.keep, box)
        ]
        tile.picture, tile.count, self._searched = self._now, self._count, self._count
        self._credit -= 1

    def _changed(self, tile: _Tile, inside: Box) -> bool:
        """Whether something has changed in a tile, outside the window."""
        changed = np.abs(self._now - tile.picture) > CHANGE
        self._part(changed, inside)[:] = False
        return int(self._part(changed, tile.window.keep).sum()) >= _LEAST_CHANGED

    def _part(self, cells: NDArray[np.bool_], box: Box) -> NDArray[np.bool_]:
        """Return the cells of a small copy that a box covers."""
        down, across = cells.shape[0] / self._frame[1], cells.shape[1] / self._frame[0]
        return cells[
            int(box[1] * down) : math.ceil(box[3] * down),
            int(box[0] * across) : math.ceil(box[2] * across),
        ]

    def _choose(self, people: Box | None, time: Fraction) -> None:
        """Choose the region of the next frame from the box around all people."""
        box = None if people is None else pad(self._lead(people), self._frame)
        self._people = people
        self._recent.append((self._count, box))
        while self._recent[0][0] < self._count - self._wait:
            del self._recent[0]
        if self._region.windows and box is not None:
            (window,) = self._region.windows
            if not contains(window.keep, box):
                step = self._step
                if self._needed(box) > step:
                    self._wait = min(2 * self._wait, _MOST_WAIT)
                    step = self._needed(box) * _MORE_ROOM
                self._use_window(box, step, time)
                return
        if self._count - self._since < self._wait:
            return
        boxes = [each for _, each in self._recent if each is not None]
        if not boxes:
            return
        box = union(*boxes)
        step = self._needed(box) * _ROOM
        if step**2 <= _WORTH * self._step**2:
            self._use_window(box, step, time)

    def _lead(self, people: Box) -> Box:
        """Enlarge the box around people by their movement in the next frames."""
        if self._people is None:
            return people
        most = (people[3] - people[1]) // 2
        ways = [
            min(most, _AHEAD * max(0, sign * (new - old)))
            for sign, new, old in zip((-1, -1, 1, 1), people, self._people, strict=True)
        ]
        left, top, right, bottom = people
        return left - ways[0], top - ways[1], right + ways[2], bottom + ways[3]

    def _needed(self, box: Box) -> int:
        """Return the cell side of the smallest window that holds a box [pixels]."""
        # One cell is spare, since windows are placed on a grid of cells.
        rows, columns = (n // CELL - 1 for n in self._coarse)
        width, height = box[2] - box[0], box[3] - box[1]
        # A ratio of 1 would need another engine: it has no guided filter.
        return max(CELL + 1, -(-width // columns), -(-height // rows))

    def _saves(self, step: int) -> bool:
        """Whether a window with cells of this side [pixels] saves enough."""
        return step**2 <= _WORTH * (CELL / self._ratio) ** 2

    def _use_window(self, box: Box, step: float, time: Fraction) -> None:
        """Use a window around a box, or the whole frame if that saves too little.

        `step` is the least side of a cell of the window [pixels].
        """
        step = math.ceil(step)
        if not self._saves(step):
            wait = self._wait
            self._use_whole_frame()
            self._wait = wait
            return
        height, width = (math.ceil(n * step / CELL) for n in self._coarse)
        left, top = centre(box, (width, height), step, self._frame)
        keep = (
            max(0, left), max(0, top),
            min(self._frame[0], left + width), min(self._frame[1], top + height),
        )  # fmt: skip
        size, other = (height, width), step != self._step
        ratio = ratio_for(size, self._coarse)
        self._region = Region(time, (Window(left, top, keep),), size, ratio)
        self._step = step
        if other:
            self._settle()
