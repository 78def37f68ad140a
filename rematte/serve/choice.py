"""The choice of what is cut out: a part in time, one person, painted areas.

Places are shares of the frame's width and height, so that they hold for any copy.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rematte.video.sheet import encode_picture, shrunk_size

Place = tuple[float, float]

_SIDE = 960  # longer side of a mask, which is enlarged to the frame [pixels]
_MOST_MARKS, _MOST_POINTS = 64, 256
LONGEST = 1e6  # [s]


@dataclass(frozen=True)
class Mark:
    """A painted area."""

    keep: bool  # whether it is always cut out; else it never is
    points: tuple[Place, ...]  # of a stroke; or two opposite corners of a box
    size: float  # a stroke's thickness as a share of the frame's width; 0 for a box
    since: float  # when it begins to hold [s]
    until: float | None  # when it ends [s]; None at the end of the video

    @property
    def span(self) -> str:
        """The time for which it holds, as masks of the converter state it."""
        return f"{self.since:.3f}-{'' if self.until is None else f'{self.until:.3f}'}"


@dataclass(frozen=True)
class Choice:
    """A part of a video, and who is cut out in it."""

    start: float | None = None  # of the part [s]; None at the video's beginning
    end: float | None = None  # [s]; None at its end
    person: Place | None = None  # a place on a person; None for everybody
    at: float = 0.0  # when the person is there [s]
    keep: bool = True  # whether this person alone is cut out; else all others are
    marks: tuple[Mark, ...] = ()

    def person_option(self, width: int, height: int) -> str | None:
        """Give the option `person` of a conversion of frames of a size [pixels]."""
        if self.person is None:
            return None
        x, y = self.person
        where = f"{x * width:.1f},{y * height:.1f}@{self.at:.3f}"
        return where if self.keep else f"not:{where}"

    def within(self, inner: tuple[int, int], outer: tuple[int, int]) -> "Choice":
        """Give the choice for a frame of a size that shows the picture between bars."""

        def moved(place: Place) -> Place:
            x, y = (
                ((whole - part) / 2 + share * part) / whole
                for share, part, whole in zip(place, inner, outer, strict=True)
            )
            return x, y

        marks = tuple(
            replace(
                mark,
                points=tuple(map(moved, mark.points)),
                size=mark.size * inner[0] / outer[0],
            )
            for mark in self.marks
        )
        return replace(self, person=self.person and moved(self.person), marks=marks)

    def options(self, width: int, height: int, folder: Path) -> dict[str, Any]:
        """Give the options of a conversion; masks are written into a folder."""
        masks: dict[str, list[str]] = {"include": [], "exclude": []}
        kinds = dict.fromkeys((mark.keep, mark.span) for mark in self.marks)
        for index, (keep, span) in enumerate(kinds):
            alike = [
                mark for mark in self.marks if (mark.keep, mark.span) == (keep, span)
            ]
            path = folder / f"mask{index}.png"
            path.write_bytes(encode_picture(_draw(alike, width, height), ".png"))
            masks["include" if keep else "exclude"].append(f"{path}@{span}")
        person = self.person_option(width, height)
        given = {"start": self.start, "end": self.end, "person": person, **masks}
        return {name: value for name, value in given.items() if value not in (None, [])}


def _draw(marks: Iterable[Mark], width: int, height: int) -> NDArray[np.uint8]:
    """Draw marks in white on black, (h, w, 1)."""
    wide, high = shrunk_size(width, height, _SIDE)
    mask = np.zeros((high, wide), np.float32)
    scale = np.array([wide, high])
    for mark in marks:
        points = np.array(mark.points) * scale
        if not mark.size:
            (left, top), (right, bottom) = points.min(0), points.max(0)
            box = slice(round(top), round(bottom)), slice(round(left), round(right))
            mask[box] = 1
            continue
        radius = mark.size * wide / 2
        for begin, end in zip(points, [*points[1:], points[-1]], strict=True):
            _draw_line(mask, begin, end, radius)
    return np.round(mask * 255).astype(np.uint8)[..., None]


def _draw_line(mask: NDArray[np.float32], begin: Any, end: Any, radius: float) -> None:
    """Draw a line with round ends into a mask [pixels], in place."""
    low = np.maximum(np.floor(np.minimum(begin, end) - radius - 1), 0).astype(int)
    high = np.ceil(np.maximum(begin, end) + radius + 1).astype(int)
    part = mask[low[1] : high[1], low[0] : high[0]]
    y, x = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
    x, y = x + low[0] - begin[0], y + low[1] - begin[1]
    across, down = end - begin
    length = across**2 + down**2
    share = np.clip((x * across + y * down) / length, 0, 1) if length else 0.0
    distance = np.hypot(x - share * across, y - share * down)
    np.maximum(part, np.clip(radius + 0.5 - distance, 0, 1), out=part)


def read_choice(data: Any) -> Choice:
    """Check a choice that came as JSON, in which anything may be missing."""
    data = read_object("choice", data or {}, ("start", "end", "person", "marks"))
    start, end = _time("start", data.get("start")), _time("end", data.get("end"))
    if end is not None and end <= (start or 0):
        raise ValueError(f"end must be later than the start ({start or 0:g} s)")
    marks = data.get("marks") or []
    if not isinstance(marks, list) or len(marks) > _MOST_MARKS:
        raise ValueError(f"marks must be a list of at most {_MOST_MARKS} areas")
    painted = tuple(map(_read_mark, marks))
    if data.get("person") is None:
        return Choice(start, end, marks=painted)
    person = read_object("person", data["person"], ("x", "y", "at", "keep"))
    place = _place([person.get("x"), person.get("y")])
    at = _time("at", person.get("at")) or 0.0
    if not (start or 0) <= at < (LONGEST if end is None else end):
        raise ValueError(
            f"the person was chosen at {at:.1f} s, outside of the part that is "
            "converted; choose them again within it"
        )
    return Choice(start, end, place, at, _keep(person), painted)


def read_number(name: str, value: Any, most: float) -> float:
    """Check a number from 0 to `most` that came as JSON; errors call it `name`."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain or not 0 <= value <= most:
        raise ValueError(
            f"{name} must be a number from 0 to {most:g}, got {value!r:.60}"
        )
    return float(value)


def read_object(name: str, data: Any, allowed: tuple[str, ...]) -> Mapping[str, Any]:
    """Check that JSON is an object with no other than some keys."""
    if not isinstance(data, Mapping) or not set(data) <= set(allowed):
        raise ValueError(f"{name} must be an object of {', '.join(allowed)}")
    return data


def _read_mark(data: Any) -> Mark:
    data = read_object("mark", data, ("keep", "points", "size", "since", "until"))
    points = data.get("points")
    if not isinstance(points, list) or not 0 < len(points) <= _MOST_POINTS:
        raise ValueError(f"points must be a list of 1 to {_MOST_POINTS} places")
    size = read_number("size", data.get("size", 0), 1)
    if not size and len(points) != 2:
        raise ValueError(f"a box has two corners, got {len(points)}")
    since = _time("since", data.get("since")) or 0.0
    until = _time("until", data.get("until"))
    if until is not None and until <= since:
        raise ValueError(f"until must be later than since ({since:g} s), got {until:g}")
    places = tuple(map(_place, points))
    return Mark(_keep(data), places, size, since, until)


def _keep(data: Mapping[str, Any]) -> bool:
    keep = data.get("keep", True)
    if not isinstance(keep, bool):
        raise ValueError(f"keep must be true or false, got {keep!r:.60}")
    return keep


def _time(name: str, value: Any) -> float | None:
    return None if value is None else read_number(name, value, LONGEST)


def _place(pair: Any) -> Place:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError(f"a place must be two numbers from 0 to 1, got {pair!r:.60}")
    x, y = (read_number("a place", value, 1) for value in pair)
    return x, y
