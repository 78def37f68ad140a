"""Frames with their times and colour, which the reader yields and the writer takes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from rematte.video.timecode import Timecode

Pixels = NDArray[np.uint8 | np.uint16]

# Code points of ITU-T H.273, which FFmpeg's enumerations follow.
UNSPECIFIED = 2
MATRIX_RGB, MATRIX_BT709, MATRIX_BT601 = 0, 1, 6
RANGE_LIMITED, RANGE_FULL = 1, 2
TRANSFER_LINEAR, TRANSFER_LOG, TRANSFER_LOG_SQRT, TRANSFER_SRGB = 8, 9, 10, 13
TRANSFER_PQ, TRANSFER_HLG = 16, 18

# Names of the transfer curves whose values are not an SDR picture.
TRANSFERS = {
    TRANSFER_PQ: "PQ",
    TRANSFER_HLG: "HLG",
    TRANSFER_LOG: "logarithmic",
    TRANSFER_LOG_SQRT: "logarithmic",
}


@dataclass(frozen=True, slots=True)
class Colour:
    """The meaning of code values, as H.273 code points.

    Attributes:
        matrix: Matrix coefficients; 0 is RGB, 1 BT.709, 5 and 6 BT.601, 9 BT.2020.
        range: 1 limited ("tv"), 2 full ("pc").
        primaries: Colour primaries; 2 is unspecified.
        transfer: Transfer characteristics; 2 is unspecified, 16 PQ, 18 HLG.
        peak: The brightest white of a PQ picture [cd/m2]: that of its mastering
            display, if the source states it.
    """

    matrix: int = MATRIX_BT709
    range: int = RANGE_LIMITED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    peak: float = 1000.0

    @property
    def sdr(self) -> bool:
        """Whether values are SDR: neither HDR nor logarithmic."""
        return self.transfer not in TRANSFERS

    @property
    def hdr(self) -> bool:
        """Whether the transfer curve is one of the HDR ones (PQ or HLG)."""
        return self.transfer in (TRANSFER_PQ, TRANSFER_HLG)

    @property
    def wide_gamut(self) -> bool:
        """Whether the primaries are stated and reach far beyond those of BT.709."""
        return self.primaries not in _NARROW_PRIMARIES


# Unspecified, BT.709, and those of standard definition, which are close to it.
_NARROW_PRIMARIES = (0, UNSPECIFIED, 1, 4, 5, 6, 7)

# The most common form of SDR. Mattes are tagged with it too, since programs show it
# without changing any value.
SDR = Colour(MATRIX_BT709, RANGE_LIMITED, 1, 1)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and its time.

    Attributes:
        pixels: (H, W, 3) RGB, (H, W, 4) with straight alpha or (H, W, 1) gray; 8 or
            16 bits, full range, display-encoded as in the source.
        time: When it is shown [s].
        duration: For how long [s].
        name: Stem of the source's image file; empty for a frame of a video.
        number: Its number in a numbered sequence of images, or None.
        alpha: The source's own alpha, (H, W, 1), 8 or 16 bits; None if it has none or
            the frame is opaque, or if it was not requested.
        original: The picture in the source's encoding, if `pixels` are an SDR version
            of it (see `tone`); else None.
    """

    pixels: Pixels
    time: Fraction
    duration: Fraction
    name: str = ""
    number: int | None = None
    alpha: Pixels | None = None
    original: Pixels | None = None

    def showing(self, pixels: Pixels) -> "Frame":
        """Return the same frame with other pixels, without `alpha` and `original`."""
        return Frame(pixels, self.time, self.duration, self.name, self.number)

    def mirrored(self) -> "Frame":
        """Return its mirror image, with that of its own alpha and no `original`."""
        pixels, alpha = self.pixels[:, ::-1].copy(), self.alpha
        alpha = None if alpha is None else alpha[:, ::-1].copy()
        return replace(self, pixels=pixels, alpha=alpha, original=None)


@dataclass(frozen=True, slots=True)
class LazyFrame:
    """A decoded frame that is converted only on request.

    Attributes:
        time: When it is shown [s].
        convert: Returns the frame at an upright size, (width, height) [pixels].
        sketch: Returns some of its brightness values in [0, 1], always at the same
            positions, for comparisons; None if that would cost as much as the frame.
    """

    time: Fraction
    convert: Callable[[tuple[int, int]], Frame]
    sketch: Callable[[], NDArray[np.float32]] | None = None


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Properties of a source that are known before all of it is read.

    Attributes:
        width: Upright width [pixels], after rotation and resizing.
        height: Upright height [pixels].
        rate: Frames per second; the usual rate if it varies.
        time_base: Unit of all times [s].
        colour: Colour of the source.
        depth: Bits per component that hold information: 8 to 16.
        sample_aspect_ratio: Width of a pixel over its height.
        frames: Estimated number of frames from the container or folder, or None.
        still: Whether the source is one image.
        timecode: Timecode of the source, or None.
        other_tracks: Names of the source's other tracks, such as "sound".
    """

    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    colour: Colour
    depth: int = 8
    sample_aspect_ratio: Fraction = Fraction(1)
    frames: int | None = None
    still: bool = False
    timecode: Timecode | None = None
    other_tracks: tuple[str, ...] = ()
