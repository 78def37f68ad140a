"""Figures of mattes without a true one, as pure functions of NumPy arrays.

Alpha is (H, W) in [0, 1].
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

# A picture shows no one where alpha covers less of it than this.
NO_ONE = 0.0005
# Added to both sides of the quotient, as a share of the picture: specks of alpha where
# there is no one would else be full disagreement.
_SPECK = 0.001
_SOLID = 0.9  # alpha from here on has no hole
_STILL = 6 / 255  # the picture counts as unchanged below this
# Mattes that should be alike, but disagree by this share, make a moment worth a look.
DISAGREES = 0.04
EDGE = 0.05  # alpha further than this from 0 and from 1 is an edge
_FEWEST = 24  # pixels of still edges, so that their mean says something


class Remark(NamedTuple):
    """A frame that deserves a look."""

    time: float  # when it is shown [s]
    score: float  # how much it deserves a look, in [0, 1]
    reasons: list[str]  # why, in words
    seen: Any  # what was measured there

    def __str__(self) -> str:
        return f"look at {self.time:.2f} s: {'; '.join(self.reasons)}"

    def as_json(self) -> dict[str, Any]:
        """Give the remark as types that JSON has."""
        time, score = round(self.time, 3), round(self.score, 4)
        return {"time": time, "score": score, "reasons": self.reasons}


def coverage(alpha: Array) -> float:
    """Return the share of the picture that alpha covers, in [0, 1]."""
    return float(alpha.mean())


def agreement(one: Array, other: Array) -> float:
    """Return how far two mattes of one picture agree, in [0, 1].

    What both cover over what either covers: the intersection over union of masks,
    continued to alpha.

    Source:
        Ruzicka, Anwendung mathematisch-statistischer Methoden in der Geobotanik, 1958.
    """
    both, either = np.minimum(one, other).mean(), np.maximum(one, other).mean()
    return float((both + _SPECK) / (either + _SPECK))


def holes(alpha: Array) -> float:
    """Return the share of the person that is see-through and enclosed by the person.

    A gap that is really there, such as between arm and body, is one too. What touches
    the border of the picture is none.
    """
    solid = alpha >= _SOLID
    enclosed = ~solid & ~_reached(~solid)
    lost = float((1 - alpha)[enclosed].sum())
    whole = float(solid.sum() + enclosed.sum())
    return lost / whole if whole else 0.0


def _reached(open_: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find what can be reached from the border without leaving `open_`."""
    found = np.zeros_like(open_)
    found[[0, -1]], found[:, [0, -1]] = open_[[0, -1]], open_[:, [0, -1]]
    count = -1
    while int(found.sum()) != count:
        count = int(found.sum())
        for reached, free in ((found, open_), (found.T, open_.T)):
            for order in (range(1, len(free)), range(len(free) - 2, -1, -1)):
                last = reached[0 if order.step > 0 else -1]
                for row in order:
                    last = reached[row] = reached[row] | (last & free[row])
    return found


def flicker(alphas: Sequence[Array], pictures: Sequence[Array]) -> float | None:
    """Return the mean change of alpha between frames, in [0, 1], at still edges.

    `pictures` are the brightness of the frames, (H, W) in [0, 1]. The result is None
    where no edge stands still.
    """
    total, count = 0.0, 0
    edges = [(alpha > EDGE) & (alpha < 1 - EDGE) for alpha in alphas]
    for old in range(len(alphas) - 1):
        new = old + 1
        here = np.abs(pictures[new] - pictures[old]) < _STILL
        here &= edges[old] | edges[new]
        total += float(np.abs(alphas[new] - alphas[old])[here].sum())
        count += int(here.sum())
    return total / count if count >= _FEWEST else None


def empty_spans(
    samples: Iterable[tuple[float, float, float]],
) -> list[dict[str, float]]:
    """Join consecutive samples that show no one into spans: "start" and "end" [s].

    Each sample is when it begins and ends [s], and its coverage.
    """
    found = []
    for empty, group in groupby(samples, lambda sample: sample[2] < NO_ONE):
        if empty:
            joined = list(group)
            start, end = joined[0][0], joined[-1][1]
            found.append({"start": round(start, 3), "end": round(end, 3)})
    return found
