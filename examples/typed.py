"""The program of docs/cookbook.md that mypy --strict checks."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

import rematte


def cover(
    matter: rematte.Matter, frames: list[npt.NDArray[np.uint8]]
) -> Iterator[float]:
    """Give each frame's mean alpha, in [0, 1]."""
    matted: rematte.Matted
    for matted in matter.frames(frames):
        yield float(matted.alpha.mean()) / 255


def convert(path: str) -> int:
    """Convert a file and count its frames."""
    report: rematte.Report = rematte.convert_video(
        rematte.Matter(engine="auto"), path, output="typed.mov", progress=False
    )
    return report.frames


print(convert("input.mp4"), list(cover(rematte.Matter(), [])))
