"""Turns decoded pictures upright."""

import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from rematte.video.fitting import Fitting
from rematte.video.frame import Pixels


class Upright:
    """The rotation and mirroring that show a decoded picture upright.

    `codec` is FFmpeg's name of the decoder where the picture is an image, and `aspect`
    the width of a stored pixel over its height, None if that is unknown.
    """

    def __init__(
        self, frame: av.VideoFrame, codec: str = "", aspect: Fraction | None = None
    ) -> None:
        a, b, c, d = _display_matrix(frame, codec)
        self.sideways = abs(b) > abs(a)
        self._aspect = aspect or Fraction(1)
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

    def fitting(
        self, coded: tuple[int, int], size: tuple[int, int] | None, fit: str
    ) -> Fitting:
        """Fit a picture, as decoded, into an upright frame; both [pixels]."""
        return Fitting.of(self.size(*coded), self.pixel_aspect(), size, fit)

    def apply(self, pixels: Pixels) -> Pixels:
        """Turn decoded pixels upright."""
        if self.sideways:
            pixels = pixels.transpose(1, 0, 2)
        pixels = pixels[:: -1 if self._flip_y else 1, :: -1 if self._flip_x else 1]
        return np.ascontiguousarray(pixels)


# Display matrices by `frame.rotation` [degrees counter-clockwise].
_TURNS = {0: (1, 0, 0, 1), 1: (0, -1, 1, 0), 2: (-1, 0, 0, -1), 3: (0, 1, -1, 0)}


def _display_matrix(frame: av.VideoFrame, codec: str) -> tuple[int, int, int, int]:
    """Return (a, b, c, d) [1/65536], which show (x, y) at (a x + c y, b x + d y).

    Source:
        ISO/IEC 14496-12, the matrix of a track header.
    """
    if codec in ("png", "apng"):
        # PyAV 18.1 frees the name of a PNG's colour profile twice once its side
        # data has been looked at, and the process dies. So PNG is never mirrored.
        return _TURNS[round(frame.rotation / 90) % 4]
    side_data: Any = frame.side_data  # PyAV's stub types it as a mapping of names
    data = side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    m = struct.unpack("=9i", bytes(data)[:36])
    return m[0], m[1], m[3], m[4]


def _unknown_side_data(kind: type[SideDataType], value: Any) -> SideDataType:
    member: SideDataType = object.__new__(kind)
    member._name_, member._value_ = f"TYPE_{value}", value
    return member


# PyAV 18.1 lists fewer kinds of side data than FFmpeg 8 attaches, and one that it
# does not know hides them all: no photo with EXIF could be turned upright.
SideDataType._missing_ = classmethod(_unknown_side_data)  # type: ignore[assignment]
