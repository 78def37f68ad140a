"""The list of cuts: a CSV file that appears with the outputs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rematte.video.output_paths import (
    as_output_error,
    real_path,
    sweep,
    temporary_path,
)

# The number of the first frame of a new scene in the outputs, from 0, and its time [s].
CutList = Sequence[tuple[int, float]]


def shift(cuts: CutList, by: float) -> list[tuple[int, float]]:
    """Make all times earlier by so many seconds."""
    return [(number, time - by) for number, time in cuts]


@contextmanager
def write_cuts(path: str | Path | None, cuts: CutList) -> Iterator[None]:
    """Write the list when all outputs are complete, and name it when they are named.

    Args:
        path: Where it goes; None: nowhere.
        cuts: What it holds.

    Raises:
        OutputError: If it cannot be written.
    """
    if path is None:
        yield
        return
    path = Path(path)
    part = temporary_path(path)
    try:
        with as_output_error(path):
            sweep(path)
            lines = [f"{number},{time:.6f}\n" for number, time in cuts]
            part.write_text("".join(["frame,seconds\n", *lines]), "utf-8")
        yield
        with as_output_error(path):
            part.replace(real_path(path))
    finally:
        part.unlink(missing_ok=True)
