"""Fits pictures into frames of the requested size."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from rematte.video.frame import Frame, Pixels

FITS = ("cover", "contain", "stretch")
# Up to this difference of the sides [pixels] a picture is stretched to fill the frame:
# 1920x1080 needs no bar in 854x480.
_NEGLIGIBLE = 2


def fitted_size(
    size: tuple[float, float], frame: tuple[int, int], fit: str
) -> tuple[int, int]:
    """Return the size of a picture that is resized to fit a frame [pixels].

    All sizes are height and width. "cover" fills the frame and is larger
    on one side, "contain" is smaller on one side, "stretch" distorts.
    """
    if fit == "stretch":
        return frame
    scale = (max if fit == "cover" else min)(frame[0] / size[0], frame[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


@dataclass(frozen=True, slots=True)
class Fitting:
    """The position of a resized picture in a frame of the requested size.

    Attributes:
        inner: Width and height that the picture is resized to [pixels].
        outer: Width and height of the frame [pixels].
    """

    inner: tuple[int, int]
    outer: tuple[int, int]

    @classmethod
    def of(
        cls,
        picture: tuple[int, int],
        aspect: Fraction,
        frame: tuple[int, int] | None,
        fit: str,
    ) -> "Fitting":
        """Fit a picture into a frame, both upright widths and heights [pixels].

        `aspect` is the width of the picture's pixels over their height; those of the
        frame are square, unless `fit` is "stretch". Without a frame, that of the
        picture is taken.
        """
        if frame is None:
            return cls(picture, picture)
        wide = picture[0] * float(aspect)
        height, width = fitted_size((picture[1], wide), frame[::-1], fit)
        close = max(abs(width - frame[0]), abs(height - frame[1])) <= _NEGLIGIBLE
        return cls(frame if close else (width, height), frame)

    def place(self, frame: Frame) -> Frame:
        """Crop a resized picture to the frame, and fill bars with hidden pixels.

        The bars repeat the picture's edge, so that the network sees no border, and the
        frame's alpha is 0 there.
        """
        if self.inner == self.outer:
            return frame
        alpha = frame.alpha
        if alpha is None and min(np.subtract(self.outer, self.inner)) >= 0:
            full = np.iinfo(frame.pixels.dtype).max
            alpha = np.full((*frame.pixels.shape[:2], 1), full, frame.pixels.dtype)
        return replace(
            frame,
            pixels=self._cut(frame.pixels, "edge"),
            alpha=None if alpha is None else self._cut(alpha, "constant"),
        )

    def _cut(self, pixels: Pixels, filled: str) -> Pixels:
        lacking = [
            b - s for b, s in zip(self.outer[::-1], self.inner[::-1], strict=True)
        ]
        edges = [(max(0, n) // 2, max(0, n) - max(0, n) // 2) for n in lacking]
        top, left = (max(0, -n) // 2 for n in lacking)
        pixels = pixels[top : top + self.outer[1], left : left + self.outer[0]]
        mode: Any = filled
        return np.pad(pixels, [*edges, (0, 0)], mode)
