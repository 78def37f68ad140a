"""Numbers the people in mattes and follows them from frame to frame.

A person is a connected part of alpha in a small copy of the frame. A part is the person
whom it overlaps in the frame before. While two people touch, their part is divided by
their colours and by where each was before. When they separate, their colours alone
decide who is who, since one may have walked behind the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rematte.matting.matte import Matted
from rematte.video.frame import Pixels
from rematte.video.mask_spec import Who
from rematte.video.pixels import resize, with_depth

Labels = NDArray[np.int32]

_SIDE = 192  # longer side of the small copy [pixels]
_ALPHA = 0.15  # alpha above which a pixel belongs to somebody
_LEAST = 6  # fewest pixels of a person [pixels of the small copy]
_REACH = 6  # how far weaker alpha may reach beyond them [pixels of the small copy]
_SHADES = 6  # levels of each colour channel in histograms
_KEEP = 0.9  # weight of the old histogram when a new one is averaged in
_SURE = 0.1  # by how much likeness, in [0, 1], must differ to decide


@dataclass
class _Person:
    """A person's looks, as learned while they touch nobody.

    Attributes:
        colours: Histogram of their shades; its sum is 1.
        size: Their area [pixels of the small copy].
    """

    colours: NDArray[np.float64]
    size: float


class People:
    """Follows people through the frames of a video, in order of time.

    Attributes:
        notes: Sentences on where people may have been confused.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.forget()

    def forget(self) -> None:
        """Reset everything, as after a cut."""
        self._people: dict[int, _Person] = {}
        self._groups: list[set[int]] = []  # people who touch
        self._labels: Labels = np.zeros((0, 0), np.int32)

    @property
    def numbers(self) -> list[int]:
        """Give the numbers of all who were seen."""
        return [*self._people]

    def colours(self, number: int) -> NDArray[np.float64]:
        """Give the histogram of a person's shades; its sum is 1."""
        return self._people[number].colours

    def follow(self, alpha: Pixels, pixels: Pixels, time: Fraction) -> Labels:
        """Find who is who in the next frame.

        Args:
            alpha: Alpha, (H, W, 1).
            pixels: The frame, (H, W, 3).
            time: Its time, for the notes [s].

        Returns:
            The number of the person at each pixel of a small copy, 0 for nobody.
        """
        size = small_size(alpha.shape[1], alpha.shape[0])
        there = resize(with_depth(alpha, True), *size)[..., 0] > _ALPHA * 65535
        shades = _shades(resize(with_depth(pixels, False), *size))
        parts, count = connected(there)
        if self._labels.shape != parts.shape:
            self._labels = np.zeros_like(parts)
        insides = [parts == part for part in range(1, count + 1)]
        owners = [_owners(self._labels[inside]) for inside in insides]
        self._assign_small(owners, insides, shades)
        self._regroup(owners, insides, shades, time)
        labels = np.zeros_like(parts)
        for inside, who in zip(insides, owners, strict=True):
            if len(who) == 1:
                labels[inside] = next(iter(who))
            elif who:
                self._divide(inside, sorted(who), shades, labels)
        new = [inside for inside, who in zip(insides, owners, strict=True) if not who]
        for inside in sorted(new, key=lambda each: float(np.nonzero(each)[1].mean())):
            self._recognise(inside, shades, labels)
        self._learn(labels, shades)
        self._labels = labels
        return labels

    def _assign_small(
        self,
        owners: list[set[int]],
        insides: Sequence[NDArray[np.bool_]],
        shades: Labels,
    ) -> None:
        """Give small new parts, such as a hand, to the people beside them.

        A part that has grown large and looks unlike its owner becomes a new person.
        """
        near = spread(self._labels, 2 * _REACH)
        sizes = [int(inside.sum()) for inside in insides]
        for index, inside in enumerate(insides):
            who = next(iter(owners[index]), 0)
            largest = max(
                size
                for size, own in zip(sizes, owners, strict=True)
                if own == owners[index]
            )
            if len(owners[index]) == 1 and sizes[index] < largest:
                person = self._people[who]
                unlike = _likeness(person.colours, _histogram(shades[inside])) < 0.3
                if unlike and sizes[index] >= 0.3 * person.size:
                    owners[index] = set()
                    continue
            beside = {int(number) for number in np.unique(near[inside])} - {0}
            beside |= set[int]().union(*(g for g in self._groups if g & beside))
            small = [
                who for who in beside if inside.sum() < 0.3 * self._people[who].size
            ]
            if not owners[index] and small:
                colours = _histogram(shades[inside])
                owners[index] = {
                    max(
                        small,
                        key=lambda who: _likeness(self._people[who].colours, colours),
                    )
                }

    def _regroup(
        self,
        owners: list[set[int]],
        insides: Sequence[NDArray[np.bool_]],
        shades: Labels,
        time: Fraction,
    ) -> None:
        """Find who touches whom, and who is who where people have separated.

        Args:
            owners: Who was where each part is; replaced by who is there.
            insides: Where each part is.
            shades: See `_shades`.
            time: The frame's time, for the notes [s].
        """
        groups: list[set[int]] = []
        for group in [*self._groups, *(who for who in owners if len(who) > 1)]:
            apart = [each for each in groups if not each & group]
            groups = [*apart, group.union(*(each for each in groups if each & group))]
        self._groups = []
        for group in groups:
            pieces = [index for index, who in enumerate(owners) if who & group]
            least = 0.3 * min(self._people[who].size for who in group)
            large = [index for index in pieces if insides[index].sum() >= least]
            if len(large) < 2:
                for index in large:
                    owners[index] |= group
                self._groups.append(group)
            elif len(group) == 2 and len(large) == 2:
                found = [_histogram(shades[insides[index]]) for index in large]
                order = self._tell_apart(sorted(group), found, owners, large, time)
                for index, who in zip(large, order, strict=True):
                    owners[index] = {who}
            else:
                for who in group:  # of three or more: the part that overlaps them most
                    shares = [
                        int((self._labels[insides[n]] == who).sum()) for n in large
                    ]
                    most = large[int(np.argmax(shares))]
                    for index in large:
                        owners[index] -= set() if index == most else {who}
                self._groups += [owners[index] for index in large]
        self._groups = [group for group in self._groups if len(group) > 1]

    def _tell_apart(
        self,
        pair: list[int],
        found: Sequence[NDArray[np.float64]],
        owners: Sequence[set[int]],
        pieces: Sequence[int],
        time: Fraction,
    ) -> list[int]:
        """Give two people's numbers in the order of two parts, by their colours."""
        likely = [
            sum(
                _likeness(self._people[who].colours, colours)
                for who, colours in zip(order, found, strict=True)
            )
            for order in (pair, pair[::-1])
        ]
        if abs(likely[0] - likely[1]) < _SURE:
            self.notes.append(
                f"persons {pair[0]} and {pair[1]} separate at {float(time):.2f} s and "
                "look alike: from there on one may be taken for the other"
            )
            first = owners[pieces[0]]
            if len(first) == 1:  # only their places are left to go by
                return sorted(pair, key=lambda who: who not in first)
        return pair if likely[0] >= likely[1] else pair[::-1]

    def _divide(
        self,
        inside: NDArray[np.bool_],
        who: Sequence[int],
        shades: Labels,
        labels: Labels,
    ) -> None:
        """Divide a part among people who touch, by colour and by where each was."""
        before = np.where(np.isin(self._labels, who), self._labels, 0)
        near = spread(before, max(before.shape))
        scores = []
        for number in who:
            likely = self._people[number].colours[shades] + 0.02
            scores.append(_smooth(likely * np.where(near == number, 1.0, 0.25)))
        best = np.asarray(who, np.int32)[np.argmax(scores, 0)]
        labels[inside] = best[inside]

    def _recognise(
        self, inside: NDArray[np.bool_], shades: Labels, labels: Labels
    ) -> None:
        """Number a part where nobody was before: a person who is back, or a new one."""
        colours, size = _histogram(shades[inside]), int(inside.sum())
        here = {int(number) for number in np.unique(labels)}
        hidden = set[int]().union(*self._groups)
        away = {
            number: _likeness(person.colours, colours)
            for number, person in self._people.items()
            if (number not in here or number in hidden) and size > 0.3 * person.size
        }
        number = max(away, key=lambda each: away[each], default=0)
        if not number or away[number] < 0.5:
            if size < _LEAST:
                return
            number = len(self._people) + 1
            self._people[number] = _Person(colours, size)
        labels[labels == number] = 0
        labels[inside] = number
        self._groups = [group - {number} for group in self._groups]
        self._groups = [group for group in self._groups if len(group) > 1]

    def _learn(self, labels: Labels, shades: Labels) -> None:
        """Update the looks of people who touch nobody."""
        hidden = set[int]().union(*self._groups)
        for number, person in self._people.items():
            inside = labels == number
            if number not in hidden and inside.any():
                now = _histogram(shades[inside])
                person.colours = _KEEP * person.colours + (1 - _KEEP) * now
                person.size = _KEEP * person.size + (1 - _KEEP) * float(inside.sum())


class Chosen:
    """Finds the chosen person in every frame, so that all others can be left out.

    Args:
        who: Whom to follow. The person is chosen again after each cut: by the same
            rule or, for a number or a point, as the person who looks most alike.

    Attributes:
        who: The same.
        notes: Sentences on where people may have been confused.
    """

    def __init__(self, who: Who) -> None:
        self.who, self.notes = who, list[str]()
        self._people = People()
        self._number, self._scene, self._asked = 0, 0, 0
        self._seen, self._found = False, False
        self._colours: NDArray[np.float64] | None = None

    def look(self, matted: Matted, alpha: Pixels) -> Labels:
        """Number everybody in the next frame.

        Args:
            matted: The frame; each must be given once, in order of time.
            alpha: The network's alpha, (H, W, 1).

        Returns:
            The number of the person at each pixel of a small copy, 0 for nobody.
        """
        if matted.cut:
            self._people.forget()
            self._scene, self._number = self._scene + 1, 0
        labels = self._people.follow(alpha, matted.frame.pixels, matted.frame.time)
        self.notes += self._people.notes
        self._people.notes = []
        return labels

    def take(self, labels: Labels, size: tuple[int, int]) -> None:
        """Choose the person at the point that was asked for, in this scene.

        Args:
            labels: The result of `look`.
            size: Height and width of the frame [pixels].

        Raises:
            ValueError: If nobody is at the point.
        """
        x, y = self.who.point
        rows, columns = labels.shape
        row, column = int(y * rows / size[0]), int(x * columns / size[1])
        inside = 0 <= row < rows and 0 <= column < columns
        number = int(spread(labels, _REACH)[row, column]) if inside else 0
        if not number:
            scale = size[1] / columns
            places = ", ".join(
                f"{round(where[1] * scale)},{round(where[0] * scale)}"
                for where in self._centres(labels).values()
            )
            raise ValueError(
                f"person {x:g},{y:g} (--person): nobody is there then; "
                + (f"people are near {places}" if places else "nobody is in the frame")
            )
        self._number, self._asked = number, self._scene
        self._colours = self._people.colours(number)

    def report(self) -> list[str]:
        """Give the notes, each once, and one more if the person never came."""
        notes = list(dict.fromkeys(self.notes))
        if self._seen and not self._found:
            result = "everybody" if self.who.left_out else "nobody"
            notes.append(
                f"the one who is asked for (--person) was never seen, so {result} is "
                f"cut out; people seen in the last scene: {len(self._people.numbers)}"
            )
        return notes

    def begin(self) -> None:
        """Start again from the first frame, and keep the choice of the person."""
        self._people, self._scene, number = People(), 0, self._number
        self.who = replace(self.who, number=number, time=None)
        self._number = 0

    def at(self, matted: Matted, alpha: Pixels) -> NDArray[np.float32] | None:
        """Give a mask of those who are cut out, (H, W) in [0, 1]; None if all are.

        Args:
            matted: The frame; each must be given once, in order of time.
            alpha: The network's alpha, (H, W, 1).

        Raises:
            ValueError: If nobody is at the point that was asked for.
        """
        labels = self.look(matted, alpha)
        if not self._number:
            self._choose(labels, matted.size)
        self._seen, self._found = True, self._found or self._number > 0
        if self._number and self._scene == self._asked:
            self._colours = self._people.colours(self._number)
        chosen = labels == self._number
        unwanted = chosen if self.who.left_out else ~chosen
        if not (unwanted & (labels > 0)).any():
            return None
        height, width = matted.size
        if not self._number:
            return np.zeros((height, width), np.float32)
        inside = spread(labels, _REACH) == self._number
        mask = (inside != self.who.left_out).astype(np.uint16) * 65535
        large = resize(mask[..., None], width, height)[..., 0]
        return large.astype(np.float32) / np.float32(65535)

    def _choose(self, labels: Labels, size: tuple[int, int]) -> None:
        """Choose the person in this scene, if they are there."""
        centres, who = self._centres(labels), self.who
        if not centres:
            return
        if who.place:
            height, width = labels.shape
            middle = np.array([height, width]) / 2
            ranks: dict[str, Callable[[int], float]] = {
                "largest": lambda n: -float((labels == n).sum()),
                "centre": lambda n: float(np.hypot(*(centres[n] - middle))),
                "left": lambda n: float(centres[n][1]),
                "right": lambda n: -float(centres[n][1]),
            }
            self._number = min(centres, key=ranks[who.place])
        elif self._scene != self._asked and self._colours is not None:
            known = self._colours
            self._number = max(
                centres, key=lambda n: _likeness(self._people.colours(n), known)
            )
            self.notes.append(
                "after a cut, the person who looks most alike is chosen, which may err"
            )
        elif self._scene != self._asked:
            return
        elif who.number:
            self._number = who.number if who.number in centres else 0
        else:
            self.take(labels, size)

    @staticmethod
    def _centres(labels: Labels) -> dict[int, NDArray[np.float64]]:
        """Give the centre of each person, as row and column, by number."""
        return {
            int(number): np.argwhere(labels == number).mean(0)
            for number in np.unique(labels[labels > 0])
        }


def small_size(width: int, height: int) -> tuple[int, int]:
    """Give the width and height of the small copy of a frame [pixels]."""
    scale = min(1.0, _SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def connected(there: NDArray[np.bool_]) -> tuple[Labels, int]:
    """Number the connected parts of an array (h, w) from 1, and count them."""
    labels = np.zeros(there.shape, np.int32)
    same = [0]  # the part that each part has been joined to

    def root(part: int) -> int:
        while same[part] != part:
            part = same[part]
        return part

    above: list[tuple[int, int, int]] = []
    for row, line in enumerate(there):
        ends = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]])))
        runs = []
        for begin, end in zip(ends[::2], ends[1::2], strict=True):
            touched = {root(p) for b, e, p in above if b <= end and begin <= e}
            part = min(touched) if touched else len(same)
            if not touched:
                same.append(part)
            for other in touched:
                same[other] = part
            labels[row, begin:end] = part
            runs.append((int(begin), int(end), part))
        above = runs
    roots = np.array([root(part) for part in range(len(same))])
    found, numbers = np.unique(roots, return_inverse=True)
    return numbers.astype(np.int32)[labels], len(found) - 1


def spread(labels: Labels, reach: int) -> Labels:
    """Let labels grow evenly into unlabelled pixels, up to a distance [pixels]."""
    labels = labels.copy()
    for _ in range(reach):
        empty = labels == 0
        if not empty.any() or empty.all():
            break
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            moved = np.roll(labels, step, axis)
            edge: list[Any] = [slice(None), slice(None)]
            edge[axis] = 0 if step == 1 else -1
            moved[tuple(edge)] = 0
            labels = np.where(empty & (labels == 0), moved, labels)
    return labels


def _owners(before: Labels) -> set[int]:
    """Give the people who covered a tenth of a part, or `_LEAST` pixels of it."""
    numbers, counts = np.unique(before[before > 0], return_counts=True)
    enough = max(1.0, min(_LEAST, 0.1 * before.size))
    return {int(n) for n, c in zip(numbers, counts, strict=True) if c >= enough}


def _shades(pixels: Pixels) -> Labels:
    """Give the index of each pixel's shade in a histogram, (h, w)."""
    steps = pixels.astype(np.int32) * _SHADES // 256
    return (steps[..., 0] * _SHADES + steps[..., 1]) * _SHADES + steps[..., 2]


def _histogram(shades: Labels) -> NDArray[np.float64]:
    counts = np.bincount(shades, minlength=_SHADES**3).astype(np.float64)
    return counts / max(1, shades.size)


def _likeness(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Give the overlap of two histograms, in [0, 1]."""
    return float(np.minimum(one, other).sum())


def _smooth(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over squares of 3x3 pixels."""
    for axis in (0, 1):
        width = [(1, 1) if axis == n else (0, 0) for n in (0, 1)]
        padded = np.pad(scores, width, mode="edge")
        first, middle, last = (
            padded.take(range(n, n + scores.shape[axis]), axis) for n in range(3)
        )
        scores = (first + middle + last) / 3
    return scores
