"""Sources for `convert_video`, and what the fake network makes of them."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_clip
from fakes import colours, decode, read, save_images, sound
from numpy.typing import NDArray
from PIL import Image

GREEN = 120, 255, 155


@pytest.fixture
def clip() -> Path:
    """Ten frames of 32x24 at 25 per second, with sound."""
    return make_clip(Path("in.mp4"), colours(), sound=True)


@pytest.fixture
def still() -> Path:
    Image.fromarray(colours(1)[0]).save("in.png")
    return Path("in.png")


@pytest.fixture
def shots() -> Path:
    """A folder of twelve images, of which the last ones have two digits."""
    return save_images(Path("shots"), colours(12))


def truth(source: Path, memory: float = 0.5) -> Iterator[tuple[NDArray[Any], ...]]:
    """Foreground (3) and alpha (1) of `Fake` for every frame, in [0, 1]."""
    state = None
    for frame in read(source):
        src = frame.pixels / 255
        red = src[..., :1]
        state = red if state is None else memory * state + (1 - memory) * red
        yield 1 - src, state


def over(colour: Any, fgr: NDArray[Any], pha: NDArray[Any]) -> NDArray[Any]:
    """The composition in 8-bit levels, not rounded."""
    mixed: NDArray[Any] = 255 * fgr * pha + np.asarray(colour) * (1 - pha)
    return mixed


def differ(a: NDArray[Any], b: NDArray[Any]) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).max())


def is_alpha(target: Any, source: Path, most: float = 0.51) -> None:
    """Check that a video without loss holds the alpha of `Fake`."""
    for got, (_, pha) in zip(decode(target), truth(source), strict=True):
        assert differ(got[..., :1], 255 * pha) <= most


def is_over(target: Any, source: Path, behind: list[Any], most: float = 0.51) -> None:
    """Check that a video holds the composition of `Fake` over what is behind.

    The last of what is behind is there for all frames that follow, too.
    """
    pairs = zip(decode(target), truth(source), strict=True)
    for n, (got, (fgr, pha)) in enumerate(pairs):
        back = behind[min(n, len(behind) - 1)]
        assert differ(got, over(back, fgr, pha)) <= most


def audible(path: Any) -> list[tuple[Fraction, bytes]]:
    """A file's sound, of which there must be some."""
    packets = sound(path)
    assert packets
    return packets
