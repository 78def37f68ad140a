"""Numbers the people in mattes and follows them from frame to frame.

A person is a connected part of alpha in a small copy of the frame. A part belongs to
the person whom it overlaps in the previous frame. While two people touch, their part is
divided by their colours and by where each was before. When they separate, their colours
alone decide who is who, since one may have walked behind the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rematte.matting.matte import Matted
from rematte.matting.parts import (
    TINY,
    Labels,
    apart,
    centres,
    connected,
    find_body,
    find_shades,
    histogram,
    likeness,
    owners_of,
    pack_labels,
    small_size,
    smooth,
    spread,
    unpack_labels,
)
from rematte.video.frame import Pixels
from rematte.video.pixels import Image, resize, with_depth

_ALPHA = 0.15  # alpha above which a pixel belongs to somebody
_LEAST = 6  # fewest pixels of a person [pixels of the small copy]
REACH = 6  # how far weaker alpha may reach beyond them [pixels of the small copy]
_KEEP = 0.9  # weight of the old histogram when a new one is averaged in
_UNLIKE = 150  # from this difference on colours are not the same [levels of all three]
_SURE = 0.1  # by how much likeness, in [0, 1], must differ to decide


@dataclass
class _Person:
    """A person's appearance, as learned while they touch nobody.

    Lengths are in pixels of the small copy; pairs are down and right.
    """

    colours: NDArray[np.float64]  # histogram of their shades; its sum is 1
    size: float  # their area
    # How far they move from frame to frame.
    speed: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    # The pixels that they covered when they last touched nobody, (n, 2), the colours of
    # these, (n, 3), and how far they have moved since then.
    shape: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    shown: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 3), np.int32))
    moved: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))

    def as_json(self) -> list[Any]:
        """Describe all attributes, in their order."""
        return [
            *(self.colours.tolist(), self.size, self.speed.tolist()),
            *(pack_labels(self.shape), pack_labels(self.shown), self.moved.tolist()),
        ]

    @classmethod
    def from_json(cls, *about: Any) -> "_Person":
        """Make a person from what `as_json` gave."""
        colours, size, speed, shape, shown, moved = about
        return cls(
            np.array(colours), size, np.array(speed), unpack_labels(shape),
            unpack_labels(shown), np.array(moved),
        )  # fmt: skip

    def learn(self, now: "_Frame", inside: NDArray[np.bool_]) -> None:
        """Update the appearance of a person who touches nobody."""
        self.colours = _KEEP * self.colours + (1 - _KEEP) * now.colours(inside)
        self.size = _KEEP * self.size + (1 - _KEEP) * float(inside.sum())
        shape = np.argwhere(inside).astype(np.int32)
        if len(self.shape):
            step = shape.mean(0) - self.shape.mean(0)
            self.speed = 0.6 * self.speed + 0.4 * step
        self.shape, self.shown = shape, now.small[inside]
        self.moved = np.zeros(2)

    def locate(self, now: "_Frame") -> NDArray[np.float64]:
        """Locate a person who touches others, near where they are expected.

        Returns:
            How much the picture differs from the person there, (h, w) in [0, 1].
        """
        small, there = now.small, now.parts > 0
        unlike = np.ones(there.shape)
        if not len(self.shape):  # never seen alone
            return unlike
        expected = np.rint(self.moved + self.speed).astype(int)
        limits = np.array(there.shape) - 1
        some = slice(None, None, max(1, len(self.shape) // 800))
        costs: dict[tuple[int, int], float] = {}
        for down, right in np.ndindex(5, 9):
            by = expected + np.array([down - 2, right - 4])
            at = self.shape[some] + by
            rows, columns = np.clip(at, 0, limits).T
            off = np.abs(small[rows, columns] - self.shown[some]).sum(1)
            gone = (at < 0).any(1) | (at > limits).any(1)
            off = np.where(gone | ~there[rows, columns], _UNLIKE, off)
            far = abs(down - 2) + abs(right - 4)
            costs[int(by[0]), int(by[1])] = float(np.minimum(off, _UNLIKE).mean()) + far
        best = np.array(min(costs, key=lambda by: costs[by]))
        self.speed = 0.8 * self.speed + 0.2 * (best - self.moved)
        self.moved = best.astype(np.float64)
        at = self.shape + best
        within = (at >= 0).all(1) & (at <= limits).all(1)
        rows, columns = at[within].T
        off = np.abs(small[rows, columns] - self.shown[within])
        unlike[rows, columns] = np.minimum(off.sum(1), _UNLIKE) / _UNLIKE * 0.8
        return unlike


@dataclass
class _Frame:
    """The next frame, while people are found in it."""

    time: Fraction  # for the notes [s]
    small: NDArray[np.int32]  # the small copy, (h, w, 3)
    shades: Labels  # see `find_shades`
    parts: Labels  # the number of the connected part at each pixel, from 1; 0 for none
    insides: list[NDArray[np.bool_]]  # where each part is
    # The people of each part: at first those who were there in the frame before.
    owners: list[set[int]]

    def colours(self, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the histogram of the shades of some pixels."""
        return histogram(self.shades[inside])


class People:
    """Numbers the people of a video and follows them, in order of time.

    Numbers count from 1, in the order in which people appear and from left to right.
    After a cut everybody is new, and numbering continues.

    Attributes:
        notes: Sentences on where people may have been confused.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._count = 0
        self._groups: list[set[int]] = []  # people who touch
        self._since: dict[int, Fraction] = {}  # when they began to touch
        self.forget()

    def alphas(self, matted: Matted) -> dict[int, Image]:
        """Return the alpha of each person in the next frame.

        Args:
            matted: The frame; each must be given once, in order of time.

        Returns:
            Alpha, (H, W), by the person's number, of the type of `Matted.alpha`; their
            sum is the frame's alpha, except for parts too small to be a person.
        """
        labels = self.look(matted, matted.pixels("alpha", True))
        alpha = matted.alpha
        return {
            int(number): mask_alpha(alpha, mask_of(labels, int(number), matted.size))
            for number in np.unique(labels[labels > 0])
        }

    def look(self, matted: Matted, alpha: Pixels) -> Labels:
        """Find who is who in the next frame; see `follow`.

        Args:
            matted: The frame; each must be given once, in order of time.
            alpha: The network's alpha, (H, W, 1).
        """
        if matted.cut:
            self.forget()
        return self.follow(alpha, matted.frame.pixels, matted.frame.time)

    def forget(self) -> None:
        """Reset everything except the count, as after a cut."""
        self.notes += self.unsettled()
        self._people: dict[int, _Person] = {}
        self._groups, self._since = [], {}
        self._labels: Labels = np.zeros((0, 0), np.int32)

    def unsettled(self) -> list[str]:
        """Describe people who still touch, so that nothing has shown who is who."""
        return [
            f"persons {', '.join(map(str, sorted(group)))} touch from "
            f"{float(min(self._since[number] for number in group)):.2f} s until the "
            "scene ends or one is gone: meanwhile one may be taken for the other"
            for group in self._groups
        ]

    @property
    def numbers(self) -> list[int]:
        """Return the numbers of all who were seen in this scene."""
        return [*self._people]

    def colours(self, number: int) -> NDArray[np.float64]:
        """Return the histogram of a person's shades; its sum is 1."""
        return self._people[number].colours

    @staticmethod
    def points(labels: Labels, size: tuple[int, int]) -> dict[int, tuple[int, int]]:
        """Return a point on each person, nearest to their centre, by number.

        Args:
            labels: The result of `look`.
            size: Height and width of the frame [pixels].

        Returns:
            For each number, x and y [pixels of the frame].
        """
        points = {}
        for number, centre in centres(labels).items():
            inside = np.argwhere(labels == number)
            off = np.abs(inside - centre).sum(1)
            row, column = inside[np.argmin(off)] + 0.5
            points[number] = (
                int(column * size[1] / labels.shape[1]),
                int(row * size[0] / labels.shape[0]),
            )
        return points

    def as_json(self) -> dict[str, Any]:
        """Describe the state after the last frame, so that it can be saved."""
        return {
            "count": self._count,
            "people": [
                [number, *each.as_json()] for number, each in self._people.items()
            ],
            "since": [[number, str(time)] for number, time in self._since.items()],
            "groups": [sorted(group) for group in self._groups],
            "labels": pack_labels(self._labels),
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "People":
        """Continue from a state that `as_json` described."""
        people = cls()
        people._count = state["count"]
        people._people = {
            number: _Person.from_json(*about) for number, *about in state["people"]
        }
        people._since = {number: Fraction(time) for number, time in state["since"]}
        people._groups = [set(group) for group in state["groups"]]
        people._labels = unpack_labels(state["labels"])
        return people

    def follow(self, alpha: Pixels, pixels: Pixels, time: Fraction) -> Labels:
        """Return the number of the person at each pixel of a small copy, 0 for nobody.

        Args:
            alpha: Alpha of the next frame, (H, W, 1).
            pixels: The frame, (H, W, 3).
            time: Its time, for the notes [s].
        """
        size = small_size(alpha.shape[1], alpha.shape[0])
        there = resize(with_depth(alpha, True), *size)[..., 0] > _ALPHA * 65535
        small = resize(with_depth(pixels, False), *size)
        parts, count = connected(there)
        if self._labels.shape != parts.shape:
            self._labels = np.zeros_like(parts)
        insides = [parts == part for part in range(1, count + 1)]
        owners = [owners_of(self._labels[inside], _LEAST) for inside in insides]
        shades = find_shades(small)
        now = _Frame(time, small.astype(np.int32), shades, parts, insides, owners)
        self._assign_small(now)
        self._release(now)
        self._regroup(now)
        self._since = {who: self._since.get(who, time) for who in self._touching}
        several = self._touching.union(*(who for who in owners if len(who) > 1))
        unlike = {who: self._people[who].locate(now) for who in sorted(several)}
        labels = np.zeros_like(parts)
        for inside, who in zip(insides, owners, strict=True):
            if len(who) == 1:
                labels[inside] = next(iter(who))
            elif who:
                labels[inside] = self._divide(sorted(who), shades, unlike)[inside]
        self._number_new(now, labels)
        for number, person in self._people.items():
            inside = labels == number
            if number not in self._touching and inside.any():
                person.learn(now, inside)
        self._labels = labels
        return labels

    @property
    def _touching(self) -> set[int]:
        """The numbers of all who touch somebody."""
        return set[int]().union(*self._groups)

    def _alike(self, who: int, colours: NDArray[np.float64]) -> float:
        """Return how similar a person's colours are to others, in [0, 1]."""
        return likeness(self._people[who].colours, colours)

    def _number_new(self, now: _Frame, labels: Labels) -> None:
        """Number parts that are nobody's yet: people, and then what belongs to them."""
        parts, sizes = now.parts, np.bincount(now.parts.ravel())
        found = [
            (inside, find_body(inside, parts, sizes, now.shades, REACH))
            for inside, who in zip(now.insides, now.owners, strict=True)
            if not who
        ]
        whole = [inside for inside, body in found if not body]
        for inside in sorted(whole, key=lambda each: np.nonzero(each)[1].mean()):
            self._recognise(now, inside, labels)
        # A hand before its fingers, whose body it is.
        for inside, body in sorted(found, key=lambda each: -each[0].sum()):
            if body:
                labels[inside] = np.bincount(labels[parts == body]).argmax()

    def _assign_small(self, now: _Frame) -> None:
        """Assign small new parts, such as a hand, to the people beside them."""
        near = spread(self._labels, 2 * REACH)
        for index, inside in enumerate(now.insides):
            if now.owners[index]:
                continue
            beside = {int(number) for number in np.unique(near[inside])} - {0}
            beside |= set[int]().union(*(g for g in self._groups if g & beside))
            small = [
                who for who in beside if inside.sum() < 0.3 * self._people[who].size
            ]
            if small:
                colours = now.colours(inside)
                alike = [self._alike(who, colours) for who in small]
                now.owners[index] = {small[int(np.argmax(alike))]}

    def _release(self, now: _Frame) -> None:
        """Make new people of parts that were taken for a part of somebody.

        They have grown large, and look unlike their owner or stand beside the owner's
        largest part; or they have moved away from it to the side.
        """
        insides, owners = now.insides, now.owners
        sizes = [int(inside.sum()) for inside in insides]
        for index, inside in enumerate(insides):
            if len(owners[index]) != 1:
                continue
            (who,) = owners[index]
            person, touching = self._people[who], who in self._since
            same = [n for n, own in enumerate(owners) if own == {who}]
            largest = max(same, key=lambda n: sizes[n])
            if index == largest or sizes[index] < TINY * person.size:
                continue
            if sizes[index] >= 0.3 * person.size:
                unlike = self._alike(who, now.colours(inside)) < 0.3
                beneath = (inside.any(0) & insides[largest].any(0)).any()
                new = unlike or not (touching or beneath)
            else:
                new = not touching and apart(inside, insides[largest], 2 * REACH)
            if new:
                owners[index] = set()
                if not touching:
                    self.notes.append(
                        f"person {who} was two people who touched until "
                        f"{float(now.time):.2f} s; the larger part is followed"
                    )

    def _regroup(self, now: _Frame) -> None:
        """Find who touches whom, and who is who after people have separated."""
        insides, owners = now.insides, now.owners
        groups: list[set[int]] = []
        for group in [*self._groups, *(who for who in owners if len(who) > 1)]:
            others = [each for each in groups if not each & group]
            groups = [*others, group.union(*(each for each in groups if each & group))]
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
                order = self._tell_apart(now, sorted(group), large)
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
        self, now: _Frame, pair: list[int], pieces: Sequence[int]
    ) -> list[int]:
        """Assign two people's numbers to two parts by their colours."""
        found = [now.colours(now.insides[index]) for index in pieces]
        likely = [sum(map(self._alike, order, found)) for order in (pair, pair[::-1])]
        if abs(likely[0] - likely[1]) < _SURE:
            self.notes.append(
                f"persons {pair[0]} and {pair[1]} separate at {float(now.time):.2f} s "
                "and look alike: from there on one may be taken for the other"
            )
            first = now.owners[pieces[0]]
            if len(first) == 1:  # only their places are left to go by
                return sorted(pair, key=lambda who: who not in first)
        return pair if likely[0] >= likely[1] else pair[::-1]

    def _divide(
        self, who: Sequence[int], shades: Labels, unlike: dict[int, NDArray[np.float64]]
    ) -> Labels:
        """Divide a part among people who touch, by colours and positions."""
        scores = []
        for number in who:
            likely = self._people[number].colours[shades] + 0.02
            scores.append(smooth(np.log(likely) - 4 * smooth(unlike[number])))
        best: Labels = np.asarray(who, np.int32)[np.argmax(scores, 0)]
        return best

    def _recognise(
        self, now: _Frame, inside: NDArray[np.bool_], labels: Labels
    ) -> None:
        """Number a part where nobody was before, as a returning or a new person."""
        colours, size = now.colours(inside), int(inside.sum())
        here = {int(number) for number in np.unique(labels)} - self._touching
        away = {
            number: self._alike(number, colours)
            for number, person in self._people.items()
            if number not in here and size > 0.3 * person.size
        }
        number = max(away, key=lambda each: away[each], default=0)
        if not number or away[number] < 0.5:
            if size < _LEAST:
                return
            number = self._count = self._count + 1
            self._people[number] = _Person(colours, size)
        labels[labels == number] = 0
        labels[inside] = number
        self._groups = [group - {number} for group in self._groups]
        self._groups = [group for group in self._groups if len(group) > 1]


def mask_of(labels: Labels, number: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a mask of a person at the size of the frame, (H, W) in [0, 1]."""
    mask = (spread(labels, REACH) == number).astype(np.uint16) * 65535
    large = resize(mask[..., None], size[1], size[0])[..., 0]
    return large.astype(np.float32) / np.float32(65535)


def mask_alpha(alpha: Image, mask: NDArray[np.float32]) -> Image:
    """Multiply alpha of any type by a mask."""
    masked = alpha * mask
    if alpha.dtype.kind == "u":
        masked = np.rint(masked)
    return masked.astype(alpha.dtype)
