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

from rematte.conversion.report import Bar
from rematte.conversion.source import open_reader
from rematte.conversion.windows import Moment, lay_windows
from rematte.engines.choose import choose_engine, share_models
from rematte.engines.engine import Engine
from rematte.matting.boxes import ALPHA, SURE, Box, find_boxes, join, touch
from rematte.matting.loop import choose_ratio
from rematte.matting.region import Region, Regions, Window, crop
from rematte.options import Options
from rematte.video.frame import Frame, Glance, VideoInfo
from rematte.video.scene_cuts import Cuts
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
    if not is_found(options, info.width, info.height):
        return fixed_regions(info.width, info.height, options)
    ratio = choose_ratio(info.width, info.height, options.ratio)
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
        bar = Bar(
            glances, f"{source.name}: looking for people", unit="frame",
            total=options.limit or info.frames, disable=not progress,
            dynamic_ncols=True, leave=False,
        )  # fmt: skip
        return find_regions(_watched(bar, watch), info, eyes, ratio)


def is_found(options: Options, width: int, height: int) -> bool:
    """Whether the region is to be found, and frames are large enough for one."""
    ratio = choose_ratio(width, height, options.ratio)
    chosen = options.downsample_ratio in (None, "auto")
    return options.region == "auto" and chosen and ratio < 1


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
        self._glances, self._held = glances, deque[Glance]()
        self._cuts, self._every = Cuts(), every
        self._first = next(glances, None)  # of the next shot
        if self._first is not None and self._first.sketch:
            self._cuts.begins(self._first.sketch(), self._sketches)
            self._every /= _OFTEN

    @property
    def ended(self) -> bool:
        """Whether no shot is left."""
        return self._first is None

    def shot(self) -> Iterator[Glance]:
        """Give the glances of the next shot."""
        last, self._first = self._first, None
        assert last is not None
        yield last
        before = last
        while self._held or self._more(1):
            glance = self._held.popleft()
            if glance.sketch and self._cuts.begins(glance.sketch(), self._sketches):
                self._first = glance
                break
            if glance.time - last.time >= self._every:
                yield glance
                last = glance
            before = glance
        if before is not last:
            yield before

    def _sketches(self, count: int) -> Iterator[NDArray[np.float32]]:
        """Give the sketches of the next glances."""
        self._more(count - len(self._held))
        return (each.sketch() for each in self._held if each.sketch)

    def _more(self, count: int) -> bool:
        """Decode up to so many glances; give whether there was one."""
        before = len(self._held)
        self._held.extend(islice(self._glances, max(0, count)))
        return len(self._held) > before


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
    alpha = _alpha(eyes.close, crop(frame, square, (_CLOSE_SIDE, _CLOSE_SIDE)))
    within = alpha[
        int(box[1] * scale) - y : math.ceil(box[3] * scale) - y,
        int(box[0] * scale) - x : math.ceil(box[2] * scale) - x,
    ]
    sure = float((within > SURE).sum()) / max(1, (within > ALPHA).sum())
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
