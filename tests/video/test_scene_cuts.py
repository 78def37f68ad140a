"""Where scenes begin."""

from fractions import Fraction

import numpy as np
import pytest
from fakes import scenes

from rematte.video.frame import Frame, Pixels
from rematte.video.scene_cuts import Cuts, find_cut, shrink


def frames(pictures: list[Pixels]) -> list[Frame]:
    return [Frame(p, Fraction(n, 25), Fraction(1, 25)) for n, p in enumerate(pictures)]


def scene(
    seed: int, count: int, shift: int = 0, dtype: type = np.uint8
) -> list[Pixels]:
    """A still of coarse noise, or one that moves."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 16, 3))
    picture = noise.repeat(4, 0).repeat(4, 1) * (np.iinfo(dtype).max // 255)
    return [np.roll(picture, n * shift, 1).astype(dtype) for n in range(count)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_cut_is_found(dtype: type) -> None:
    assert find_cut(frames(scene(1, 7, dtype=dtype) + scene(2, 5, dtype=dtype))) == 7


def test_the_sharpest_of_two() -> None:
    near = [np.clip(p * 0.8, 0, 255).astype(np.uint8) for p in scene(1, 5)]
    assert find_cut(frames(scene(1, 5) + near + scene(2, 5))) == 10


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 20])
def test_a_scene_has_none(count: int) -> None:
    assert find_cut(frames(scene(1, count))) is None


def test_motion_is_none() -> None:
    assert find_cut(frames(scene(1, 20, shift=3))) is None


def test_a_flash_is_none() -> None:
    flash = [np.full((36, 64, 3), 255, np.uint8)]
    assert find_cut(frames(scene(1, 8) + flash + scene(1, 8))) is None


def test_a_fade_is_none() -> None:
    start, stop = scene(1, 1)[0].astype(float), scene(2, 1)[0].astype(float)
    steps = np.linspace(0, 1, 12)
    faded = [(start + (stop - start) * part).astype(np.uint8) for part in steps]
    assert find_cut(frames(scene(1, 4) + faded + scene(2, 4))) is None


def found_one_by_one(pictures: list[Pixels]) -> list[int]:
    """Cuts that are found as frames come."""
    cuts, shown = Cuts(), [shrink(picture) for picture in pictures]
    return [
        index
        for index, small in enumerate(shown)
        if cuts.begins(small, lambda count, n=index: shown[n + 1 : n + 1 + count])
    ]


@pytest.mark.parametrize("size", [(64, 40), (200, 104), (16, 8)])
def test_cuts_are_found_as_frames_come(size: tuple[int, int]) -> None:
    pictures = scenes(6, 7, 5, 2, size=size)
    assert found_one_by_one(pictures) == [6, 13, 18]
    wide = [picture.astype(np.uint16) * 257 for picture in pictures]
    assert found_one_by_one(wide) == [6, 13, 18]


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_flash_is_no_cut(length: int) -> None:
    pictures = scenes(20)
    for index in range(8, 8 + length):
        pictures[index] = np.clip(pictures[index].astype(int) + 200, 0, 255).astype(
            np.uint8
        )
    assert found_one_by_one(pictures) == []


@pytest.mark.parametrize("speed", [2, 9, 31])
def test_motion_is_no_cut(speed: int) -> None:
    """That begins at once, ends at once, and is shown in pairs of frames."""
    still = scenes(1, size=(64, 40))[0]
    pan = [np.roll(still, speed * n, 1) for n in range(9)]
    held = [each for each in pan for _ in range(2)]
    assert found_one_by_one([still] * 6 + pan + [pan[-1]] * 6) == []
    assert found_one_by_one([still] * 6 + held + [held[-1]] * 6) == []


def test_a_fade_is_no_cut() -> None:
    first, second = scenes(1, 1)
    shares = np.clip((np.arange(24) - 6) / 12, 0, 1)
    mixed = [
        (first * (1 - share) + second * share).astype(np.uint8) for share in shares
    ]
    assert found_one_by_one(mixed) == []
