"""Where scenes begin."""

import numpy as np
import pytest
from fakes import as_frames, scenes

from rematte.video.frame import Pixels
from rematte.video.scene_cuts import Cuts, find_cut, shrink


def scene(seed: int, count: int, by: int = 0, dtype: type = np.uint8) -> list[Pixels]:
    """A still of coarse noise, or one that moves."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 16, 3))
    picture = noise.repeat(4, 0).repeat(4, 1) * (np.iinfo(dtype).max // 255)
    return [np.roll(picture, n * by, 1).astype(dtype) for n in range(count)]


def found_one_by_one(pictures: list[Pixels]) -> list[int]:
    """Cuts that are found as frames come."""
    cuts, shown = Cuts(), [shrink(picture) for picture in pictures]
    return [
        index
        for index, small in enumerate(shown)
        if cuts.begins(small, lambda count, n=index: shown[n + 1 : n + 1 + count])
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_cut_is_found(dtype: type) -> None:
    pictures = scene(1, 7, dtype=dtype) + scene(2, 5, dtype=dtype)
    assert find_cut(as_frames(pictures)) == 7


def test_the_sharpest_of_two() -> None:
    near = [np.clip(p * 0.8, 0, 255).astype(np.uint8) for p in scene(1, 5)]
    assert find_cut(as_frames(scene(1, 5) + near + scene(2, 5))) == 10


@pytest.mark.parametrize("size", [(64, 40), (200, 104), (16, 8)])
def test_cuts_are_found_as_frames_come(size: tuple[int, int]) -> None:
    pictures = scenes(6, 7, 5, 2, size=size)
    assert found_one_by_one(pictures) == [6, 13, 18]
    wide = [picture.astype(np.uint16) * 257 for picture in pictures]
    assert found_one_by_one(wide) == [6, 13, 18]


def flash(length: int) -> list[Pixels]:
    pictures = scenes(20)
    for index in range(8, 8 + length):
        brighter = np.clip(pictures[index].astype(int) + 200, 0, 255)
        pictures[index] = brighter.astype(np.uint8)
    return pictures


def pan(speed: int, repeat: int) -> list[Pixels]:
    """Motion that begins at once and ends at once; each picture is shown so often."""
    (still,) = scenes(1)
    moving = [np.roll(still, speed * n, 1) for n in range(9) for _ in range(repeat)]
    return [still] * 6 + moving + moving[-1:] * 6


def fade() -> list[Pixels]:
    first, second = scenes(1, 1)
    shares = np.clip((np.arange(24) - 6) / 12, 0, 1)
    return [(first * (1 - n) + second * n).astype(np.uint8) for n in shares]


NO_CUT = {
    **{f"{count} frames": scene(1, count) for count in (0, 1, 2, 3, 4, 20)},
    **{f"flash of {length}": flash(length) for length in (1, 2, 3, 4)},
    **{f"pan by {n} {m} times": pan(n, m) for n in (2, 9, 31) for m in (1, 2)},
    "motion": scene(1, 20, by=3),
    "fade": fade(),
}


@pytest.mark.parametrize("pictures", NO_CUT.values(), ids=NO_CUT)
def test_stills_motion_flashes_and_fades_are_no_cuts(pictures: list[Pixels]) -> None:
    assert find_cut(as_frames(pictures)) is None
    assert found_one_by_one(pictures) == []
