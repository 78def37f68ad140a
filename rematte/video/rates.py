"""Converts frame rates by time, without opening files or seeing pictures."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

T = TypeVar("T")
# An item, the time at which it is shown [s], and its duration [s].
Shown = tuple[T, Fraction, Fraction]


def at_rate(shown: Iterable[Shown[T]], rate: Fraction) -> Iterator[Shown[T]]:
    """Leave frames out or repeat them, to get a constant rate.

    The new times are multiples of 1 / `rate`, whatever the first time is, so that a
    part of a video gets the same frames as the whole. Each frame shows what the source
    shows in the middle of its duration, so small errors in the source's times do not
    matter. The given frames follow each other without gaps.
    """
    step = 1 / rate
    count, alone = 0, None
    for thing, time, duration in shown:
        first, past = _first_after(time, rate), _first_after(time + duration, rate)
        for number in range(first, past):
            yield thing, number * step, step
            count += 1
        alone = thing, first * step, step
    if alone is not None and not count:  # the whole clip is shorter than half a frame
        yield alone


def _first_after(time: Fraction, rate: Fraction) -> int:
    """Return the number of the first frame whose middle is not before a time [s]."""
    return math.ceil(time * rate - Fraction(1, 2))
