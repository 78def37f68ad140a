"""What windows promise: everybody is inside, and they cost no more than the frame."""

import random
from fractions import Fraction

import pytest

from rematte.conversion.windows import Box, Moment, fills, lay_windows
from rematte.matting.region import CELL, Region

FRAME = 1920, 1080
RATIO = 512 / 1920


def moments(*boxes: tuple[Box, ...]) -> list[Moment]:
    return [Moment(Fraction(n), each) for n, each in enumerate(boxes)]


def person(left: int, top: int, height: int = 220) -> Box:
    return left, top, left + height * 2 // 5, top + height


def anybody(draw: random.Random, height: int = 220) -> Box:
    return person(draw.randint(0, 1700), draw.randint(0, 800), height)


def at(regions: list[Region], time: Fraction) -> Region:
    return [region for region in regions if region.since <= time][-1]


def holds(region: Region, box: Box) -> bool:
    """Whether a window keeps all of a box, with the room it must have."""

    def room(side: int) -> int:
        return max(24, round(0.12 * side))

    x, y = room(box[2] - box[0]), room(box[3] - box[1])
    wanted = (
        max(0, box[0] - x), max(0, box[1] - y),
        min(FRAME[0], box[2] + x), min(FRAME[1], box[3] + y),
    )  # fmt: skip
    return any(
        keep[0] <= wanted[0] and keep[1] <= wanted[1]
        and keep[2] >= wanted[2] and keep[3] >= wanted[3]
        for keep in (window.keep for window in region.windows)
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_everybody_is_inside_when_seen_and_just_before(seed: int) -> None:
    draw = random.Random(seed)
    seen = [
        tuple(anybody(draw, draw.randint(60, 270)) for _ in range(draw.randint(0, 3)))
        for _ in range(draw.randint(1, 6))
    ]
    regions, why = lay_windows(moments(*seen), FRAME, RATIO)
    assert why
    assert regions[0].since == 0
    for index, boxes in enumerate(seen):
        for time in (Fraction(index), max(Fraction(0), index - Fraction(1, 100))):
            region = at(regions, time)
            assert not region.windows or all(holds(region, box) for box in boxes)


@pytest.mark.parametrize("seed", range(40))
def test_windows_are_alike_apart_and_on_a_grid(seed: int) -> None:
    draw = random.Random(seed)
    seen = [(anybody(draw), anybody(draw)) for _ in range(4)]
    regions, _ = lay_windows(moments(*seen), FRAME, RATIO)
    if not regions[0].windows:
        return
    height, width = regions[0].size
    step = round(CELL / regions[0].ratio)
    assert height % step == width % step == 0
    assert int(height * regions[0].ratio) == height // step * CELL
    assert int(width * regions[0].ratio) == width // step * CELL
    for region in regions:
        assert (region.size, region.ratio) == (regions[0].size, regions[0].ratio)
        cells = len(region.windows) * (height // step) * (width // step)
        assert cells * CELL**2 <= 512 * 288
        assert len({(w.left % step, w.top % step) for w in region.windows}) == 1
        for n, one in enumerate(region.windows):
            left, top, right, bottom = one.keep
            assert one.left <= left < right <= one.left + width
            assert one.top <= top < bottom <= one.top + height
            for other in region.windows[n + 1 :]:
                a, b = one.keep, other.keep
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_who_stays_gets_one_window_that_stays() -> None:
    seen = [(person(900 + n % 3, 400),) for n in range(5)]
    regions, why = lay_windows(moments(*seen), FRAME, RATIO)
    assert len(regions) == 1
    assert 1 < regions[0].ratio < 1.7  # enlarged
    assert "1 window of" in why


def test_who_may_cost_more_is_seen_finer() -> None:
    seen = [((100, 300, 1300, 700),)] * 2
    usual, finer = (lay_windows(moments(*seen), FRAME, n * RATIO)[0][0] for n in (1, 2))
    assert finer.ratio > 1.5 * usual.ratio


def test_people_far_apart_get_windows_of_their_own() -> None:
    seen = [(person(100, 400), person(1700, 500))] * 2
    (region,), _ = lay_windows(moments(*seen), FRAME, RATIO)
    assert len(region.windows) == 2


def test_a_window_waits_for_who_comes_later() -> None:
    nobody: tuple[Box, ...] = ()
    seen = [nobody, nobody, (person(60, 400),), (person(200, 400),)]
    regions, _ = lay_windows(moments(*seen), FRAME, RATIO)
    (window,) = at(regions, Fraction(3, 2)).windows
    assert window.keep[0] == 0  # they come from the left
    assert regions[0].windows


@pytest.mark.parametrize("boxes", [(), (person(400, 10, 1060),), ((0, 0, 1900, 1000),)])
def test_the_whole_frame_is_seen_where_little_is_spared(boxes: tuple[Box, ...]) -> None:
    (region,), why = lay_windows(moments(boxes, boxes), FRAME, RATIO)
    assert not region.windows or region.size[0] * region.size[1] < 0.8 * 1920 * 1080
    if not boxes:
        assert "no people" in why


@pytest.mark.parametrize("seed", range(20))
def test_one_who_fills_the_frame_decides_for_the_whole_shot(seed: int) -> None:
    draw = random.Random(seed)
    large = person(draw.randint(0, 900), 0, draw.randint(500, 1080))
    others = (anybody(draw, 150),)
    alone, _ = lay_windows(moments((large,), (large,)), FRAME, RATIO)
    assert fills(large, FRAME, RATIO) == (not alone[0].windows)
    if fills(large, FRAME, RATIO):
        with_others, _ = lay_windows(moments(others, (large,), others), FRAME, RATIO)
        assert not any(region.windows for region in with_others)
