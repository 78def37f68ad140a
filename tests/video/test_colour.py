"""Colour conversion against the formulas of ITU-T H.273, written out here again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import Tags, make_clip, yuv_frame
from fakes import as_frames, open_image
from numpy.typing import NDArray
from writing import info_of, write

from rematte.video.codecs import CODECS, CONTAINERS, IMAGES, is_nvenc
from rematte.video.colour import (
    frame_colour,
    frame_depth,
    from_rgb,
    to_rgb,
    yuv_colour,
)
from rematte.video.frame import Colour
from rematte.video.reader import VideoReader

Size = tuple[int, int]
Floats = NDArray[np.float64]

# The weights of red and blue in luma, by code point; table 4 of H.273.
BT601 = (0.299, 0.114)
WEIGHTS = {1: (0.2126, 0.0722), 5: BT601, 6: BT601, 9: (0.2627, 0.0593)}
LIMITED, FULL = 1, 2
# Also narrower than the blocks in which libswscale works, and of odd size.
SHAPES = [(48, 320), (33, 77), (5, 7), (1, 1)]


def chart(shape: Size, bits: int, range_: int) -> list[NDArray[np.int64]]:
    """Random code values of Y, Cb and Cr that stand for colours in range."""
    height, width = shape
    rng = np.random.default_rng(0)
    rgb = rng.random((height, width, 3))
    rgb.reshape(-1, 3)[0] = 1  # white
    rgb.reshape(-1, 3)[-1] = 0 if width > 1 else 1  # black
    return [plane.round().astype(np.int64) for plane in to_codes(rgb, 1, bits, range_)]


def to_codes(rgb: Floats, matrix: int, bits: int, range_: int) -> list[Floats]:
    """H.273, equations 20 to 33, before rounding."""
    red, blue = WEIGHTS[matrix]
    r, g, b = np.moveaxis(rgb, -1, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    unit, middle = 2 ** (bits - 8), 2 ** (bits - 1)
    if range_ == LIMITED:
        return [unit * (219 * y + 16)] + [224 * unit * c + middle for c in (cb, cr)]
    top = 2**bits - 1
    return [top * y] + [top * c + middle for c in (cb, cr)]


def to_light(codes: list[Any], matrix: int, bits: int, range_: int) -> Floats:
    """The inverse of `to_codes`, clipped to 0 to 1."""
    red, blue = WEIGHTS[matrix]
    unit, middle, top = 2 ** (bits - 8), 2 ** (bits - 1), 2**bits - 1
    if range_ == LIMITED:
        y = (codes[0] - 16 * unit) / (219 * unit)
        cb, cr = ((c - middle) / (224 * unit) for c in codes[1:])
    else:
        y = codes[0] / top
        cb, cr = ((c - middle) / top for c in codes[1:])
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.stack([r, g, b], -1).clip(0, 1)


def levels(difference: NDArray[Any]) -> float:
    """The largest difference of two pictures of 0 to 1, in 8-bit levels."""
    return float(np.abs(difference).max() * 255)


def unit(pixels: NDArray[Any]) -> Floats:
    return pixels / float(np.iinfo(pixels.dtype).max)


def random_rgb(shape: Size, channels: int, dtype: type, seed: int = 1) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    return rng.integers(0, top, (*shape, channels), dtype, endpoint=True)


matrices = pytest.mark.parametrize("matrix", [1, 5, 6, 9])
ranges = pytest.mark.parametrize("range_", [LIMITED, FULL], ids=["limited", "full"])
shapes = pytest.mark.parametrize("shape", SHAPES)


@matrices
@ranges
@shapes
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_decoding_obeys_h273(matrix: int, range_: int, shape: Size, bits: int) -> None:
    codes = chart(shape, bits, range_)
    pix_fmt = {8: "yuv444p", 10: "yuv444p10le", 12: "yuv444p12le"}[bits]
    pixels = to_rgb(yuv_frame(codes, pix_fmt), Colour(matrix, range_), bits, None)
    assert pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    error = unit(pixels) - to_light(codes, matrix, bits, range_)
    assert levels(error) <= (0.75 if bits == 8 else 0.05)


@matrices
@ranges
@shapes
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_encoding_obeys_h273(
    matrix: int, range_: int, shape: Size, dtype: type, channels: int
) -> None:
    pixels = random_rgb(shape, channels, dtype)
    pix_fmt = "yuva444p10le" if channels == 4 else "yuv444p10le"
    frame = from_rgb(pixels, pix_fmt, Colour(matrix, range_))
    assert (frame.colorspace, frame.color_range) == (matrix, range_)
    expected = to_codes(unit(pixels[..., :3]), matrix, 10, range_)
    if channels == 4:
        expected.append(unit(pixels[..., 3]) * 1023)
    for plane, values in zip(frame.planes, expected, strict=True):
        rows = np.frombuffer(bytes(plane), np.uint16).reshape(shape[0], -1)
        assert np.abs(rows[:, : shape[1]] - values.clip(0, 1023)).max() < 2  # of 1023


@shapes
@pytest.mark.parametrize(("dtype", "channels", "pix_fmt"), [
    *((np.uint8, 3, "bgr0"), (np.uint8, 4, "bgra"), (np.uint8, 3, "rgb24")),
    *((np.uint16, 3, "gbrp16le"), (np.uint16, 4, "gbrap16le")),
    *((np.uint16, 3, "rgb48be"), (np.uint16, 4, "rgba64be")),
])  # fmt: skip
def test_rgb_is_exact(shape: Size, dtype: type, channels: int, pix_fmt: str) -> None:
    pixels = random_rgb(shape, channels, dtype)
    frame = from_rgb(pixels, pix_fmt, Colour(0, FULL))
    assert frame.format.name == pix_fmt
    back = to_rgb(frame, frame_colour(frame), 8 * pixels.itemsize, None)
    np.testing.assert_array_equal(back, pixels[..., :3])


@matrices
@ranges
@pytest.mark.parametrize(("dtype", "pix_fmt"), [
    *((np.uint8, "yuv420p"), (np.uint8, "yuv444p10le")),
    *((np.uint16, "yuv420p10le"), (np.uint16, "yuv444p10le")),
])  # fmt: skip
def test_gray_stays_gray(matrix: int, range_: int, dtype: type, pix_fmt: str) -> None:
    top = np.iinfo(dtype).max
    ramp: NDArray[Any] = np.linspace(0, top, 256).astype(dtype)
    gray = np.tile(ramp, (32, 1))[..., None]
    frame = from_rgb(gray, pix_fmt, Colour(matrix, range_))
    back = unit(to_rgb(frame, frame_colour(frame), frame_depth(frame), None))
    assert levels(back - unit(gray)) <= 1.01
    assert levels(back.max(-1) - back.min(-1)) <= 1.01
    assert levels((back - unit(gray))[:, [0, -1]]) <= 0.5  # black and white


def test_eight_bits_among_more_are_widened_exactly() -> None:
    codes = chart((20, 30), 8, FULL)
    frame = yuv_frame(codes, "yuv444p")
    narrow = to_rgb(frame, Colour(1, FULL), 8, None)
    wide = to_rgb(frame, Colour(1, FULL), 10, None)
    np.testing.assert_array_equal(wide, narrow.astype(np.uint16) * 257)


@pytest.mark.parametrize("bits", [8, 10])
def test_resizing_keeps_flat_colours(bits: int) -> None:
    codes = [np.full((40, 64), value << (bits - 8)) for value in (120, 140, 110)]
    frame = yuv_frame(codes, "yuv444p" if bits == 8 else "yuv444p10le")
    pixels = to_rgb(frame, Colour(1, LIMITED), bits, (23, 31))
    assert pixels.shape == (31, 23, 3)
    assert levels(unit(pixels) - to_light(codes, 1, bits, LIMITED)[0, 0]) <= 0.75


@pytest.mark.parametrize("pix_fmt", ["gbrp10le", "gbrap12le"])
def test_resizing_keeps_white_of_rgb(pix_fmt: str) -> None:
    channels = 4 if "a" in pix_fmt else 3
    white = np.full((40, 64, channels), 65535, np.uint16)
    frame = from_rgb(white, pix_fmt, Colour(0, FULL))
    resized = to_rgb(frame, frame_colour(frame), 16, (23, 31), alpha=True)
    assert resized.shape == (31, 23, channels)
    assert resized.min() == 65535


# What is assumed where a source does not say


@pytest.mark.parametrize(("size", "matrix"), [
    ((1280, 720), 1), ((720, 1280), 1), ((720, 576), 6), ((1000, 719), 6),
])  # fmt: skip
def test_the_matrix_of_untagged_video(size: Size, matrix: int) -> None:
    frame = av.VideoFrame(*size, "yuv420p")
    assert frame_colour(frame) == Colour(matrix, LIMITED)
    frame = av.VideoFrame(*size, "yuvj420p")
    assert frame_colour(frame) == Colour(matrix, FULL)
    assert frame_colour(av.VideoFrame(*size, "rgb24")) == Colour(0, FULL)


def test_an_rgb_source_is_encoded_as_usual() -> None:
    assert yuv_colour(Colour(0, FULL), 1080) == Colour(1, LIMITED, 1, 1)
    assert yuv_colour(Colour(0, FULL), 480) == Colour(6, LIMITED)
    # What is known of it is kept.
    assert yuv_colour(Colour(0, FULL, 9, 16), 1080) == Colour(1, LIMITED, 9, 16)
    assert yuv_colour(Colour(9, FULL, 9, 16), 480) == Colour(9, FULL, 9, 16)


# End to end


@matrices
@ranges
@pytest.mark.parametrize("bits", [8, 10])
def test_ffv1_keeps_charts(tmp_path: Path, matrix: int, range_: int, bits: int) -> None:
    """From a tagged file of code values to an FFV1 file and back."""
    tags = Tags(matrix, range_, primaries=9 if matrix == 9 else 1, transfer=1)
    codes = chart((48, 64), bits, range_)
    pix_fmt = "yuv444p" if bits == 8 else "yuv444p10le"
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    pictures = [yuv_frame(codes, pix_fmt)] * 2
    make_clip(source, pictures, codec="ffv1", pix_fmt=pix_fmt, tags=tags)
    with VideoReader(source) as reader:
        decoded, info = list(reader), reader.info
    known = Colour(matrix, range_, tags.primaries, tags.transfer)
    assert (info.colour, info.depth) == (known, bits)
    write(target, decoded, info)
    with VideoReader(target) as again:
        back, colour = list(again), again.info.colour
    assert (colour.primaries, colour.transfer) == (tags.primaries, tags.transfer)
    for before, after in zip(decoded, back, strict=True):
        np.testing.assert_array_equal(after.pixels, before.pixels)
        assert after.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
        assert levels(unit(after.pixels) - to_light(codes, matrix, bits, range_)) <= 1


LOSSY = [
    (suffix, codec)
    for suffix, codecs in CONTAINERS.items()
    for codec in codecs
    # Two are lossless, and the others state no colour or need hardware.
    if CODECS[codec].tagged and codec not in ("ffv1", "apng") and not is_nvenc(codec)
]
BT709, PQ, HLG = Colour(1, 1, 1, 1), Colour(9, 1, 9, 16), Colour(9, 1, 9, 18)


@pytest.mark.parametrize(("suffix", "codec"), LOSSY)
@pytest.mark.parametrize("colour", [
    BT709, Colour(1, 2, 1, 1), Colour(6, 2, 6, 6), Colour(5, 1, 5, 4),
    Colour(9, 2, 9, 14),
])  # fmt: skip
def test_flat_colours_and_their_tags_survive_the_lossy_paths(
    tmp_path: Path, colour: Colour, suffix: str, codec: str
) -> None:
    """A wrong matrix or range would be off by ten levels and more."""
    colours = np.array(
        [[255, 255, 255], [200, 30, 40], [30, 190, 60], [20, 40, 210]], np.uint8
    )
    pixels = np.repeat(np.repeat(colours.reshape(2, 2, 3), 32, 0), 32, 1)
    path, crf = tmp_path / f"a{suffix}", None if codec == "prores" else 4
    info = info_of((64, 64), colour=colour)
    write(path, as_frames([pixels] * 2), info, codec=codec, crf=crf)
    with VideoReader(path) as reader:
        frames, found = list(reader), reader.info.colour
    for frame in frames:
        error = unit(frame.pixels) - unit(pixels)
        assert levels(error[16::32, 16::32]) <= 3
    if codec == "prores":  # limited range alone
        colour = replace(colour, range=LIMITED)
    # VP9 does not tell 5 from 6, which are equal.
    same = codec == "vp9" and colour.matrix == 6
    assert (replace(found, matrix=6) if same else found) == colour


def test_jpeg_is_bt601_whatever_the_source_is(tmp_path: Path) -> None:
    """Every JPEG reader takes BT.601; a BT.709 source must not shine through."""
    pixels = np.full((16, 16, 3), (220, 30, 40), np.uint8)
    for matrix in (1, 6, 9):
        path, colour = tmp_path / f"{matrix}.jpg", Colour(matrix=matrix)
        write(path, as_frames([pixels]), info_of((16, 16), colour=colour, still=True))
        assert np.abs(open_image(path).astype(int) - pixels).max() <= 3


@pytest.mark.parametrize(
    ("planar", "given"), [("yuv420p", "nv12"), ("yuv420p10le", "p010le")]
)
@ranges
@shapes
def test_what_hardware_decodes_is_read_alike(
    shape: Size, range_: int, planar: str, given: str
) -> None:
    bits, colour = 10 if "10" in planar else 8, Colour(1, range_)
    height, width = shape
    small = (height + 1) // 2, (width + 1) // 2
    y, *chroma = chart(shape, bits, range_)
    blue, red = (plane[: small[0], : small[1]] for plane in chroma)
    frame = yuv_frame([y, blue, red], planar)
    other = av.VideoFrame(width, height, given)
    mixed = np.stack([blue, red], -1).reshape(small[0], -1)
    for plane, values in zip(other.planes, (y, mixed), strict=True):
        # The upper ten of sixteen bits.
        kind, shift = (np.uint8, 0) if bits == 8 else (np.uint16, 6)
        padded = np.zeros(plane.buffer_size // kind().itemsize, kind)
        rows = padded.reshape(plane.height, -1)
        rows[:, : values.shape[1]] = values << shift
        plane.update(padded.tobytes())
    assert other.format.name == given
    assert frame_depth(other) == bits
    expected = to_rgb(frame, colour, bits, None)
    assert np.array_equal(to_rgb(other, colour, bits, None), expected)


# Tags of pictures and mattes


def chunks(path: Path) -> set[bytes]:
    """The kinds of colour chunks in a PNG or APNG file."""
    data = path.read_bytes()
    return {
        kind for kind in (b"cICP", b"cHRM", b"gAMA", b"sRGB", b"iCCP") if kind in data
    }


def write_one(
    path: Path, colour: Colour, depth: int = 8, gray: bool = False
) -> list[str]:
    """Write one frame of mid-gray of a source of that colour; gives the notes."""
    still = path.suffix in IMAGES and path.suffix != ".webp"
    pixels = np.full((64, 64, 1 if gray else 3), 32767, np.uint16)
    info = info_of((64, 64), colour=colour, depth=depth, still=still)
    return write(path, as_frames([pixels]), info)


@pytest.mark.parametrize("suffix", [".png", ".apng"])
@pytest.mark.parametrize(("colour", "gray"), [
    *((BT709, False), (Colour(6, 1, 6, 6), False), (Colour(), False)),
    *((Colour(0, FULL, 1, 13), False), (BT709, True), (PQ, True), (HLG, True)),
])  # fmt: skip
def test_sdr_pictures_and_mattes_have_no_colour_chunks(
    tmp_path: Path, suffix: str, colour: Colour, gray: bool
) -> None:
    """Browsers show values of a picture with a gamma of BT.709 too dark."""
    path = tmp_path / f"a{suffix}"
    write_one(path, colour, 10 if colour.hdr else 8, gray)
    assert chunks(path) == set()


def cicp(path: Path) -> list[int]:
    """Primaries, transfer, matrix and range that a PNG or APNG file states."""
    data = path.read_bytes()
    at = data.index(b"cICP") + 4
    return [*data[at : at + 4]]


@pytest.mark.parametrize("suffix", [".png", ".apng"])
@pytest.mark.parametrize("colour", [PQ, HLG])
def test_hdr_pictures_say_so(tmp_path: Path, suffix: str, colour: Colour) -> None:
    path = tmp_path / f"a{suffix}"
    write_one(path, colour, 10)
    assert cicp(path) == [9, colour.transfer, 0, 1]


def test_pictures_of_a_wider_gamut_say_so(tmp_path: Path) -> None:
    """Display P3 with the curve that their values are shown with."""
    write_one(tmp_path / "a.png", Colour(1, 1, 12, 1))
    assert cicp(tmp_path / "a.png") == [12, 13, 0, 1]
    for suffix in (".tif", ".gif", ".webp", ".jpg"):
        notes = write_one(tmp_path / f"a{suffix}", Colour(1, 1, 12, 1))
        assert [note for note in notes if "less saturated" in note], suffix


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm", ".mkv"])
@pytest.mark.parametrize("colour", [Colour(6, 2, 6, 6), PQ, HLG, Colour(0, FULL)])
def test_a_matte_is_data_in_videos(tmp_path: Path, suffix: str, colour: Colour) -> None:
    path = tmp_path / f"a{suffix}"
    write_one(path, colour, 10 if colour.hdr else 8, gray=True)
    with VideoReader(path) as reader:
        found, pixels = reader.info.colour, next(iter(reader)).pixels
    assert found.transfer == found.primaries == 1
    assert found.range == (FULL if found.matrix == 0 else LIMITED)
    assert levels(unit(pixels) - 0.5) <= 1


@pytest.mark.parametrize(("suffix", "colour", "depth", "words"), [
    *((suffix, BT709, 10, []) for suffix in (".mp4", ".webm", ".png")),
    (".mov", BT709, 12, ["reduced from 12 to 10 bits"]),
    (".mov", Colour(1, FULL, 1, 1), 8, ["full range became limited"]),
    *((s, BT709, 10, ["reduced from 10 to 8 bits"]) for s in (".gif", ".jpg")),
])  # fmt: skip
def test_what_is_lost_of_colour_is_said(
    tmp_path: Path, suffix: str, colour: Colour, depth: int, words: list[str]
) -> None:
    notes = write_one(tmp_path / f"a{suffix}", colour, depth)
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))
