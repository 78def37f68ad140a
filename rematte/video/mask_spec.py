"""Parses masks (pictures, videos, boxes, polygons) and the choice of a person.

Nothing heavy is imported here, since `rematte --help` needs this module.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import isfinite
from pathlib import Path

from rematte.video.values import parse_time

Point = tuple[float, float]

GRAMMAR = (
    "a picture or a video (white is inside), a box X,Y,WIDTH,HEIGHT or a polygon "
    "points:X,Y X,Y X,Y..., each with @FROM-TO to limit it in time [s]; or a shape "
    "that moves, SHAPE@TIME;SHAPE@TIME"
)


@dataclass(frozen=True)
class MaskSpec:
    """A mask as the user gave it."""

    text: str  # what the user wrote
    # A picture or a video that is white within the mask; None for a shape.
    file: Path | None = None
    # The corners of a shape [pixels] at some times [s], in order of time.
    keys: tuple[tuple[Fraction, tuple[Point, ...]], ...] = ()
    since: Fraction = Fraction(0)  # the first time at which the mask holds [s]
    # The time from which it no longer holds [s]; None if it holds to the end.
    until: Fraction | None = None

    def holds(self, time: Fraction) -> bool:
        """Whether the mask holds at a time of the source [s]."""
        return self.since <= time and (self.until is None or time < self.until)

    def corners(self, time: Fraction) -> list[Point]:
        """Interpolate the corners of a shape [pixels] linearly to a time [s]."""
        index = bisect_right([when for when, _ in self.keys], time)
        begin, one = self.keys[max(0, index - 1)]
        end, other = self.keys[min(index, len(self.keys) - 1)]
        share = float((time - begin) / (end - begin)) if begin < end else 0.0
        return [
            (x + share * (to_x - x), y + share * (to_y - y))
            for (x, y), (to_x, to_y) in zip(one, other, strict=True)
        ]


def parse_masks(name: str, given: str | Path | Sequence[str | Path]) -> list[MaskSpec]:
    """Parse one mask or several; `GRAMMAR` says what each may be.

    Raises:
        ValueError: If one is neither a shape nor an existing file; `name` is the
            option's name there.
    """
    each = [given] if isinstance(given, str | Path) else given
    try:
        return [_parse(str(text)) for text in each]
    except ValueError as error:
        raise ValueError(f"{name} {error}; it takes {GRAMMAR}") from error


def _parse(text: str) -> MaskSpec:
    if text and Path(text).exists():
        return MaskSpec(text, Path(text))
    shapes = [part.rpartition("@")[::2] for part in text.split(";")]
    if len(shapes) > 1:
        keys = [(_time(when), _corners(shape)) for shape, when in shapes]
        if any(one[0] >= other[0] for one, other in pairwise(keys)):
            raise ValueError(f"{text!r}: each time must be later than the one before")
        if len({len(corners) for _, corners in keys}) > 1:
            raise ValueError(f"{text!r}: a shape must keep its number of corners")
        return MaskSpec(text, None, tuple(keys))
    what, span, when = text.rpartition("@")
    since, until = Fraction(0), None
    if span:
        begin, dash, end = when.partition("-")
        if not dash:
            raise ValueError(
                f"{text!r}: {when!r} is not a span of time such as 2-3.5 or 2-"
            )
        since = _time(begin) if begin else since
        until = _time(end) if end else None
        if until is not None and until <= since:
            raise ValueError(f"{text!r}: the span {when} ends before it begins")
    shape = what if span else text
    if (shape and Path(shape).exists()) or "%" in shape:
        return MaskSpec(text, Path(shape), (), since, until)
    return MaskSpec(text, None, ((since, _corners(shape)),), since, until)


def _time(text: str) -> Fraction:
    found = parse_time("the time", text)
    assert found is not None
    return found


def _corners(text: str) -> tuple[Point, ...]:
    """Parse the corners of a box or a polygon."""
    kind, is_polygon, rest = text.partition(":")
    try:
        if is_polygon and kind == "points":
            pairs = [pair.split(",") for pair in rest.split()]
            corners = tuple((float(x), float(y)) for x, y in pairs)
            if len(corners) >= 3 and all(isfinite(x + y) for x, y in corners):
                return corners
        else:
            x, y, width, height = (float(number) for number in text.split(","))
            right, bottom = x + width, y + height
            if min(width, height) > 0 and isfinite(x + y + right + bottom):
                return (x, y), (right, y), (right, bottom), (x, bottom)
    except ValueError:
        pass
    raise ValueError(f"{text!r} is neither a shape nor an existing file")


PLACES = ("largest", "centre", "left", "right")


@dataclass(frozen=True)
class Who:
    """The choice of a person: by a place, a number or a point."""

    place: str = ""  # one of `PLACES`, applied where a scene begins; or ""
    # The person's number, from 1 on, in the order in which people come and from left to
    # right; or 0.
    number: int = 0
    # Where the person is [pixels of the frame], if neither is given.
    point: Point = (0.0, 0.0)
    # When they are there [s]; None: in the first frame with people.
    time: Fraction | None = None
    left_out: bool = False  # whether everybody else is cut out instead


def parse_who(given: str | int) -> Who:
    """Parse the choice of a person: one of `PLACES`, a number, "X,Y" or "X,Y@TIME".

    With "not:" before it, the person is left out and everybody else is cut out.

    Raises:
        ValueError: If it is none of these.
    """
    left_out = str(given).startswith("not:")
    text = str(given).removeprefix("not:")
    if text in PLACES:
        return Who(text, left_out=left_out)
    if text.isdecimal() and int(text) > 0:
        return Who(number=int(text), left_out=left_out)
    where, at, when = text.partition("@")
    try:
        x, y = (float(number) for number in where.split(","))
        if not isfinite(x + y):
            raise ValueError(f"{where} is nowhere")
        when_there = _time(when) if at else None
        return Who(point=(x, y), time=when_there, left_out=left_out)
    except ValueError as error:
        raise ValueError(
            f"person must be {', '.join(PLACES)}, a number from 1, X,Y or X,Y@TIME, "
            f"with not: before it to leave them out, got {given!r}"
        ) from error
