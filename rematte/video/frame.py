"""What the reader gives and the writer takes: frames with time, and their colour.

No torch here, and no files.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from rematte.video.timecode import Timecode

Pixels = NDArray[np.uint8 | np.uint16]

# Code points of ITU-T H.273, which FFmpeg's enumerations follow.
UNSPECIFIED = 2
MATRIX_RGB, MATRIX_BT709, MATRIX_BT601 = 0, 1, 6
RANGE_LIMITED, RANGE_FULL = 1, 2
TRANSFER_LOG, TRANSFER_LOG_SQRT, TRANSFER_SRGB = 9, 10, 13
TRANSFER_PQ, TRANSFER_HLG = 16, 18

# The transfer curves whose values are no ordinary picture, by what they are called.
TRANSFERS = {
    TRANSFER_PQ: "PQ",
    TRANSFER_HLG: "HLG",
    TRANSFER_LOG: "logarithmic",
    TRANSFER_LOG_SQRT: "logarithmic",
}


@dataclass(frozen=True, slots=True)
class Colour:
    """How code values stand for colours, as H.273 code points.

    Attributes:
        matrix: Matrix coefficients; 0 is RGB, 1 BT.709, 5 and 6 BT.601, 9 BT.2020.
        range: 1 limited ("tv"), 2 full ("pc").
        primaries: Colour primaries; 2 is unspecified.
        transfer: Transfer characteristics; 2 is unspecified, 16 PQ, 18 HLG.
        peak: The brightest white of a PQ picture [cd/m2]: that of the display it was
            mastered on, where the source says it.
    """

    matrix: int = MATRIX_BT709
    range: int = RANGE_LIMITED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    peak: float = 1000.0

    @property
    def sdr(self) -> bool:
        """Whether values are those of an ordinary picture: neither HDR nor log."""
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

# Standard dynamic range in the most common form. Mattes are tagged with it as well,
# since they are data: it is what programs show without changing any value.
SDR = Colour(MATRIX_BT709, RANGE_LIMITED, 1, 1)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and its time.

    Attributes:
        pixels: (H, W, 3) RGB, (H, W, 4) with straight alpha or (H, W, 1) gray; 8 or
            16 bits, full range, display-encoded as in the source.
        time: When it is shown [s].
        duration: For how long [s].
        name: Stem of the image file it came from; empty for a frame of a video.
        number: Its number in a numbered sequence of images, or None.
        alpha: The source's own alpha, (H, W, 1), 8 or 16 bits; None where it has none,
            it is not wanted, or all of the frame is opaque.
        original: The picture as it is encoded in the source, where `pixels` are an SDR
            version of it (see `tone`); None where they are the source's own.
    """

    pixels: Pixels
    time: Fraction
    duration: Fraction
    name: str = ""
    number: int | None = None
    alpha: Pixels | None = None
    original: Pixels | None = None

    def showing(self, pixels: Pixels) -> "Frame":
        """The same frame with these pixels and nothing beside them."""
        return Frame(pixels, self.time, self.duration, self.name, self.number)


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What is known of a source before all of it is read.

    Attributes:
        width: Upright width [pixels], after rotation and resizing.
        height: Upright height [pixels].
        rate: Frames per second, as usual in it where the rate varies.
        time_base: The unit all times are multiples of [s].
        colour: Of the source.
        depth: Bits per component that hold information: 8 to 16.
        sample_aspect_ratio: Width of a pixel over its height.
        frames: How many frames the container or folder says there are, an estimate;
            None if it does not say.
        still: Whether the source is one image.
        timecode: What the source says, or None.
        beside: What the source has beside its picture, such as "sound".
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
    beside: tuple[str, ...] = ()
