"""Where scenes begin."""

from fractions import Fraction

import numpy as np
import pytest

from rematte.video.frame import Frame, Pixels
from rematte.video.scene_cuts import find_cut


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
