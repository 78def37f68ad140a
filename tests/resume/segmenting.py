"""What the tests of segments share: a clip, and what is read of a video."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from conftest import make_clip
from fakes import colours, read_all

RATIO: dict[str, Any] = {"downsample_ratio": 1, "progress": False}


def frames(path: Path) -> list[tuple[Fraction, Fraction, bytes]]:
    """Time, duration and pixels of every frame."""
    shown, _ = read_all(path, alpha=True)
    return [(f.time, f.duration, f.pixels.tobytes()) for f in shown]


def uneven(count: int) -> list[Fraction]:
    """Times [s] with steps of 1 to 3 sixtieths, not from 0."""
    steps = [1 + (7 * index) % 3 for index in range(count)]
    return [Fraction(3 + sum(steps[:index]), 60) for index in range(count)]


@pytest.fixture
def place(here: Path) -> Path:
    """A folder with a clip of ten frames, not evenly timed, and sound."""
    make_clip(
        here / "in.mp4", colours(), times=uneven(10), time_base=Fraction(1, 600),
        sound=True, sound_seconds=0.6, subtitles=[(0.1, 0.3, "words")],
        chapters=[(0, 0.3, "one")],
    )  # fmt: skip
    return here
