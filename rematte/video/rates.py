"""Converts frame rates by time. Pure: no files and no pictures."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

T = TypeVar("T")
# Anything, with when it is shown [s] and for how long [s].
Shown = tuple[T, Fraction, Fraction]


def at_rate(shown: Iterable[Shown[T]], rate: Fraction) -> Iterator[Shown[T]]:
    """Leave frames out or hold them, so that they come at an even rate.

    The times that come out are multiples of 1 / `rate`, whatever comes first, so that
    a part of a video is converted as the whole is. Each frame shows what the source
    shows in the middle of it, which small errors in the source's times do not change.

    Args:
        shown: Frames that follow each other without a hole.
        rate: Frames per second.
    """
    step = 1 / rate
    count, alone = 0, None
    for thing, time, duration in shown:
        first, past = _first_after(time, rate), _first_after(time + duration, rate)
        for number in range(first, past):
            yield thing, number * step, step
            count += 1
        alone = thing, first * step, step
    if alone is not None and not count:  # all of it is shorter than half a frame
        yield alone


def _first_after(time: Fraction, rate: Fraction) -> int:
    """The first frame whose middle is not before a time."""
    return math.ceil(time * rate - Fraction(1, 2))
