"""Warm-up: what the first frames of a scene start from, and where scenes begin."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fakes import Fake, as_frames, colours, scenes
from numpy.typing import NDArray

from rematte.engines.module import ModuleEngine
from rematte.matting.loop import Memory, choose_warmup, matte, run
from rematte.matting.matte import Matted
from rematte.matting.region import Region, Regions, Window
from rematte.video.frame import Frame

STEP = Fraction(1, 25)
Pictures = list[NDArray[Any]]


def mattes_of(frames: list[Frame], chunk: int = 1, **options: Any) -> list[Matted]:
    return list(run(ModuleEngine(Fake(), chunk=chunk), frames, **options))


def alphas(mattes: list[Matted]) -> list[NDArray[np.float32]]:
    """Alpha of each, (H, W) in [0, 1]."""
    return [each.pixels("alpha", True)[..., 0] / np.float32(65535) for each in mattes]


def means(shown: Pictures) -> list[NDArray[np.float32]]:
    """What the fake gives for frames that are shown to it in this order."""
    return alphas(mattes_of(as_frames(shown)))


def in_two(frames: list[Frame], end: int, *chunk: int, **options: Any) -> list[Matted]:
    """A run that is stopped, and goes on with what it remembers."""
    options["memory"] = Memory()
    parts = mattes_of(
        frames, *chunk, is_past=lambda frame: frame.time >= end * STEP, **options
    )
    return parts + mattes_of(frames[end:], *chunk, **options)


def same(one: list[NDArray[np.float32]], other: list[NDArray[np.float32]]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(np.allclose(a, b, rtol=0, atol=2e-5) for a, b in pairs)


@pytest.mark.parametrize("chunk", [1, 2, 3, 99])
@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_the_first_frames_are_shown_backwards(count: int, chunk: int) -> None:
    pictures = colours(count)
    lead = min(4, count)
    found = mattes_of(as_frames(pictures), chunk, warmup=4)
    assert [matted.frame.time for matted in found] == [n * STEP for n in range(count)]
    expected = means([*pictures[:lead][::-1], *pictures])[lead:]
    assert same(alphas(found), expected)


def test_without_warmup_nothing_changes() -> None:
    """Not at cuts either, which are marked all the same where that is asked for."""
    frames = as_frames(scenes(7, 8))
    today = list(matte(Fake(), frames))
    for options in ({}, {"warmup": 0}, {"warmup": 0, "cuts": True}):
        found = mattes_of(frames, **options)
        for one, other in zip(found, today, strict=True):
            assert one.frame is other.frame
            assert same(alphas([one]), alphas([other]))
        marked = [n for n, matted in enumerate(found) if matted.cut]
        assert marked == ([7] if "cuts" in options else [])


@pytest.mark.parametrize("chunk", [1, 3, 99])
@pytest.mark.parametrize("first", [1, 2, 7])
def test_after_a_cut_all_is_as_if_the_scene_were_alone(first: int, chunk: int) -> None:
    pictures = scenes(first, 8, 6)
    found = mattes_of(as_frames(pictures), chunk, warmup=5)
    assert [n for n, each in enumerate(found) if each.cut] == [first, first + 8]
    apart = [
        alpha
        for start, end in pairwise([0, first, first + 8, first + 14])
        for alpha in alphas(mattes_of(as_frames(pictures[start:end]), warmup=5))
    ]
    assert same(alphas(found), apart)


def test_every_size_is_warmed_up_with_its_own_frames() -> None:
    small, large = colours(4, (8, 6)), colours(1, (10, 6))
    found = mattes_of(as_frames([*small, *large, *small]), 3, warmup=6)
    assert [m.frame.pixels.shape[1] for m in found] == [8] * 4 + [10] + [8] * 4
    assert not any(matted.cut for matted in found)
    alone = alphas(mattes_of(as_frames(small), warmup=6))
    assert same(alphas(found)[:4], alone)
    assert same(alphas(found)[5:], alone)


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("warmup", [0, 3, 12])
def test_parts_are_as_the_whole(warmup: int, chunk: int) -> None:
    """Wherever a run is stopped, with what it remembers the next one goes on."""
    frames = as_frames(scenes(9, 7))
    options = {"warmup": warmup, "cuts": True}
    whole = mattes_of(frames, chunk, **options)
    for border in range(1, len(frames)):
        parts = in_two(frames, border, chunk, **options)
        assert [each.cut for each in parts] == [each.cut for each in whole]
        assert [each.frame.time for each in parts] == [f.time for f in frames]
        assert same(alphas(parts), alphas(whole))


def test_no_more_frames_are_held_than_are_needed() -> None:
    """Frames are read ahead at the start and at a cut, and not otherwise."""
    read: list[int] = []

    def source() -> Iterator[Frame]:
        for index, frame in enumerate(as_frames(scenes(20, 20))):
            read.append(index)
            yield frame

    ahead = [
        len(read) - index - 1
        for index, _ in enumerate(run(ModuleEngine(Fake()), source(), warmup=6))
    ]
    assert ahead[0] == 5
    assert ahead[6:20] == [0] * 14
    assert ahead[20] == 5
    assert ahead[26:] == [0] * 14


def test_large_frames_are_warmed_up_with_fewer() -> None:
    assert choose_warmup("auto", (1080, 1920, 3)) == 8
    assert choose_warmup("auto", (2160, 3840, 3)) == 8
    assert choose_warmup("auto", (4320, 7680, 3)) == 2
    assert choose_warmup("auto", (8640, 15360, 3)) == 1
    assert choose_warmup(40, (2160, 3840, 3)) == 40


def test_a_flash_in_the_warmup_ends_it() -> None:
    pictures = scenes(8)
    pictures[3] = np.full_like(pictures[3], 255)
    found = mattes_of(as_frames(pictures), warmup=6)
    assert same(alphas(found), means([*pictures[2::-1], *pictures])[3:])


def windows(*corners: tuple[int, int]) -> tuple[Window, ...]:
    return tuple(Window(x, y, (x, y, x + 16, y + 16)) for x, y in corners)


# Two scenes of nine and seven frames; windows move within the first.
REGIONS = Regions(
    (40, 64),
    tuple(
        Region(first * STEP, windows(*corners), (16, 16), 1.0, restart)
        for first, corners, restart in (
            (0, [(0, 0), (48, 16)], True),
            (3, [(16, 0), (48, 0)], False),
            (9, [(32, 16)], True),
        )
    ),
)


@pytest.mark.parametrize("warmup", [0, 2, 6])
def test_windows_are_warmed_up_and_go_on_as_the_whole(warmup: int) -> None:
    frames = as_frames(scenes(9, 7))
    options: dict[str, Any] = {"warmup": warmup, "cuts": True, "regions": REGIONS}
    whole = mattes_of(frames, **options)
    for border in range(1, len(frames)):
        parts = in_two(frames, border, **options)
        assert [each.cut for each in parts] == [each.cut for each in whole]
        assert same(alphas(parts), alphas(whole))
    # A window shows what whole frames do, but for what came in when it moved.
    shown = min(warmup, 3)
    pictures = [each.pixels for each in frames]
    expected = means([*pictures[:shown][::-1], *pictures[:3]])[shown:]
    for found, alpha in zip(alphas(whole[:3]), expected, strict=True):
        assert same([found[:16, :16]], [alpha[:16, :16]])
    last = alphas(mattes_of(frames[9:], warmup=warmup))
    for found, alpha in zip(alphas(whole[9:]), last, strict=True):
        assert same([found[16:32, 32:48]], [alpha[16:32, 32:48]])
