"""Brings decoded pictures into frames: turned upright, resized, cropped, with bars."""

import struct
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np

from rematte.video.frame import Frame, Pixels
from rematte.video.side_data import read_side_data

FITS = ("cover", "contain", "stretch")
# Up to this difference of the sides [pixels] a picture is stretched to fill the frame:
# 1920x1080 needs no bar in 854x480.
_NEGLIGIBLE = 2


class Upright:
    """The rotation and mirroring that show a decoded picture upright.

    `aspect` is the width of a stored pixel over its height, None if that is unknown.
    """

    def __init__(self, frame: av.VideoFrame, aspect: Fraction | None = None) -> None:
        a, b, c, d = _display_matrix(frame)
        self.sideways = abs(b) > abs(a)
        self._aspect = Fraction(aspect or 1)
        self._coded = frame.width, frame.height
        self._flip_x = (c if self.sideways else a) < 0
        self._flip_y = (b if self.sideways else d) < 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Turn a coded size into the upright one, or back."""
        return (height, width) if self.sideways else (width, height)

    def pixel_aspect(
        self, size: tuple[int, int] | None = None, fit: str = "stretch"
    ) -> Fraction:
        """Return the width of a pixel over its height, in the upright picture.

        If it is stretched to another size [pixels], its shape on the screen stays the
        same.
        """
        aspect = 1 / self._aspect if self.sideways else self._aspect
        if size is None or aspect == 1:
            return aspect
        if fit != "stretch":
            return Fraction(1)
        return aspect * Fraction(*self.size(*self._coded)) / Fraction(*size)

    def scaled_size(
        self, coded: tuple[int, int], frame: tuple[int, int], fit: str
    ) -> tuple[int, int]:
        """Return the size to which a picture is resized to fit an upright frame.

        All are width and height [pixels], of the picture before it is turned. Pixels of
        the frame are square, unless `fit` is "stretch".
        """
        width, height = self.size(*coded)
        shown = height, width * float(self.pixel_aspect())
        height, width = fitted_size(shown, frame[::-1], fit)
        close = max(abs(width - frame[0]), abs(height - frame[1])) <= _NEGLIGIBLE
        return self.size(*(frame if close else (width, height)))

    def apply(self, pixels: Pixels) -> Pixels:
        """Turn decoded pixels upright."""
        if self.sideways:
            pixels = pixels.transpose(1, 0, 2)
        pixels = pixels[:: -1 if self._flip_y else 1, :: -1 if self._flip_x else 1]
        return np.ascontiguousarray(pixels)


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return (a, b, c, d) [1/65536], which show (x, y) at (a x + c y, b x + d y).

    Source:
        ISO/IEC 14496-12, the matrix of a track header.
    """
    data = read_side_data(frame, "DISPLAYMATRIX")
    a, b, _, c, d = struct.unpack_from("=5i", data) if data else (1, 0, 0, 0, 1)
    return a, b, c, d


def fitted_size(
    size: tuple[float, float], frame: tuple[int, int], fit: str
) -> tuple[int, int]:
    """Return the height and width of a picture that is resized to fit a frame [pixels].

    All sizes are height and width. "cover" fills the frame and is larger
    on one side, "contain" is smaller on one side, "stretch" distorts.
    """
    if fit == "stretch":
        return frame
    scale = (max if fit == "cover" else min)(frame[0] / size[0], frame[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def place(frame: Frame, size: tuple[int, int] | None) -> Frame:
    """Crop a resized picture to a width and height [pixels], and fill bars if needed.

    The bars repeat the picture's edge, so that the network sees no border, and the
    frame's alpha is 0 there. Without a size the frame stays as it is.
    """
    shape = frame.pixels.shape[:2]
    if size is None or shape == size[::-1]:
        return frame
    alpha = frame.alpha
    if alpha is None and min(np.subtract(size[::-1], shape)) >= 0:
        full = np.iinfo(frame.pixels.dtype).max
        alpha = np.full((*shape, 1), full, frame.pixels.dtype)
    alpha = None if alpha is None else _cut(alpha, size, "constant")
    return replace(frame, pixels=_cut(frame.pixels, size, "edge"), alpha=alpha)


def _cut(pixels: Pixels, size: tuple[int, int], filled: Any) -> Pixels:
    lacking = [int(n) for n in np.subtract(size[::-1], pixels.shape[:2])]
    edges = [(max(0, n) // 2, max(0, n) - max(0, n) // 2) for n in lacking]
    top, left = (max(0, -n) // 2 for n in lacking)
    pixels = pixels[top : top + size[1], left : left + size[0]]
    return np.pad(pixels, [*edges, (0, 0)], filled)
