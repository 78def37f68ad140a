"""Places windows around the people that were seen in a video.

The boxes around people are known at some moments of a shot. Windows for the time
between two moments hold the boxes of both. All windows of a shot have one size, so that
the network's recurrent state can move with them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, pairwise, permutations, product

from rematte.matting.boxes import Box, area, centre, contains, join, near, pad, union
from rematte.matting.region import CELL, Region, Window, ratio_for

# Shares of a box's height: how near people are who share a window, how near a person
# was who has met others or left them, and how far a person moves in a second.
_BESIDE, _NEAR, _FAST = 0.25, 0.75, 3.5
# Parts that a movement is divided into, and by which share of it people may deviate.
_PARTS, _SLACK = 4, 0.15
_MOST_WINDOWS = 3
# Sides of windows [cells], and the most cells of all windows of a moment. These are
# fewer than the 576 of a whole frame of 512x288, which pays for looking for people. The
# longer side of a whole frame [pixels].
_SIDES = (10, 12, 14, 16, 18, 20, 24, 28, 32, 36)
_MOST_CELLS, _LONG_SIDE = 540, 512
# The least side of a cell [pixels of the frame]. Windows around tiny people are
# enlarged by up to 1.6, since the network then misses fewer hands and feet.
_LEAST_STEP = 10
_STAY = 1.05  # how much coarser a window may be that stands still instead of moving
_WORTH = 0.75  # windows must save a quarter of the frame's pixels


@dataclass(frozen=True)
class Moment:
    """The people found at one moment."""

    time: Fraction  # [s]
    boxes: tuple[Box, ...]  # around each person, or group of people who touch
    empty: bool = False  # whether nobody was there since the previous moment


@dataclass(frozen=True)
class _Size:
    """A size of windows."""

    step: int  # side of a cell [pixels of the frame]
    columns: int  # width [cells]
    rows: int  # height [cells]

    @property
    def width(self) -> int:
        return self.step * self.columns

    @property
    def height(self) -> int:
        return self.step * self.rows

    @property
    def ratio(self) -> float:
        coarse = CELL * self.rows, CELL * self.columns
        return ratio_for((self.height, self.width), coarse)

    def holds(self, corner: tuple[int, int], box: Box) -> bool:
        left, top = corner
        return contains((left, top, left + self.width, top + self.height), box)


def lay_windows(
    moments: Sequence[Moment],
    frame: tuple[int, int],
    whole_ratio: float,
) -> tuple[list[Region], str]:
    """Choose where the network runs during a shot, which starts at the first moment.

    `frame` is the size of frames [pixels], and `whole_ratio` the size of the coarse
    pass for whole frames, in (0, 1].

    Returns:
        The regions of the shot, and what decided them, in words.
    """
    begin = moments[0].time
    if not any(moment.boxes for moment in moments):
        return [Region(begin)], "no people found: the whole frame"
    larger = _larger(frame, whole_ratio)
    plans: list[tuple[float, int, _Size, list[list[Box]]]] = []
    for beside in (_BESIDE, 0):
        times, groups, empty = _follow(moments, frame, beside)
        _hold(groups)
        still = join([box for boxes in groups for box in boxes])
        for most, moves in product(range(1, _MOST_WINDOWS + 1), (False, True)):
            each = [_join_to(boxes, most) for boxes in groups]
            if not moves:
                each = [_join_to(still, most)] * len(groups)
            size = _choose_size(each, larger)
            penalty = _STAY if moves else 1.0
            cells = max(map(len, each)) * size.columns * size.rows
            plans.append((size.step * penalty, cells, size, each))
    _, _, size, each = min(plans, key=lambda plan: plan[:2])
    if not _is_finer(size, whole_ratio):
        return [Region(begin)], "people fill the frame: the whole frame"
    regions = list(_place(times, each, empty, size, frame))
    count = max(map(len, each))
    moves = len({(w.left, w.top) for r in regions for w in r.windows}) > count
    why = f"{count} {'moving ' if moves else ''}window{'s' if count > 1 else ''}"
    return regions, f"{why} of {size.width}x{size.height} around the people"


def fills(box: Box, frame: tuple[int, int], whole_ratio: float) -> bool:
    """Whether a box fills so much of the frame that no window saves enough.

    For `frame` and `whole_ratio` see `lay_windows`.
    """
    size = _choose_size([[pad(box, frame)]], _larger(frame, whole_ratio))
    return not _is_finer(size, whole_ratio)


def _larger(frame: tuple[int, int], whole_ratio: float) -> float:
    """Return how much larger the copy of a whole frame is than usual."""
    return round(whole_ratio * max(frame)) / _LONG_SIDE


def _is_finer(size: "_Size", whole_ratio: float) -> bool:
    return size.step**2 <= _WORTH * (CELL / whole_ratio) ** 2


def _follow(
    moments: Sequence[Moment], frame: tuple[int, int], beside: float
) -> tuple[list[Fraction], list[list[Box]], list[bool]]:
    """Return the boxes that hold people in spans of time.

    Between two moments people are assumed to walk at constant speed, give or take a
    share of the distance.

    Returns:
        For each span its start, the boxes, and whether nobody is there.
    """
    times, groups, empty = [], [], []
    for now, later in pairwise(moments if len(moments) > 1 else [*moments, *moments]):
        fast = max(_NEAR, _FAST * min(1.0, float(later.time - now.time)))
        pairs, others = _match(now.boxes, later.boxes, frame, fast)
        parts = _PARTS if any(_way(*pair) for pair in pairs) else 1
        for part in range(parts):
            boxes = others + [_on_the_way(*pair, part, parts) for pair in pairs]
            padded = [pad(box, frame) for box in join(boxes, beside)]
            groups.append(join(padded, 0))
            times.append(now.time + (later.time - now.time) * part / parts)
            empty.append(later.empty)
    return times, groups, empty


def _match(
    now: Sequence[Box], later: Sequence[Box], frame: tuple[int, int], fast: float
) -> tuple[list[tuple[Box, Box]], list[Box]]:
    """Find who is who at two moments.

    Returns:
        Pairs of boxes of the same people, and the boxes of people who come, go, meet or
        part, stretched to where they come from.
    """
    pairs = []
    gone, come = list(now), list(later)
    for _, one, other in sorted(
        (area(union(one, other)) - area(one) - area(other), one, other)
        for one in now
        for other in later
        if near(one, other, fast) and _alike(one, other)
    ):
        if one in gone and other in come:
            gone.remove(one)
            come.remove(other)
            pairs.append((one, other))
    # It is not known who crosses whom, so both ways are tried.
    moving = [pair for pair in pairs if _way(*pair)]
    crossed = [
        union(one, other)
        for (one, _), (_, other) in permutations(moving, 2)
        if near(one, other, fast) and _alike(one, other)
    ]
    others = crossed + [
        box if any(near(box, each, _NEAR) for each in there) else _to_edge(box, frame)
        for left, there in ((gone, later), (come, now))
        for box in left
    ]
    return pairs, others


def _alike(one: Box, other: Box) -> bool:
    """Whether two boxes are about as tall."""
    heights = sorted((one[3] - one[1], other[3] - other[1]))
    return heights[1] < 1.5 * heights[0]


def _way(one: Box, other: Box) -> int:
    """Return how far a box moves [pixels], or 0 if that is little for its size."""
    way = max(abs(a - b) for a, b in zip(one, other, strict=True))
    return way if way > 0.5 * (one[2] - one[0]) else 0


def _on_the_way(one: Box, other: Box, part: int, parts: int) -> Box:
    """Return the box that holds someone during a part of the way between two boxes."""
    if parts == 1:
        return union(one, other)
    slack = round(_SLACK * _way(one, other))
    ends = [
        tuple(
            round(a + (b - a) * share / parts) for a, b in zip(one, other, strict=True)
        )
        for share in (part, part + 1)
    ]
    left, top, right, bottom = union(*ends)  # type: ignore[arg-type]
    return left - slack, top - slack, right + slack, bottom + slack


def _hold(groups: list[list[Box]]) -> None:
    """Replace moments without people by where people were before or come later."""
    for indices in (range(1, len(groups)), range(len(groups) - 2, -1, -1)):
        for index in indices:
            if not groups[index]:
                groups[index] = groups[index - 1 if indices.step > 0 else index + 1]


def _to_edge(box: Box, frame: tuple[int, int]) -> Box:
    """Stretch the box of someone who comes or goes to the side, if it is near."""
    left, top, right, bottom = box
    width = frame[0]
    if min(left, width - right) > 0.4 * width:
        return box
    if left < width - right:
        return 0, top, right, bottom
    return left, top, width, bottom


def _join_to(boxes: Sequence[Box], most: int) -> list[Box]:
    """Join boxes, starting with the smallest union, until few enough are left."""
    left = list(boxes)
    while len(left) > most:
        pairs = combinations(left, 2)
        _, one, other = min((area(union(*pair)), *pair) for pair in pairs)
        left.remove(one)
        left.remove(other)
        left = join([*left, union(one, other)], 0)
    return left


def _choose_size(groups: Sequence[Sequence[Box]], larger: float) -> _Size:
    """Find the finest size that holds every box, and the smallest such size.

    There is one box per window at each time; sides may be `larger` times the usual.
    """
    width = max(box[2] - box[0] for boxes in groups for box in boxes)
    height = max(box[3] - box[1] for boxes in groups for box in boxes)
    count = max(map(len, groups))
    sides = sorted({*_SIDES, *(round(side * larger) for side in _SIDES)})
    sizes = []
    for columns, rows in product(sides, repeat=2):
        if columns * rows * count <= _MOST_CELLS * larger**2:
            # A cell of room, since windows stand on a grid.
            least = -(-width // (columns - 1)), -(-height // (rows - 1))
            sizes.append(_Size(max(_LEAST_STEP, *least), columns, rows))
    return min(sizes, key=lambda size: (size.step, size.columns * size.rows))


def _place(
    times: Sequence[Fraction],
    groups: Sequence[Sequence[Box]],
    empty: Sequence[bool],
    size: _Size,
    frame: tuple[int, int],
) -> Iterator[Region]:
    """Yield the regions of a shot; a window stays while its people are within it."""
    corners: list[tuple[int, int]] = []
    before: tuple[Window, ...] | None = None
    for time, boxes, nobody in zip(times, groups, empty, strict=True):
        if nobody:
            if before != ():
                yield Region(time, empty=True)
            before = ()
            continue
        free, corners = corners, []
        for box in boxes:
            corner = next((each for each in free if size.holds(each, box)), None)
            if corner is None:
                corner = centre(box, (size.width, size.height), size.step, frame)
            else:
                free = [each for each in free if each != corner]
            corners.append(corner)
        windows = _split(corners, boxes, size, frame)
        if windows != before:
            shape = size.height, size.width
            yield Region(time, windows, shape, size.ratio, restart=not before)
        before = windows


def _split(
    corners: Sequence[tuple[int, int]],
    boxes: Sequence[Box],
    size: _Size,
    frame: tuple[int, int],
) -> tuple[Window, ...]:
    """Make windows; those that overlap are divided by a line between their boxes."""
    keeps = [
        [max(0, left), max(0, top),
         min(frame[0], left + size.width), min(frame[1], top + size.height)]
        for left, top in corners
    ]  # fmt: skip
    for one, other in combinations(range(len(keeps)), 2):
        gaps = [
            (boxes[b][axis] - boxes[a][axis + 2], axis, a, b)
            for axis in (0, 1)
            for a, b in ((one, other), (other, one))
        ]
        gap, axis, a, b = max(gaps)
        line = boxes[a][axis + 2] + gap // 2
        keeps[a][axis + 2] = min(keeps[a][axis + 2], line)
        keeps[b][axis] = max(keeps[b][axis], line)
    return tuple(
        Window(left, top, (keep[0], keep[1], keep[2], keep[3]))
        for (left, top), keep in zip(corners, keeps, strict=True)
    )
