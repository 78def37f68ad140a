"""Exact conversion between FFmpeg's pixel formats and RGB arrays.

Matrix and range are always given, never left to a default, and every step rounds to
within one 8-bit level of the formulas in ITU-T H.273; docs/formats.md has the figures.
"""

import struct
from dataclasses import replace
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import Interpolation

from rematte.video import yuv420
from rematte.video.frame import (
    MATRIX_BT601,
    MATRIX_BT709,
    MATRIX_RGB,
    RANGE_FULL,
    RANGE_LIMITED,
    TRANSFER_HLG,
    TRANSFER_PQ,
    UNSPECIFIED,
    Colour,
    Pixels,
)
from rematte.video.pixels import views
from rematte.video.side_data import read_side_data

# libswscale's default drops half of the chroma and rounds down: up to 2 levels dark.
_PRECISE = int(
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)

# FFmpeg's names of array formats, by 16 bits and channels.
_ARRAY_FORMATS = {
    False: {1: "gray", 3: "rgb24", 4: "rgba"},
    True: {1: "gray16le", 3: "rgb48le", 4: "rgba64le"},
}

# libswscale names its matrices by constants of its own (SWS_CS_*).
_SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


def frame_colour(frame: av.VideoFrame) -> Colour:
    """Read a decoded frame's colour, with players' defaults for missing tags.

    RGB is full range. YUV without a matrix is BT.709 from 720 lines up and BT.601
    below, limited range unless the format (yuvj...) or the tag says full.
    """
    if frame.format.is_rgb or frame.format.has_palette:
        matrix, range_ = MATRIX_RGB, RANGE_FULL
    else:
        matrix, range_ = frame.colorspace, frame.color_range
        if matrix not in _SWS_MATRIX:
            hd = min(frame.width, frame.height) >= 720
            matrix = MATRIX_BT709 if hd else MATRIX_BT601
        if range_ not in (RANGE_LIMITED, RANGE_FULL):
            full = frame.format.name.startswith("yuvj")
            range_ = RANGE_FULL if full else RANGE_LIMITED
    primaries, transfer = frame.color_primaries, frame.color_trc
    colour = Colour(matrix, range_, primaries, transfer)
    return replace(colour, peak=_mastering_peak(frame) or colour.peak)


def _side_data(frame: av.VideoFrame, name: str) -> bytes:
    """Return side data of a decoded HDR frame, empty if there is none."""
    hdr = frame.color_trc in (TRANSFER_PQ, TRANSFER_HLG)
    return read_side_data(frame, name) if hdr else b""


def _mastering_peak(frame: av.VideoFrame) -> float | None:
    """Return the white of a frame's mastering display [cd/m2], if it is stated."""
    # AVMasteringDisplayMetadata: ten fractions, of which the last is the largest
    # luminance, and whether the primaries and the luminances are there.
    data = _side_data(frame, "MASTERING_DISPLAY_METADATA") or bytes(88)
    *_, numerator, denominator, _, known = struct.unpack_from("=22i", data)
    peak = numerator / denominator if known and denominator > 0 else 0.0
    return peak if 0 < peak <= 10_000 else None


_HDR_METADATA = {
    "MASTERING_DISPLAY_METADATA": "mastering display",
    "CONTENT_LIGHT_LEVEL": "content light level",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DOVI_METADATA": "Dolby Vision",
}


def lost_metadata(frame: av.VideoFrame) -> list[str]:
    """Note the HDR metadata of a decoded frame, which no output here can hold."""
    names = [text for name, text in _HDR_METADATA.items() if _side_data(frame, name)]
    return [f"HDR metadata is not carried over: {', '.join(names)}"] if names else []


def frame_depth(frame: av.VideoFrame) -> int:
    """Return the bits per component of a frame, at most 16 (float counts as 16)."""
    if frame.format.has_palette:
        return 8
    return min(16, max(component.bits for component in frame.format.components))


def to_rgb(
    frame: av.VideoFrame, colour: Colour, depth: int, size: tuple[int, int] | None,
    alpha: bool = False,
) -> Pixels:  # fmt: skip
    """Convert a decoded frame of any pixel format to (H, W, 3), full range.

    Above a `depth` of 8 the array has 16 bits, else 8. It is resized to `size`, width
    and height [pixels], if there is one. With `alpha` it is (H, W, 4) where there is an
    alpha channel; a palette has one if not all of the picture is opaque.
    """
    frame = yuv420.to_planar(frame)
    if size is None and depth <= 8 and yuv420.can_convert(frame.format.name, colour):
        return yuv420.to_rgb(frame, colour)
    width, height = size or (frame.width, frame.height)
    bits = frame_depth(frame)
    palette = frame.format.has_palette
    alpha &= palette or any(part.is_alpha for part in frame.format.components)
    rgb = frame.reformat(
        width, height, _ARRAY_FORMATS[bits > 8][4 if alpha else 3],
        src_colorspace=_SWS_MATRIX.get(colour.matrix, MATRIX_BT709),
        src_color_range=colour.range, dst_color_range=RANGE_FULL,
        interpolation=_PRECISE,
    )  # fmt: skip
    pixels = cast(Pixels, rgb.to_ndarray())
    if alpha and palette and pixels[..., 3].min() == 255:
        pixels = np.ascontiguousarray(pixels[..., :3])
    if bits <= 8:
        return pixels.astype(np.uint16) * 257 if depth > 8 else pixels
    if not frame.format.is_rgb or (width, height) != (frame.width, frame.height):
        # White comes out as 255 * 256 from limited range and as 2^bits - 1 shifted up
        # from full range or resized RGB; repeating the leading bits makes it 65535.
        lacking = pixels >> (8 if colour.range == RANGE_LIMITED else bits)
        if alpha:  # which is always full range
            lacking[..., 3] = pixels[..., 3] >> bits
        pixels += np.minimum(lacking, ~pixels)
    return pixels


def from_rgb(pixels: Pixels, pixel_format: str, colour: Colour) -> av.VideoFrame:
    """Convert an array to the format that an encoder takes, and tag it.

    It is (H, W, 1), (H, W, 3) or (H, W, 4), 8 or 16 bits, full range; `colour` is that
    of the result.
    """
    sixteen_bit, channels = pixels.dtype == np.uint16, pixels.shape[2]
    if not sixteen_bit and channels < 4 and yuv420.can_convert(pixel_format, colour):
        return _tagged(yuv420.from_rgb(pixels, colour), colour)
    if channels == 1 and not pixel_format.startswith("gray"):
        pixels, channels = pixels.repeat(3, 2), 3
    rgb = channels == 1 or av.VideoFormat(pixel_format).is_rgb
    if sixteen_bit and not rgb:
        # libswscale takes 255 * 256 for white here, where 65535 is meant.
        pixels = pixels.copy()
        pixels[..., :3] -= pixels[..., :3] >> 8
    name = _ARRAY_FORMATS[sixteen_bit][channels]
    array: Any = np.ascontiguousarray(pixels if channels > 1 else pixels[..., 0])
    frame = av.VideoFrame.from_ndarray(array, name)
    if rgb:
        if pixel_format != name:
            frame = frame.reformat(format=pixel_format, interpolation=_PRECISE)
        matrix, range_ = MATRIX_RGB, RANGE_FULL
    else:
        matrix, range_ = colour.matrix, colour.range
        frame = frame.reformat(
            format=pixel_format, src_colorspace=_SWS_MATRIX[matrix],
            dst_colorspace=_SWS_MATRIX[matrix], src_color_range=RANGE_FULL,
            dst_color_range=range_, interpolation=_PRECISE,
        )  # fmt: skip
        if channels == 4:
            _write_alpha(frame, pixels[..., 3])
    return _tagged(frame, replace(colour, matrix=matrix, range=range_))


def _write_alpha(frame: av.VideoFrame, alpha: Pixels) -> None:
    """Write (H, W) to the alpha plane of YUV; libswscale is off by 1 at half of it."""
    bits = frame.format.components[3].bits
    plane = views(frame)[3]
    most = np.iinfo(alpha.dtype).max
    codes = np.arange(most + 1) * ((1 << bits) - 1) / most
    np.take(codes.round().astype(plane.dtype), alpha, out=plane, mode="clip")


def _tagged(frame: av.VideoFrame, colour: Colour) -> av.VideoFrame:
    """Tag a frame with its colour."""
    frame.colorspace, frame.color_range = colour.matrix, colour.range
    frame.color_primaries, frame.color_trc = colour.primaries, colour.transfer
    return frame


class Palette:
    """Converts pictures to 256 colours each, as GIF needs, with FFmpeg's filters.

    With alpha, one of the colours is transparent.
    """

    def __init__(self, width: int, height: int, alpha: bool) -> None:
        self._graph = graph = av.filter.Graph()
        size = f"video_size={width}x{height}"
        source = graph.add("buffer", f"{size}:pix_fmt=rgba:time_base=1/1")
        split = graph.add("split")
        transparent = f"reserve_transparent={int(alpha)}"
        generate = graph.add("palettegen", f"stats_mode=single:{transparent}")
        use = graph.add("paletteuse", "new=1:alpha_threshold=128")
        source.link_to(split)
        split.link_to(generate, 0, 0)
        split.link_to(use, 1, 0)
        generate.link_to(use, 0, 1)
        use.link_to(graph.add("buffersink"))
        graph.configure()
        self._count = 0

    def map(self, pixels: Pixels) -> av.VideoFrame:
        """Convert (H, W, 1, 3 or 4), 8 bits, to a frame with a palette."""
        if pixels.shape[2] == 1:
            pixels = pixels.repeat(3, 2)
        if pixels.shape[2] == 3:
            pixels = np.pad(pixels, ((0, 0), (0, 0), (0, 1)), constant_values=255)
        array: Any = np.ascontiguousarray(pixels)
        frame = av.VideoFrame.from_ndarray(array, "rgba")
        frame.pts, frame.time_base = self._count, Fraction(1)
        self._count += 1
        self._graph.push(frame)
        mapped: Any = self._graph.pull()
        return mapped  # type: ignore[no-any-return]


def yuv_colour(colour: Colour, height: int) -> Colour:
    """Return the colour to encode as YUV: the source's, or a usual one for RGB."""
    if colour.matrix in _SWS_MATRIX:
        return colour
    matrix = MATRIX_BT709 if height >= 720 else MATRIX_BT601
    primaries, transfer = colour.primaries, colour.transfer
    if matrix == MATRIX_BT709 and primaries == UNSPECIFIED:
        primaries = transfer = MATRIX_BT709
    return Colour(matrix, RANGE_LIMITED, primaries, transfer)
