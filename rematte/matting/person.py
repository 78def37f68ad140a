"""Follows the chosen person of a video and gives their alpha."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rematte.matting.matte import Matted
from rematte.matting.parts import Labels, centres, likeness, spread
from rematte.matting.people import REACH, People, mask_alpha, mask_of
from rematte.video.frame import Pixels
from rematte.video.mask_spec import Who, parse_who
from rematte.video.pixels import Image

# The chosen person may be out of sight, while others are seen, for this long before a
# note says so [s].
_AWAY = 2


class Person:
    """One person of a video, who is followed past the others.

    Args:
        who: Whom to follow: "largest", "centre", "left" or "right"; a number, in the
            order in which people appear and from left to right; or a point on the
            person in the first frame with people, "X,Y" [pixels]. The person is chosen
            again after each cut: by the same rule or, for a number or a point, by the
            closest resemblance. With "not:" in front, everybody except the person is
            followed.

    Attributes:
        who: The choice that was given.
        notes: Sentences on where people may have been confused.

    Raises:
        ValueError: If `who` is none of these.
    """

    def __init__(self, who: str | int | Who) -> None:
        self.who = who if isinstance(who, Who) else parse_who(who)
        self.notes = list[str]()
        self._people = People()
        self._number, self._scene, self._asked = 0, 0, 0
        self._seen, self._noted = False, False
        self._last: Fraction | None = None  # when the person was last seen [s]
        self._colours: NDArray[np.float64] | None = None

    def alpha(self, matted: Matted) -> Image:
        """Return the chosen alpha in the next frame, (H, W), like `Matted.alpha`.

        Args:
            matted: The frame; each must be given once, in order of time.

        Raises:
            ValueError: If nobody is at the point that was asked for, or a time was
                given with it.
        """
        if self.who.time is not None:
            raise ValueError(
                "a point with a time needs frames before it to be seen twice, which "
                "convert_video does; give a point in the first frame with people, X,Y"
            )
        mask = self.mask(matted, matted.pixels("alpha", True))
        return matted.alpha if mask is None else mask_alpha(matted.alpha, mask)

    def look(self, matted: Matted, alpha: Pixels) -> Labels:
        """Number everybody in the next frame, without choosing.

        Args:
            matted: The frame; each must be given once, in order of time.
            alpha: The network's alpha, (H, W, 1).

        Returns:
            The number of the person at each pixel of a small copy, 0 for nobody.
        """
        if matted.cut:
            self._scene, self._number = self._scene + 1, 0
        labels = self._people.look(matted, alpha)
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
        number = int(spread(labels, REACH)[row, column]) if inside else 0
        if not number:
            places = ", ".join(
                f"{left},{top}" for left, top in People.points(labels, size).values()
            )
            raise ValueError(
                f"person {x:g},{y:g} (--person): nobody is there then; "
                + (f"people are near {places}" if places else "nobody is in the frame")
            )
        self._number, self._asked = number, self._scene
        self._colours = self._people.colours(number)

    def report(self) -> list[str]:
        """Return the notes, each once, and one more if the person never came."""
        notes = list(dict.fromkeys([*self.notes, *self._people.unsettled()]))
        if self._seen and self._last is None:
            result = "everybody" if self.who.left_out else "nobody"
            notes.append(
                f"the person asked for (--person) was never seen, so {result} is "
                f"cut out; people seen in the last scene: {len(self._people.numbers)}"
            )
        return notes

    def begin(self) -> None:
        """Start again from the first frame, and keep the choice of the person."""
        self._people, self._scene, number = People(), 0, self._number
        self.who = replace(self.who, number=number, time=None)
        self._number, self.notes = 0, []

    def as_json(self) -> dict[str, Any]:
        """Describe the state after the last frame, so that it can be saved."""
        colours = None if self._colours is None else self._colours.tolist()
        return {
            "people": self._people.as_json(),
            "taken": self.who.number,
            "number": self._number,
            "scene": self._scene,
            "asked": self._asked,
            "seen": self._seen,
            "last": None if self._last is None else str(self._last),
            "noted": self._noted,
            "colours": colours,
        }

    @classmethod
    def from_json(cls, who: Who, state: dict[str, Any]) -> "Person":
        """Continue from a state that `as_json` described."""
        person = cls(replace(who, number=state["taken"], time=None))
        person._people = People.from_json(state["people"])
        person._number, person._scene = state["number"], state["scene"]
        person._asked, person._seen = state["asked"], state["seen"]
        person._noted, last = state["noted"], state["last"]
        person._last = None if last is None else Fraction(last)
        colours = state["colours"]
        person._colours = None if colours is None else np.array(colours)
        return person

    def follow(self, matted: Matted, alpha: Pixels) -> Labels:
        """Number everybody in the next frame, and choose the person in it.

        Args:
            matted: The frame; each must be given once, in order of time.
            alpha: The network's alpha, (H, W, 1).

        Raises:
            ValueError: If nobody is at the point that was asked for.
        """
        labels = self.look(matted, alpha)
        if not self._number:
            self._choose(labels, matted.size)
        self._seen = True
        self._note_absence(labels, matted.frame.time)
        if self._number and self._scene == self._asked:
            self._colours = self._people.colours(self._number)
        return labels

    def _note_absence(self, labels: Labels, time: Fraction) -> None:
        """Note when others have been seen for a while without the person."""
        if self._number and (labels == self._number).any():
            self._last, self._noted = time, False
        elif self._last is not None and not self._noted and labels.any():
            self._noted = time - self._last >= _AWAY
            if self._noted:
                self.notes.append(
                    f"the person asked for (--person) is not seen from "
                    f"{float(self._last):.2f} s on, for {_AWAY} s or more, while "
                    "others are; look at the result there"
                )

    def mask(self, matted: Matted, alpha: Pixels) -> NDArray[np.float32] | None:
        """Return a mask of those who are cut out, (H, W) in [0, 1]; None if all are.

        Args:
            matted: The frame; each must be given once, in order of time.
            alpha: The network's alpha, (H, W, 1).

        Raises:
            ValueError: If nobody is at the point that was asked for.
        """
        labels = self.follow(matted, alpha)
        left_out, chosen = self.who.left_out, labels == self._number
        if not ((chosen == left_out) & (labels > 0)).any():
            return None
        if not self._number:
            return np.zeros(matted.size, np.float32)
        mask = mask_of(labels, self._number, matted.size)
        return 1 - mask if left_out else mask

    def _choose(self, labels: Labels, size: tuple[int, int]) -> None:
        """Choose the person in this scene, if they are there."""
        found, who = centres(labels), self.who
        if not found:
            return
        if who.place:
            height, width = labels.shape
            middle = np.array([height, width]) / 2
            ranks: dict[str, Callable[[int], float]] = {
                "largest": lambda n: -float((labels == n).sum()),
                "centre": lambda n: float(np.hypot(*(found[n] - middle))),
                "left": lambda n: float(found[n][1]),
                "right": lambda n: -float(found[n][1]),
            }
            self._number = min(found, key=ranks[who.place])
        elif who.number in found:
            self._number, self._asked = who.number, self._scene
        elif self._scene != self._asked and self._colours is not None:
            known = self._colours
            self._number = max(
                found, key=lambda n: likeness(self._people.colours(n), known)
            )
            self.notes.append(
                "after a cut, the most similar person is chosen, who may be another one"
            )
        elif not who.number and self._scene == self._asked:
            self.take(labels, size)
