"""Searches sampled frames of a video for people, to decide where the network runs.

The video is decoded once for this. A few frames a second, and those beside scene cuts,
are sampled and compared with earlier ones. People who have moved are searched for
nearby. If anything else has changed, the whole frame is searched at a higher resolution
than in the conversion, and each person found is checked in a close-up. Once somebody
fills the frame, the search stops until the next cut.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rematte.conversion.model import make_engine
from rematte.conversion.report import Bar
from rematte.conversion.source import open_reader
from rematte.conversion.windows import Moment, fills, lay_windows
from rematte.engines.choose import share_models
from rematte.engines.engine import Engine
from rematte.matting.boxes import ALPHA, SURE, Box, find_boxes, join, near
from rematte.matting.loop import choose_ratio
from rematte.matting.region import Region, Regions, Window, crop
from rematte.options import Options
from rematte.video import scene_cuts
from rematte.video.frame import Frame, LazyFrame, VideoInfo
from rematte.video.scene_cuts import CHANGE, SIZE, SPAN, Cuts, difference
from rematte.video.tone import displayed

# The time between searches of the whole frame [s], and the fewest frames; how much more
# often people who move are tracked; and how many searches may come early.
_EVERY, _LEAST_FRAMES, _OFTEN, _AT_ONCE = Fraction(1), 16, 3, 2
# The longer side of the copy for searches of the whole frame [pixels], and after how
# many times `_EVERY` the frame is searched although nothing has changed.
_SIDE, _AGAIN = 768, 5
# The longer side of the gray copies that are compared between searches [pixels]; the
# least change of a pixel that counts, as a share of the whole range; how many pixels
# must change outside of people; and which share of a person's box.
_OUTLINE_SIDE, _CHANGE, _LEAST_CHANGED, _MUCH = 256, 0.06, 5, 0.2
# A close-up of a person: the side of its square [pixels]; the margin around them, and
# beside people who move, as shares of their height; and how much larger than before
# they must appear. A chair fades there: less than `_KEPT` of its alpha is found again,
# and less than `_FIRM` of its pixels are certain.
_CLOSE_SIDE, _AROUND, _REACH, _CLOSER = 288, 0.15, 1.0, 1.05
_KEPT, _FIRM = 0.5, 0.75
_FOLLOWED = 4  # the most people who are tracked; up to twice as many get close-ups


# A sampled frame, and the time of the last frame, up to its own, that is like the
# previous sample [s].
_Chosen = tuple[LazyFrame, Fraction]


def choose_regions(
    model: Any,
    source: Path,
    options: Options,
    info: VideoInfo,
    progress: bool = False,
    watch: Callable[[], object] = lambda: None,
) -> Regions | None:
    """Decide where the network runs; None for whole frames.

    `watch` is called for each frame, and may raise to stop.
    """
    if not is_found(options, info.width, info.height):
        return fixed_regions(info.width, info.height, options)
    ratio = choose_ratio(info.width, info.height, options.ratio)
    model = share_models(model, options.engine, options.device, options.dtype)
    engines = make_engine(model, options, str), make_engine(model, options, str)
    with open_reader(source, options, *options.span) as reader:
        bar = Bar(
            islice(reader.lazy_frames(), options.limit),
            f"{source.name}: looking for people", unit="frame",
            total=options.limit or info.frames, disable=not progress,
            dynamic_ncols=True, leave=False,
        )  # fmt: skip
        return find_regions(_watched(bar, watch), info, engines, ratio)


def is_found(options: Options, width: int, height: int) -> bool:
    """Whether to search for people in frames of this size."""
    ratio = choose_ratio(width, height, options.ratio)
    chosen = options.downsample_ratio in (None, "auto")
    return options.region == "auto" and chosen and ratio < 1


def _watched(
    candidates: Iterable[LazyFrame], watch: Callable[[], object]
) -> Iterator[LazyFrame]:
    for candidate in candidates:
        watch()
        yield candidate


def fixed_regions(width: int, height: int, options: Options) -> Regions | None:
    """Return the rectangle that the options name, or None; it must be in the frame."""
    if not isinstance(options.region, tuple):
        return None
    x, y, w, h = options.region
    if x + w > width or y + h > height:
        raise ValueError(
            f"region {x},{y},{w},{h} (--region) reaches beyond the frame, "
            f"which is {width}x{height}; give X,Y,WIDTH,HEIGHT within it"
        )
    window = Window(x, y, (x, y, x + w, y + h))
    ratio = choose_ratio(w, h, options.ratio)
    region = Region(Fraction(0), (window,), (h, w), ratio)
    return Regions((height, width), (region,), ("as given",))


def find_regions(
    candidates: Iterable[LazyFrame],
    info: VideoInfo,
    engines: tuple[Engine, Engine],
    ratio: float,
) -> Regions:
    """Find where the network is to run, from all frames that will be converted.

    One engine is for whole frames and one for close-ups, since each caches what it
    builds for one size; nothing else may use them meanwhile. `ratio` is the size of the
    coarse pass for whole frames, in (0, 1].
    """
    frame = info.width, info.height
    regions: list[Region] = []
    why: list[str] = []
    shots, search = _Shots(iter(candidates), info), _Search(engines, info)
    while not shots.ended:
        shot, moments = shots.shot(), list[Moment]()
        for moment in search.moments(shot):
            moments.append(moment)
            if any(fills(box, frame, ratio) for box in moment.boxes):
                break
        deque(shot, maxlen=0)  # up to the next cut
        laid, reason = lay_windows(moments, frame, ratio)
        regions += laid
        why += [reason] * len(laid)
    if not regions:  # the conversion reports that there is no frame
        regions, why = [Region()], ["no frame"]
    return Regions((info.height, info.width), tuple(regions), tuple(why))


def _between(info: VideoInfo) -> Fraction:
    """Return the time between two searches of the whole frame [s]."""
    return max(_EVERY, _LEAST_FRAMES / info.rate)


class _Shots:
    """Chooses the frames of each shot that are searched.

    More are chosen if frames have sketches, which are cheap to compare.
    """

    def __init__(self, candidates: Iterator[LazyFrame], info: VideoInfo) -> None:
        self._candidates, self._held = candidates, deque[LazyFrame]()
        self._cuts, self._every = Cuts(), _between(info)
        self._first = next(candidates, None)  # the first frame of the next shot
        if self._first is not None and self._first.sketch:
            self._cuts.begins(self._first.sketch(), self._sketches)
            self._every /= _OFTEN

    @property
    def ended(self) -> bool:
        """Whether all shots have been searched."""
        return self._first is None

    def shot(self) -> Iterator[_Chosen]:
        """Choose frames of the next shot, including its first and last."""
        last, self._first = self._first, None
        assert last is not None
        yield last, last.time
        before, still = self._cuts.picture, last.time
        # Frames since then; of those with sketches, which hold memory, only the last.
        passed = [last]
        while self._held or self._more(1):
            candidate = self._held.popleft()
            if candidate.sketch and self._cuts.begins(
                candidate.sketch(), self._sketches
            ):
                self._first = candidate
                break
            now = self._cuts.picture
            if before is not None and now is not None and still == passed[-1].time:
                same = _changes(before, now).sum() < _LEAST_CHANGED
                still = candidate.time if same else still
            passed = [candidate] if candidate.sketch else [*passed, candidate]
            due = candidate.time - last.time >= self._every
            if not candidate.sketch and (due or not (self._held or self._more(1))):
                self._more(SPAN - len(self._held))
                count = _count_before_cut(passed, list(islice(self._held, SPAN)))
                if count < len(passed):
                    self._first, *later = passed[count:]
                    self._held.extendleft(reversed(later))
                    del passed[count:]
                    break
            if due:
                yield candidate, still
                if still != candidate.time:
                    before, still = now, candidate.time
                last, passed = candidate, [candidate]
        if passed[-1] is not last:
            yield passed[-1], still

    def _sketches(self, count: int) -> Iterator[NDArray[np.float32]]:
        """Return the sketches of the next frames."""
        self._more(count - len(self._held))
        return (each.sketch() for each in self._held if each.sketch)

    def _more(self, count: int) -> bool:
        """Read up to `count` more frames; return whether there was one."""
        before = len(self._held)
        self._held.extend(islice(self._candidates, max(0, count)))
        return len(self._held) > before


def _count_before_cut(
    candidates: Sequence[LazyFrame], later: Sequence[LazyFrame]
) -> int:
    """Count the frames before a cut; all of them if there is none.

    A binary search for the cut decodes few of them. `later` are those that follow.
    """

    def picture(index: int) -> NDArray[np.float32]:
        return scene_cuts.shrink(candidates[index].convert(SIZE).pixels)

    old, new = 0, len(candidates) - 1
    before, after = picture(old), picture(new)
    if difference(before, after) <= CHANGE:
        return len(candidates)
    while new - old > 1:
        middle = (old + new) // 2
        between = picture(middle)
        if difference(before, between) < difference(between, after):
            old, before = middle, between
        else:
            new, after = middle, between
    if difference(before, after) <= CHANGE:
        return len(candidates)
    first = max(0, old - SPAN)
    near = [*candidates[first:], *later][: new + SPAN + 1 - first]
    cut = scene_cuts.find_cut(candidate.convert(SIZE) for candidate in near)
    return len(candidates) if cut is None else first + cut


def _changes(
    before: NDArray[np.float32], now: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return which pixels of a small gray copy have changed: all if its size has."""
    if before.shape != now.shape:
        return np.ones(now.shape, bool)
    changed: NDArray[np.bool_] = np.abs(now - before) > _CHANGE
    return changed


class _Search:
    """Searches chosen frames for people; for `engines` see `find_regions`."""

    def __init__(self, engines: tuple[Engine, Engine], info: VideoInfo) -> None:
        self._whole, self._close_up = engines
        self._info = info

    def moments(self, shot: Iterable[_Chosen]) -> Iterator[Moment]:
        """Find the boxes around people in the frames of a shot.

        If nothing outside the people has changed since the last search of the whole
        frame, they are the same people, who are tracked if they move. If nothing at all
        has changed since a search without a trace of anybody, nobody is there.
        """
        every, count, empty = _between(self._info), 0, False
        begin: Fraction | None = None
        searched = reported = Fraction(0)
        boxes, known = list[Box](), list[Box]()
        whole = last = np.empty((0, 0), np.float32)
        for chosen, after in pairwise(chain(shot, (None,))):
            assert chosen is not None
            candidate, still = chosen
            if empty and reported < still < candidate.time:
                yield Moment(still, (), empty)
            empty = empty and still == candidate.time
            begin = candidate.time if begin is None else begin
            now = self._outline(candidate)
            changes = _changes(last, now)
            moved = self._moving(changes, boxes)
            there = self._follow(candidate, moved)
            # Keep only the boxes that have changed, where somebody may have appeared.
            there = there and self._moving(changes, there)
            if there:
                boxes = join([each for each in boxes if each not in moved] + there)
                known = known + boxes
            last = now
            lost = there is None or len(there) < len(moved)
            changed = lost or self._changed_outside(_changes(whole, now), known)
            # A few early searches, then one per interval.
            may = count < _AT_ONCE + (candidate.time - begin) / every or after is None
            if changed and not may:
                empty = False
                continue  # it is unknown who is there
            before = empty
            if changed or candidate.time - searched >= _AGAIN * every:
                boxes, empty = self._search_whole(candidate)
                whole, known = now, boxes
                searched, count = candidate.time, count + 1
            reported = candidate.time
            yield Moment(reported, tuple(boxes), before and not boxes)

    def _follow(self, candidate: LazyFrame, boxes: Sequence[Box]) -> list[Box] | None:
        """Find where the people who were in these boxes shortly before have moved.

        Returns:
            Their boxes; None if some are not found, or if they are too many or too
            large for close-ups to be cheaper than one search of the whole frame.
        """
        found: list[Box] = []
        tall = max((box[3] - box[1] for box in boxes), default=0)
        if len(boxes) > _FOLLOWED or tall > self._info.height / 2:
            return None
        for left, top, right, bottom in boxes:
            reach = round(_REACH * (bottom - top))
            end = min(self._info.width, right + reach)
            box = max(0, left - reach), top, end, bottom
            seen = self._search_close_up(candidate, box)
            if seen == [box]:
                return None
            found += seen
        return join(found)

    def _search_whole(self, candidate: LazyFrame) -> tuple[list[Box], bool]:
        """Find the boxes around people in a whole frame.

        Each person who would appear larger in a close-up gets one, which locates them
        more exactly; objects that only resemble a person vanish in it.

        Returns:
            The boxes, and whether there is no trace of anybody, not even a weak one.
        """
        frame = self._small(candidate, _SIDE)
        # Without a state, which would still show people who have left since then.
        alpha = _alpha(self._whole, frame)
        scale = self._info.width / frame.pixels.shape[1]
        boxes = find_boxes(alpha)
        found = []
        for left, top, right, bottom in boxes:
            box = self._scaled((left, top, right, bottom), scale)
            if len(boxes) > 2 * _FOLLOWED:
                found.append(box)
                continue
            seen = scale**2 * float(alpha[top:bottom, left:right].sum())
            found += self._search_close_up(candidate, box, seen, 1 / scale)
        return join(found), not (alpha > ALPHA).any()

    def _search_close_up(
        self, candidate: LazyFrame, box: Box, seen: float = 0, coarser: float = 0
    ) -> list[Box]:
        """Find the boxes around people in and near a box, in a square copy of it.

        `seen` is the sum of alpha within the box in the previous pass, in pixels of the
        frame, and `coarser` the scale of the copy in that pass, relative to the frame.
        """
        sides = box[2] - box[0], box[3] - box[1]
        whole = max(sides) + 2 * max(24, round(_AROUND * sides[1]))
        scale = min(1.0, _CLOSE_SIDE / whole)
        if scale < _CLOSER * coarser:
            return [box]
        frame = self._small(candidate, scale * max(self._info.width, self._info.height))
        scale = frame.pixels.shape[1] / self._info.width
        x, y = (round((box[n] + box[n + 2]) * scale - _CLOSE_SIDE) // 2 for n in (0, 1))
        part = crop(frame, Window(x, y, (0, 0, 0, 0)), (_CLOSE_SIDE, _CLOSE_SIDE))
        alpha = _alpha(self._close_up, part)
        within = alpha[
            int(box[1] * scale) - y : math.ceil(box[3] * scale) - y,
            int(box[0] * scale) - x : math.ceil(box[2] * scale) - x,
        ]
        sure = float((within > SURE).sum()) / max(1, (within > ALPHA).sum())
        if within.sum() < _KEPT * seen * scale**2 and sure < _FIRM:
            return []
        boxes = [
            self._scaled((x + a, y + b, x + c, y + d), 1 / scale)
            for a, b, c, d in find_boxes(alpha)
        ]
        return [each for each in boxes if near(each, box, 0)] or [box]

    def _outline(self, candidate: LazyFrame) -> NDArray[np.float32]:
        """Return a small gray copy of a frame, (h, w) in [0, 1]."""
        pixels = self._small(candidate, _OUTLINE_SIDE).pixels
        gray: NDArray[np.float32] = pixels.mean(axis=-1, dtype=np.float32)
        return gray / np.float32(np.iinfo(pixels.dtype).max)

    def _inside(self, outline: NDArray[Any], box: Box) -> NDArray[Any]:
        """Return the part of an outline within a box."""
        scale = outline.shape[1] / self._info.width
        left, top, right, bottom = box
        return outline[
            int(top * scale) : math.ceil(bottom * scale),
            int(left * scale) : math.ceil(right * scale),
        ]

    def _moving(self, changed: NDArray[np.bool_], boxes: Iterable[Box]) -> list[Box]:
        """Return the boxes in which much has changed, since the person moves."""
        return [box for box in boxes if self._inside(changed, box).mean() > _MUCH]

    def _changed_outside(
        self, changed: NDArray[np.bool_], boxes: Iterable[Box]
    ) -> bool:
        """Whether something has changed outside the boxes that hold people."""
        for box in boxes:
            self._inside(changed, box)[:] = False
        return int(changed.sum()) >= _LEAST_CHANGED

    def _small(self, candidate: LazyFrame, side: float) -> Frame:
        info = self._info
        scale = min(1.0, side / max(info.width, info.height))
        size = max(1, round(info.width * scale)), max(1, round(info.height * scale))
        (frame,) = displayed([candidate.convert(size)], info.colour)
        return replace(frame, original=None)

    def _scaled(self, box: Box, scale: float) -> Box:
        left, top = (max(0, int(side * scale)) for side in box[:2])
        right, bottom = (round(side * scale) for side in box[2:])
        return left, top, min(self._info.width, right), min(self._info.height, bottom)


def _alpha(engine: Engine, frame: Frame) -> NDArray[np.float32]:
    """Return the alpha of a small frame, (h, w) in [0, 1]."""
    engine.prepare(frame.pixels.shape, 1.0)
    (matted,), _ = engine.step([frame], None)
    alpha = matted.pixels("alpha", False)[..., 0]
    return alpha.astype(np.float32) / np.float32(255)
