"""Looks for people in a few frames of a video, to decide where the network works.

The video is decoded once for it. A frame a second, and those beside scene cuts, are
compared with the last look; where something has changed besides the people known, the
network sees the frame whole, and larger than in the conversion.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rematte.conversion.source import open_reader
from rematte.conversion.windows import Box, Moment, lay_windows, touch
from rematte.engines.choose import choose_engine
from rematte.engines.engine import Engine, State
from rematte.matting.loop import choose_ratio
from rematte.matting.region import Region, Regions, Window
from rematte.options import Options
from rematte.video.frame import Frame, Glance, VideoInfo
from rematte.video.scene_cuts import is_cut
from rematte.video.tone import displayed

_EVERY = Fraction(1)  # between looks [s], but at least so many frames:
_LEAST_FRAMES = 16
# The longer side of what is looked at [pixels], and the height that people should have
# there: at first, and every few looks, smaller ones are looked at in a larger copy.
_SIDE, _LARGE_SIDE, _SMALL, _AGAIN = 768, 1280, 72, 5
# Side of the copies that tell whether anything changed between looks [pixels], the
# change of a pixel that counts, of the whole range, and how many pixels must change:
# outside of people, and what part of a person's box.
_OUTLINE_SIDE, _CHANGE, _LEAST_CHANGED, _MUCH = 256, 0.06, 5, 0.2
_ALPHA, _SURE = 0.1, 0.5  # where a person may be, and where one is
_CELL, _LEAST = 8, 24  # side of the squares that are joined, and pixels of a person
_SHARE = 0.25  # of the pixels where a person may be, those that are sure


def choose_regions(
    model: Any,
    source: Path,
    options: Options,
    info: VideoInfo,
    progress: bool = False,
) -> Regions | None:
    """Decide where the network looks.

    Args:
        model: A loaded network.
        source: The input.
        options: Those of the conversion.
        info: The source.
        progress: Show a bar on stderr.

    Returns:
        None where it sees whole frames.

    Raises:
        ValueError: If a region that was given does not lie within the frame.
        InputError: If the input cannot be read.
    """
    ratio = choose_ratio(info.width, info.height, options.downsample_ratio)
    if isinstance(options.region, tuple):
        region = _fixed(options.region, info, options)
        return Regions((info.height, info.width), (region,), ("as given",))
    given = options.downsample_ratio not in (None, "auto")
    if options.region != "auto" or given or ratio == 1:
        return None
    engine = choose_engine(
        model, engine=options.engine, device=options.device, dtype=options.dtype,
        report=str,
    )  # fmt: skip
    with open_reader(source, options, *options.span) as reader:
        glances: Iterator[Glance] = islice(reader.glances(), options.limit)
        bar = tqdm(
            glances, f"{source.name}: looking for people", unit="frame",
            total=options.limit or info.frames, disable=not progress,
            dynamic_ncols=True, leave=False,
        )  # fmt: skip
        return find_regions(bar, info, engine, ratio)


def _fixed(
    given: tuple[int, int, int, int], info: VideoInfo, options: Options
) -> Region:
    x, y, width, height = given
    if x + width > info.width or y + height > info.height:
        raise ValueError(
            f"region {x},{y},{width},{height} (--region) reaches beyond the frame, "
            f"which is {info.width}x{info.height}; give X,Y,WIDTH,HEIGHT within it"
        )
    ratio = choose_ratio(width, height, options.downsample_ratio)
    window = Window(x, y, (x, y, x + width, y + height))
    return Region(windows=(window,), size=(height, width), ratio=ratio)


def find_regions(
    glances: Iterable[Glance],
    info: VideoInfo,
    engine: Engine,
    ratio: float,
) -> Regions:
    """Find where the network is to look.

    Args:
        glances: All frames that will be converted.
        info: The source.
        engine: What runs the network; used for nothing else at the same time.
        ratio: Size of the coarse pass for whole frames, in (0, 1].
    """
    frame = info.width, info.height
    regions: list[Region] = []
    why: list[str] = []
    for shot in _shots(glances, info):
        moments = list(_look(shot, engine, info))
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
    chosen = _Chosen(iter(glances), max(_EVERY, _LEAST_FRAMES / info.rate))
    while not chosen.ended:
        yield chosen.shot()


class _Chosen:
    """Chooses the glances that are looked at.

    Args:
        glances: All of them.
        every: The longest time between two [s].
    """

    def __init__(self, glances: Iterator[Glance], every: Fraction) -> None:
        self._glances, self._every = glances, every
        # The frame before, this one and the next; and the changes between them.
        self._near: deque[Glance] = deque(islice(glances, 1), 3)
        self._sketch = _sketch_of(self._near[0]) if self._near else None
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
            if glance.time - last.time >= self._every:
                yield glance
                last = glance
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


def _look(shot: Iterable[Glance], engine: Engine, info: VideoInfo) -> Iterator[Moment]:
    """Find the boxes around people in the frames of a shot.

    Where nothing has changed outside of them since the last look, they are the same.
    """
    states: dict[int, State] = {}
    side, count, boxes = _SIDE, 0, list[Box]()
    seen: NDArray[np.float32] | None = None
    for index, glance in enumerate(shot):
        now = _outline(glance, info)
        if seen is None or index % _AGAIN == 0 or _changed(seen, now, boxes, info):
            boxes = _see(glance, engine, info, side, states)
            tall = _least_height(boxes, info)
            if side == _SIDE and tall < _SMALL and count % _AGAIN == 0:
                more = _see(glance, engine, info, _LARGE_SIDE, states)
                # Who is seen by it alone needs it on.
                side = _SIDE if _all_known(more, boxes) else _LARGE_SIDE
                boxes = boxes + more
            seen, count = now, count + 1
        yield Moment(glance.time, tuple(boxes))


def _outline(glance: Glance, info: VideoInfo) -> NDArray[np.float32]:
    """Give a small gray copy of a frame, (h, w) in [0, 1]."""
    pixels = _small(glance, info, _OUTLINE_SIDE).pixels
    gray: NDArray[np.float32] = pixels.mean(axis=-1, dtype=np.float32)
    return gray / np.float32(np.iinfo(pixels.dtype).max)


def _changed(
    before: NDArray[np.float32],
    now: NDArray[np.float32],
    boxes: Iterable[Box],
    info: VideoInfo,
) -> bool:
    """Whether something has changed outside of boxes that hold people, or much in one.

    Who leaves changes all that was behind them, and nothing elsewhere.
    """
    if before.shape != now.shape:
        return True
    changed = np.abs(now - before) > _CHANGE
    scale = now.shape[1] / info.width
    for left, top, right, bottom in boxes:
        inside = changed[
            int(top * scale) : math.ceil(bottom * scale),
            int(left * scale) : math.ceil(right * scale),
        ]
        if inside.mean() > _MUCH:
            return True
        inside[:] = False
    return int(changed.sum()) >= _LEAST_CHANGED


def _all_known(boxes: Iterable[Box], known: Iterable[Box]) -> bool:
    """Whether each of some boxes touches one that is known."""
    known = list(known)
    return all(any(touch(box, each) for each in known) for box in boxes)


def _least_height(boxes: Iterable[Box], info: VideoInfo) -> float:
    """Height of the smallest box in the usual look [pixels], or 0 without any."""
    scale = min(1.0, _SIDE / max(info.width, info.height))
    return scale * min((box[3] - box[1] for box in boxes), default=0)


def _see(
    glance: Glance, engine: Engine, info: VideoInfo, side: int, states: dict[int, State]
) -> list[Box]:
    """Find the boxes around people in a copy of a frame whose longer side is given."""
    frame = _small(glance, info, side)
    engine.prepare(frame.pixels.shape, 1.0)
    (matted,), states[side] = engine.step([frame], states.get(side))
    alpha = matted.pixels("alpha", False)[..., 0].astype(np.float32)
    alpha /= 255
    boxes = find_boxes(alpha)
    scale = info.width / frame.pixels.shape[1]
    return [_scaled(box, scale, info) for box in boxes]


def _small(glance: Glance, info: VideoInfo, side: int) -> Frame:
    scale = min(1.0, side / max(info.width, info.height))
    size = max(1, round(info.width * scale)), max(1, round(info.height * scale))
    (frame,) = displayed([glance.look(size)], info.colour)
    return replace(frame, original=None)


def _scaled(box: Box, scale: float, info: VideoInfo) -> Box:
    left, top, right, bottom = box
    return (
        int(left * scale), int(top * scale),
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
