"""Numbers in the names of image files: "plate.%04d.exr" and "plate.####.exr".

This module works on names alone and opens no files.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

# A single "#" counts only between separators: "C#.png" is a name like any other.
_PLACE = re.compile(r"%0?(\d*)d|(##+|(?<=[._-])#(?=\.))")
_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class Numbering:
    """A file name with a place for a number.

    Attributes:
        before: What precedes the number.
        digits: The least number of digits; smaller numbers are padded with zeros.
        after: What follows it, with the suffix.
    """

    before: str
    digits: int
    after: str

    def __str__(self) -> str:
        return f"{self.before}%0{self.digits}d{self.after}"

    def name(self, number: int) -> str:
        """Return the file name with a number."""
        return f"{self.before}{number:0{self.digits}d}{self.after}"

    def number(self, name: str) -> int | None:
        """Return the number in a file name, padded or not; None if the name differs."""
        digits = self.digits_in(name)
        return int(digits) if digits else None

    def digits_in(self, name: str) -> str:
        """Return the digits in a file name, with padding; "" if the name differs."""
        middle = name[len(self.before) : len(name) - len(self.after)]
        fits = name == f"{self.before}{middle}{self.after}"
        return middle if fits and _DIGITS.fullmatch(middle) else ""

    def padded_as(self, names: Iterable[str]) -> "Numbering":
        """Return this numbering with as many digits as the shortest number in names."""
        return replace(self, digits=min(len(self.digits_in(name)) for name in names))


def parse_pattern(name: str) -> Numbering | None:
    """Parse a pattern, "plate.%04d.exr" or "plate.####.exr"; give None for other names.

    Raises:
        ValueError: If the name has several places for a number.
    """
    places = list(_PLACE.finditer(name))
    if not places:
        return None
    if len(places) > 1:
        raise ValueError(
            f"{name}: the pattern must hold one number such as %04d or ####, not "
            f"{len(places)}"
        )
    (place,) = places
    digits = len(place[2]) if place[2] else int(place[1] or 1)
    before, after = name[: place.start()], name[place.end() :]
    return Numbering(before.replace("%%", "%"), max(1, digits), after)


def find_numbering(names: Sequence[str]) -> Numbering | None:
    """Find the numbering of names that differ in a single number.

    If there is only one name, its last number is taken. There is none if the names
    differ in more, or a number occurs twice.
    """
    parts = [_DIGITS.split(name) for name in names]
    first = parts[0]
    if any(len(part) != len(first) for part in parts):
        return None
    differ = [i for i in range(len(first)) if len({part[i] for part in parts}) > 1]
    place = differ[0] if differ else len(first) - 2  # odd places hold the numbers
    if len(differ) > 1 or place % 2 == 0 or place < 0:
        return None
    if len({int(part[place]) for part in parts}) < len(parts):
        return None
    before, after = "".join(first[:place]), "".join(first[place + 1 :])
    return Numbering(before, 1, after).padded_as(names)


def group_sequences(names: Iterable[str]) -> dict[Numbering, list[str]]:
    """Group names that differ in their last number alone; others are left out."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        parts = _DIGITS.split(name)
        if len(parts) > 1:
            key = "".join(parts[:-2]), parts[-1]
            groups.setdefault(key, []).append(name)
    return {
        Numbering(before, 1, after).padded_as(some): some
        for (before, after), some in groups.items()
    }


def describe_runs(numbers: Iterable[int], most: int = 5) -> str:
    """Write increasing numbers as "1005-1006, 1010"; runs beyond `most` are counted."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [f"{a}-{b}" if b > a else str(a) for a, b in runs[:most]]
    more = len(runs) - most
    return ", ".join(texts) + (f" and {more} more places" if more > 0 else "")
