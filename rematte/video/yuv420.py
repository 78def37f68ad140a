"""Converts 8-bit YUV 4:2:0 to RGB and back, several times faster than libswscale.

Nearly every video needs only this; `colour` converts other formats with libswscale.
Like there, chroma lies in the middle of its four pixels and is sampled bilinearly.

Source:
    ITU-T H.273, equations of MatrixCoefficients.
"""

import av
import numpy as np

from rematte.video.frame import RANGE_FULL, Colour, Pixels
from rematte.video.parallel_rows import kernels, run_rows
from rematte.video.pixels import plane_values, views

# Luma weights of red and blue by the code point of the matrix.
_WEIGHTS = {
    1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114),
    7: (0.212, 0.087), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593),
}  # fmt: skip


def can_convert(pixel_format: str, colour: Colour) -> bool:
    """Whether this module converts a pixel format and a colour."""
    return pixel_format in ("yuv420p", "yuvj420p") and colour.matrix in _WEIGHTS


# Formats of hardware decoders: the planar format with the same values, and the number
# of bits that they are shifted up.
_PAIRED = {"nv12": ("yuv420p", 0), "p010le": ("yuv420p10le", 6)}


def to_planar(frame: av.VideoFrame) -> av.VideoFrame:
    """Split interleaved chroma into two planes; other frames are returned unchanged.

    libswscale would leave the last column of odd widths undefined.
    """
    if frame.format.name not in _PAIRED:
        return frame
    name, shift = _PAIRED[frame.format.name]
    made = av.VideoFrame(frame.width, frame.height, name)
    luma, pairs = plane_values(frame, 0), plane_values(frame, 1)
    given = luma, pairs[:, ::2], pairs[:, 1::2]
    for plane, values in zip(views(made), given, strict=True):
        plane[:] = values[: len(plane), : plane.shape[1]] >> shift
    return made


def _luma(colour: Colour) -> tuple[int, int, int]:
    """Return the code of black, and the ranges of codes of luma and of chroma."""
    return (0, 255, 255) if colour.range == RANGE_FULL else (16, 219, 224)


def to_rgb(frame: av.VideoFrame, colour: Colour) -> Pixels:
    """Convert a frame that `can_convert` accepts to (H, W, 3), full range."""
    out = np.empty((frame.height, frame.width, 3), np.uint8)
    kr, kb = _WEIGHTS[colour.matrix]
    kg = 1 - kr - kb
    black, white, chroma = _luma(colour)
    gains = np.array(
        [2 * (1 - kr), 2 * kb * (1 - kb) / kg, 2 * kr * (1 - kr) / kg, 2 * (1 - kb)]
    )
    numbers = np.array([black, 255 / white, *(gains * 255 / chroma)], np.float32)
    run_rows(kernels.to_rgb, frame.height, *views(frame), out, numbers)
    return out


def from_rgb(pixels: Pixels, colour: Colour) -> av.VideoFrame:
    """Convert (H, W, 3) or gray (H, W, 1), 8 bits, full range, to yuv420p."""
    height, width = pixels.shape[:2]
    frame = av.VideoFrame(width, height, "yuv420p")
    kr, kb = _WEIGHTS[colour.matrix]
    black, white, chroma = _luma(colour)
    weights = np.array([kr, 1 - kr - kb, kb]) * (white / 255)
    chroma_b = np.array([-kr, kr + kb - 1, 1 - kb]) / (2 * (1 - kb)) * (chroma / 255)
    chroma_r = np.array([1 - kr, kr + kb - 1, -kb]) / (2 * (1 - kr)) * (chroma / 255)
    numbers = np.array([black, *weights, *chroma_b, *chroma_r], np.float32)
    packed = pixels if pixels[:1].flags.c_contiguous else np.ascontiguousarray(pixels)
    run_rows(kernels.from_rgb, (height + 1) // 2, packed, *views(frame), numbers)
    return frame
