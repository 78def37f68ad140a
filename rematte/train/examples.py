"""Examples that are computed once and drawn from in every step.

What a teacher's block gets and gives does not change while a student's block learns, so
it is computed once, and many small steps of that block alone are cheap: ten minutes of
one core show it more than a day of training the whole network. Knows no files.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.random import Generator

from rematte.train.batches import stack
from rematte.train.extras import Sample


class Examples:
    """Samples in half precision, those of one size together.

    Args:
        samples: Samples with a batch dimension; None is left out.
    """

    def __init__(self, samples: Iterable[Sample | None]) -> None:
        self._groups: dict[Any, list[Sample]] = {}
        for sample in samples:
            if sample is None:
                continue
            # What one block gives is what the next one gets: it is kept once.
            maps = {id(value): value.cpu().half() for value in sample.values()}
            for at in range(len(next(iter(maps.values())))):
                rows = {key: value[at].clone() for key, value in maps.items()}
                one = {name: rows[id(value)] for name, value in sample.items()}
                shapes = tuple((key, value.shape) for key, value in one.items())
                self._groups.setdefault(shapes, []).append(one)

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def draw(self, rng: Generator, count: int) -> Sample:
        """Draw examples of one size, (count, ...) each, in single precision."""
        groups = list(self._groups.values())
        sizes = np.array([len(group) for group in groups], float)
        group = groups[int(rng.choice(len(groups), p=sizes / sizes.sum()))]
        return _single([group[int(at)] for at in rng.integers(0, len(group), count)])

    def every(self) -> Iterator[Sample]:
        """Yield all examples, those of one size at once."""
        yield from map(_single, self._groups.values())


def _single(group: list[Sample]) -> Sample:
    return {key: value.float() for key, value in stack(group).items()}
