"""Looks for people in a few frames of a video, to decide where the network works.

The video is decoded once for it. A few frames a second, and those beside scene cuts,
are compared with earlier ones. Who has moved is looked for nearby; where something has
changed besides, the network sees the frame whole, and larger than in the conversion.
Whatever it takes for a person is looked at once more, by itself.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rematte.conversion.source import open_reader
from rematte.conversion.windows import Box, Moment, join, lay_windows, touch
from rematte.engines.choose import choose_engine, share_models
from rematte.engines.engine import Engine
from rematte.matting.loop import choose_ratio
from rematte.matting.region import Region, Regions, Window, cut
from rematte.options import Options
from rematte.video.frame import Frame, Glance, VideoInfo
from rematte.video.scene_cuts import is_cut
from rematte.video.tone import displayed

# Between looks at the whole frame [s], but at least so many frames; how much more often
# who moves is followed; and how many looks may come sooner.
_EVERY, _LEAST_FRAMES, _OFTEN, _AT_ONCE = Fraction(1), 16, 3, 2
# The longer side of what is looked at [pixels], and after how many such times it is
# looked at though nothing has changed.
_SIDE, _AGAIN = 768, 5
# Side of the copies that tell whether anything changed between looks [pixels], the
# change of a pixel that counts, of the whole range, and how many pixels must change:
# outside of people, and what part of a person's box.
_OUTLINE_SIDE, _CHANGE, _LEAST_CHANGED, _MUCH = 256, 0.06, 5, 0.2
_ALPHA, _SURE = 0.1, 0.5  # where a person may be, and where one is
_CELL, _LEAST = 8, 24  # side of the squares that are joined, and pixels of a person
_SHARE = 0.25  # of the pixels where a person may be, those that are sure
# A closer look at someone: the side of its square [pixels]; what lies around them in it
# and at the sides of who moves, as parts of their height; how much larger they must be
# in it than before. A chair fades there: less than a share of its alpha is found again,
# and of its pixels fewer are sure.
_CLOSE_SIDE, _AROUND, _REACH, _CLOSER = 288, 0.15, 1.0, 1.05
_KEPT, _FIRM = 0.5, 0.75
_FOLLOWED = 4  # people at most, and twice as many are looked at closely


class _Eyes(NamedTuple):
    """What looks.

    Attributes:
        wide: Sees whole frames.
        close: Sees squares around people.
    """

    wide: Engine
    close: Engine


def choose_regions(
    model: Any,
    source: Path,
    options: Options,
    info: VideoInfo,
    progress: bool = False,
    watch: Callable[[], object] = lambda: None,
) -> Regions | None:
    """Decide where the network looks.

    Args:
        model: A loaded network.
        source: The input.
        options: Those of the conversion.
        info: The source.
        progress: Show a bar on stderr.
        watch: Called for each frame; may raise.

    Returns:
        None where it sees whole frames.

    Raises:
        ValueError: If a region that was given does not lie within the frame.
        InputError: If the input cannot be read.
    """
    ratio = choose_ratio(info.width, info.height, options.ratio)
    if isinstance(options.region, tuple):
        return fixed_regions(info.width, info.height, options)
    given = options.downsample_ratio not in (None, "auto")
    if options.region != "auto" or given or ratio == 1:
        return None
    model = share_models(model, options.engine, options.device, options.dtype)
    # Each keeps what it builds for one size.
    eyes = _Eyes(*(
        choose_engine(
            model, engine=options.engine, device=options.device, dtype=options.dtype,
            report=str,
        )
        for _ in range(2)
    ))  # fmt: skip
    with open_reader(source, options, *options.span) as reader:
        glances: Iterator[Glance] = islice(reader.glances(), options.limit)
        shown: Iterable[Glance] = glances
        if progress:  # even a hidden bar would start a thread
            shown = tqdm(
                glances, f"{source.name}: looking for people", unit="frame",
                total=options.limit or info.frames, dynamic_ncols=True, leave=False,
            )  # fmt: skip
        return find_regions(_watched(shown, watch), info, eyes, ratio)


def _watched(
    glances: Iterable[Glance], watch: Callable[[], object]
) -> Iterator[Glance]:
    for glance in glances:
        watch()
        yield glance


def fixed_regions(width: int, height: int, options: Options) -> Regions | None:
    """Give the region of frames of a size where it is given as a rectangle.

    Raises:
        ValueError: If it does not lie within the frame.
    """
    if not isinstance(options.region, tuple):
        return None
    x, y, w, h = options.region
    if x + w > width or y + h > height:
        raise ValueError(
            f"region {x},{y},{w},{h} (--region) reaches beyond the frame, "
            f"which is {width}x{height}; give X,Y,WIDTH,HEIGHT within it"
        )
    window = Window(x, y, (x, y, x + w, y + h))
    region = Region(
        windows=(window,), size=(h, w), ratio=choose_ratio(w, h, options.ratio)
    )
    return Regions((height, width), (region,), ("as given",))


def find_regions(
    glances: Iterable[Glance],
    info: VideoInfo,
    eyes: tuple[Engine, Engine],
    ratio: float,
) -> Regions:
    """Find where the network is to look.

    Args:
        glances: All frames that will be converted.
        info: The source.
        eyes: What runs the network for whole frames, and for squares around people;
            used for nothing else at the same time.
        ratio: Size of the coarse pass for whole frames, in (0, 1].
    """
    frame = info.width, info.height
    regions: list[Region] = []
    why: list[str] = []
    for shot in _shots(glances, info):
        moments = list(_look(shot, _Eyes(*eyes), info))
        laid, reason = lay_windows(moments, frame, ratio)
        regions += laid
        why += [reason] * len(laid)
    if not regions:  # no frame: the conversion says so
        regions, why = [Region()], ["no frame"]
    return Regions((info.height, info.width), tuple(regions), tuple(why))


def _shots(glances: Iterable[Glance], info: VideoInfo) -> Iterator[Iterator[Glance]]:
    """Give those glances of each shot that are looked at.

    A shot begins with its first frame, and its last one is looked at.
    """
    chosen = _Chosen(iter(glances), _between(info))
    while not chosen.ended:
        yield chosen.shot()


def _between(info: VideoInfo) -> Fraction:
    """Give the time between two looks at the whole frame [s]."""
    return max(_EVERY, _LEAST_FRAMES / info.rate)


class _Chosen:
    """Chooses the glances that are looked at.

    Args:
        glances: All of them.
        every: The longest time between two [s]; where frames can be compared without
            decoding more of them, they are chosen more often.
    """

    def __init__(self, glances: Iterator[Glance], every: Fraction) -> None:
        self._glances = glances
        # The frame before, this one and the next; and the changes between them.
        self._near: deque[Glance] = deque(islice(glances, 1), 3)
        self._sketch = _sketch_of(self._near[0]) if self._near else None
        self._every = every if self._sketch is None else every / _OFTEN
        self._changes: deque[float] = deque([0.0], 3)
        self._first = -1  # which of the near ones begins the next shot
        self.ended = not self._near

    def shot(self) -> Iterator[Glance]:
        """Give the glances of the next shot."""
        last = self._near[self._first]
        yield last
        for glance in self._glances:
            self._near.append(glance)
            if self._is_cut(glance):
                before = self._near[0]
                if before is not last:
                    yield before
                self._first = -2  # the frame before this one
                return
            known = self._near[-2]  # to be of this shot
            if known.time - last.time >= self._every:
                yield known
                last = known
        self.ended = True
        if self._near[-1] is not last:
            yield self._near[-1]

    def _is_cut(self, glance: Glance) -> bool:
        """Whether the frame before this one began a scene."""
        now = _sketch_of(glance)
        if now is None or self._sketch is None or now.shape != self._sketch.shape:
            change = 0.0
        else:
            change = float(np.abs(now - self._sketch).mean())
        self._sketch = now
        self._changes.append(change)
        return len(self._changes) == 3 and is_cut(*self._changes)


def _sketch_of(glance: Glance) -> NDArray[np.float32] | None:
    return glance.sketch() if glance.sketch else None


def _look(shot: Iterable[Glance], eyes: _Eyes, info: VideoInfo) -> Iterator[Moment]:
    """Find the boxes around people in the frames of a shot.

    Where nothing has changed outside of them since the last look at the whole frame,
    they are the same people, where they were or have gone to.
    """
    every, count = _between(info), 0
    begin: Fraction | None = None
    looked, boxes, known = Fraction(0), list[Box](), list[Box]()
    whole = last = np.empty((0, 0), np.float32)
    for glance, after in pairwise(chain(shot, (None,))):
        assert glance is not None
        begin = glance.time if begin is None else begin
        now = _outline(glance, info)
        moved = _changed_boxes(last, now, boxes, info)
        there = _follow(glance, eyes, info, moved)
        # Who has come there has changed it.
        there = there and _changed_boxes(last, now, there, info)
        if there:
            boxes = join([each for each in boxes if each not in moved] + there)
            known = known + boxes
        last = now
        lost = there is None or len(there) < len(moved)
        changed = lost or _changed(whole, now, known, info)
        # Some looks at once, and one after each span of time.
        may = count < _AT_ONCE + (glance.time - begin) / every or after is None
        if changed and not may:
            continue  # who is there now is not known
        if changed or glance.time - looked >= _AGAIN * every:
            boxes = _see(glance, eyes, info)
            whole, known, looked, count = now, boxes, glance.time, count + 1
        yield Moment(glance.time, tuple(boxes))


def _follow(
    glance: Glance, eyes: _Eyes, info: VideoInfo, boxes: Sequence[Box]
) -> list[Box] | None:
    """Find where those have gone who were in boxes a little before.

    Returns:
        None where not all of them are seen, or it would not be worth it.
    """
    found: list[Box] = []
    tall = max((box[3] - box[1] for box in boxes), default=0)
    if len(boxes) > _FOLLOWED or tall > info.height / 2:
        return None
    for left, top, right, bottom in boxes:
        reach = round(_REACH * (bottom - top))
        box = max(0, left - reach), top, min(info.width, right + reach), bottom
        seen = _see_close(glance, eyes, info, box)
        if seen == [box]:
            return None
        found += seen
    return join(found)


def _outline(glance: Glance, info: VideoInfo) -> NDArray[np.float32]:
    """Give a small gray copy of a frame, (h, w) in [0, 1]."""
    pixels = _small(glance, info, _OUTLINE_SIDE).pixels
    gray: NDArray[np.float32] = pixels.mean(axis=-1, dtype=np.float32)
    return gray / np.float32(np.iinfo(pixels.dtype).max)


def _inside(outline: NDArray[Any], box: Box, info: VideoInfo) -> NDArray[Any]:
    """Give the part of an outline that shows a box."""
    scale = outline.shape[1] / info.width
    left, top, right, bottom = box
    return outline[
        int(top * scale) : math.ceil(bottom * scale),
        int(left * scale) : math.ceil(right * scale),
    ]


def _changed_boxes(
    before: NDArray[np.float32],
    now: NDArray[np.float32],
    boxes: Iterable[Box],
    info: VideoInfo,
) -> list[Box]:
    """Give the boxes in which much has changed: who was there moves."""
    if before.shape != now.shape:
        return []
    changed = np.abs(now - before) > _CHANGE
    return [box for box in boxes if _inside(changed, box, info).mean() > _MUCH]


def _changed(
    before: NDArray[np.float32],
    now: NDArray[np.float32],
    boxes: Iterable[Box],
    info: VideoInfo,
) -> bool:
    """Whether something has changed outside of boxes that hold people."""
    if before.shape != now.shape:
        return True
    changed = np.abs(now - before) > _CHANGE
    for box in boxes:
        _inside(changed, box, info)[:] = False
    return int(changed.sum()) >= _LEAST_CHANGED


def _see(glance: Glance, eyes: _Eyes, info: VideoInfo) -> list[Box]:
    """Find the boxes around people in a whole frame.

    Whoever is larger in a closer look is looked at once more: a person is found again
    there, and more exactly; what only looks like one is not.
    """
    frame = _small(glance, info, _SIDE)
    # From nothing: who has left since the last look would be seen still.
    alpha = _alpha(eyes.wide, frame)
    scale = info.width / frame.pixels.shape[1]
    boxes = find_boxes(alpha)
    crowd = len(boxes) > 2 * _FOLLOWED
    found = []
    for left, top, right, bottom in boxes:
        seen = scale**2 * float(alpha[top:bottom, left:right].sum())
        box = _scaled((left, top, right, bottom), scale, info)
        found += (
            [box] if crowd else _see_close(glance, eyes, info, box, seen, 1 / scale)
        )
    return join(found)


def _see_close(
    glance: Glance, eyes: _Eyes, info: VideoInfo, box: Box,
    seen: float = 0, coarser: float = 0,
) -> list[Box]:  # fmt: skip
    """Find the boxes around those in and about a box, in a copy of that part.

    Args:
        glance: The frame.
        eyes: What looks.
        info: The source.
        box: Where somebody seems to be.
        seen: Sum of the alpha that tells so [pixels of the frame].
        coarser: The size of the copy that it was seen in, of the frame's.
    """
    sides = box[2] - box[0], box[3] - box[1]
    room = max(24, round(_AROUND * sides[1]))
    scale = min(1.0, _CLOSE_SIDE / (max(sides) + 2 * room))
    if scale < _CLOSER * coarser:
        return [box]
    frame = _small(glance, info, scale * max(info.width, info.height))
    scale = frame.pixels.shape[1] / info.width
    x, y = (
        round((box[axis] + box[axis + 2]) * scale - _CLOSE_SIDE) // 2 for axis in (0, 1)
    )
    square = Window(x, y, (0, 0, 0, 0))
    pixels = cut(frame.pixels, square, (_CLOSE_SIDE, _CLOSE_SIDE))
    alpha = _alpha(eyes.close, replace(frame, pixels=pixels))
    within = alpha[
        int(box[1] * scale) - y : math.ceil(box[3] * scale) - y,
        int(box[0] * scale) - x : math.ceil(box[2] * scale) - x,
    ]
    sure = float((within > _SURE).sum()) / max(1, (within > _ALPHA).sum())
    if within.sum() < _KEPT * seen * scale**2 and sure < _FIRM:
        return []
    boxes = [
        _scaled((x + a, y + b, x + c, y + d), 1 / scale, info)
        for a, b, c, d in find_boxes(alpha)
    ]
    return [each for each in boxes if touch(each, box)] or [box]


def _alpha(engine: Engine, frame: Frame) -> NDArray[np.float32]:
    """Give the alpha of a small frame, (h, w) in [0, 1]."""
    engine.prepare(frame.pixels.shape, 1.0)
    (matted,), _ = engine.step([frame], None)
    alpha = matted.pixels("alpha", False)[..., 0]
    return alpha.astype(np.float32) / np.float32(255)


def _small(glance: Glance, info: VideoInfo, side: float) -> Frame:
    scale = min(1.0, side / max(info.width, info.height))
    size = max(1, round(info.width * scale)), max(1, round(info.height * scale))
    (frame,) = displayed([glance.look(size)], info.colour)
    return replace(frame, original=None)


def _scaled(box: Box, scale: float, info: VideoInfo) -> Box:
    left, top, right, bottom = box
    return (
        max(0, int(left * scale)), max(0, int(top * scale)),
        min(info.width, round(right * scale)), min(info.height, round(bottom * scale)),
    )  # fmt: skip


def find_boxes(alpha: NDArray[np.float32]) -> list[Box]:
    """Find the boxes around connected parts of alpha, (h, w) in [0, 1].

    Parts that are hardly anywhere sure, or hardly larger than noise, are left out.
    """
    height, width = alpha.shape
    rows, columns = -(-height // _CELL), -(-width // _CELL)
    padded = np.zeros((rows * _CELL, columns * _CELL), np.float32)
    padded[:height, :width] = alpha
    squares = padded.reshape(rows, _CELL, columns, _CELL)
    some = (squares > _ALPHA).sum((1, 3))
    sure = (squares > _SURE).sum((1, 3))
    boxes = []
    left = {(int(y), int(x)) for y, x in np.argwhere(some)}
    while left:
        part = _take_part(left)
        count = sum(int(sure[place]) for place in part)
        if count < max(_LEAST, _SHARE * sum(int(some[place]) for place in part)):
            continue
        ys, xs = zip(*part, strict=True)
        top, start = min(ys) * _CELL, min(xs) * _CELL
        inside = alpha[top : (max(ys) + 1) * _CELL, start : (max(xs) + 1) * _CELL]
        down, across = (np.flatnonzero((inside > _ALPHA).any(n)) for n in (1, 0))
        ends = start + int(across[-1]) + 1, top + int(down[-1]) + 1
        boxes.append((start + int(across[0]), top + int(down[0]), *ends))
    return boxes


def _take_part(left: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Take one connected part out of a set of squares."""
    open_ = [left.pop()]
    part = []
    while open_:
        y, x = open_.pop()
        part.append((y, x))
        for place in [(y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1)]:
            if place in left:
                left.remove(place)
                open_.append(place)
    return part
