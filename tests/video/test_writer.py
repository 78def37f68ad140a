"""What the writers promise, for every kind of output."""

import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import DiscClip, draw_disc, noise, packets, read_label
from fakes import as_frames, labels, names, read
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from writing import info_of, label_frames, write

from rematte.video import codecs as formats
from rematte.video import matroska
from rematte.video.codecs import is_nvenc
from rematte.video.frame import Colour, Frame
from rematte.video.reader import VideoReader

Size = tuple[int, int]
NTSC_FILM = Fraction(24000, 1001)
# Every codec of every container, but for those that need a GPU.
VIDEOS = [
    (suffix, codec)
    for suffix, codecs in formats.CONTAINERS.items()
    for codec in codecs
    if not is_nvenc(codec) and codec != "avif"  # see test_avif
]


def decode(path: Path) -> list[av.VideoFrame]:
    """Decode with PyAV alone."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


# Frames in = frames out


@pytest.mark.parametrize(("suffix", "codec"), VIDEOS)
@pytest.mark.parametrize("count", [1, 6])
def test_frames_in_are_frames_out(
    tmp_path: Path, suffix: str, codec: str, count: int
) -> None:
    path = tmp_path / f"a{suffix}"
    assert write(path, label_frames(count), codec=codec) == []
    assert names(tmp_path) == {path.name}
    if suffix == ".webp":
        with Image.open(path) as image:
            assert image.n_frames == count
        return
    assert labels(read(path)) == list(range(count))
    assert {frame.pixels.shape for frame in read(path)} == {(64, 96, 3)}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".exr"])
def test_images_in_are_images_out(tmp_path: Path, suffix: str) -> None:
    assert write(tmp_path / "out" / f"%04d{suffix}", label_frames(3)) == []
    assert names(tmp_path / "out") == {f"{n:04}{suffix}" for n in range(3)}
    assert labels(read(tmp_path / "out")) == [0, 1, 2]


@pytest.mark.parametrize("suffix", [*formats.CONTAINERS, *formats.IMAGES])
def test_one_frame_under_a_suffix_of_any_case(tmp_path: Path, suffix: str) -> None:
    still = suffix in formats.IMAGES
    for name in (f"a{suffix}", f"B{suffix.upper()}"):
        write(tmp_path / name, label_frames(1), info_of(still=still))
        assert not still or labels(read(tmp_path / name)) == [0]
    assert names(tmp_path) == {f"a{suffix}", f"B{suffix.upper()}"}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_images_are_exact(
    tmp_path: Path, suffix: str, channels: int, dtype: type
) -> None:
    pixels = np.random.default_rng(0).integers(
        0, np.iinfo(dtype).max, (9, 7, channels), dtype, endpoint=True
    )
    path = tmp_path / f"a{suffix}"
    info = info_of((7, 9), still=True, depth=8 * pixels.itemsize)
    write(path, as_frames([pixels]), info)
    (picture,) = decode(path)
    assert len(picture.format.components) == channels
    wide = {1: "gray16le", 3: "rgb48le", 4: "rgba64le"}
    name = ({1: "gray", 3: "rgb24", 4: "rgba"} if dtype is np.uint8 else wide)[channels]
    array = picture.to_ndarray(format=name).reshape(pixels.shape)
    np.testing.assert_array_equal(array, pixels)


# Times


UNEVEN = [Fraction(index**2 - 1, 144) for index in range(1, 9)]
KINDS = {
    "23.976": (
        label_frames(24, rate=NTSC_FILM),
        info_of(time_base=Fraction(1, 24000), rate=NTSC_FILM),
    ),
    "uneven": (
        label_frames(times=UNEVEN, rate=Fraction(16)),
        info_of(time_base=Fraction(1, 144), rate=Fraction(16)),
    ),
}


ANIMATED = (".webp", ".avif", ".apng")
# Times are rounded to a unit of so many to a second; elsewhere they are exact.
UNITS = {".webm": 1000, ".mkv": 1000, ".gif": 100}


@pytest.mark.parametrize(("suffix", "codec", "unit"), [
    *((s, names[0], UNITS.get(s, 0)) for s, names in formats.CONTAINERS.items()
      if s not in ANIMATED),
    *((".mp4", "hevc", 0), (".mp4", "av1", 0), (".mov", "prores", 0)),
])  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_times_are_exact_or_rounded_once(
    tmp_path: Path, suffix: str, codec: str | None, unit: int, kind: str
) -> None:
    path, (frames, info) = tmp_path / f"a{suffix}", KINDS[kind]
    write(path, frames, info, codec=codec)
    back = read(path)
    most = Fraction(1, 2 * unit) + Fraction(1, 10000) if unit else 0
    for found, frame in zip(back, frames, strict=True):
        assert abs(found.time - frame.time) <= most
    if unit:
        last = back[-1].time + back[-1].duration
        end = frames[-1].time + frames[-1].duration
        assert abs(last - end) <= Fraction(2, unit)
        return
    # The last one is that of the last packet, which need not be the last frame.
    known = len(frames) - (kind == "uneven" and codec in ("h264", "hevc"))
    for found, frame in [*zip(back, frames, strict=True)][:known]:
        assert found.duration == frame.duration
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert kind == "uneven" or stream.average_rate == NTSC_FILM
        # NUT does not state how many there are.
        assert stream.frames == (0 if suffix == ".nut" else len(frames))


@pytest.mark.parametrize("suffix", ANIMATED)
def test_animated_images_show_each_frame_as_long(tmp_path: Path, suffix: str) -> None:
    frames, info = KINDS["uneven"]
    write(tmp_path / f"a{suffix}", frames, info)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.n_frames == len(frames)
        # FFmpeg shows the last frame of an APNG for as long as the one before.
        for index, frame in enumerate(frames[:-1] if suffix == ".apng" else frames):
            image.seek(index)
            image.load()
            assert abs(image.info["duration"] / 1000 - frame.duration) <= 0.001, index
        assert image.info.get("loop", 0) == 0  # AVIF has no such field


def test_a_gif_of_many_frames_a_second_keeps_them_all(tmp_path: Path) -> None:
    rate = Fraction(240)
    info = info_of(rate=rate, time_base=1 / rate)
    (note,) = write(tmp_path / "a.gif", label_frames(20, rate=rate), info)
    assert "100 frames a second" in note
    assert labels(read(tmp_path / "a.gif")) == list(range(20))


# Alpha


def clear_frames(disc: DiscClip) -> list[Frame]:
    """The disc on its own colour everywhere, so that only alpha has an edge."""
    return as_frames(
        [np.dstack([*(np.full_like(a, n) for n in disc.colour), a]) for a in disc.alpha]
    )


def alphas(path: Path) -> list[NDArray[Any]]:
    """Alpha of each frame, in levels of 255."""
    if path.suffix != ".webp":
        frames = [frame.pixels for frame in read(path, alpha=True)]
        return [each[..., 3] / (np.iinfo(each.dtype).max / 255) for each in frames]
    with Image.open(path) as image:
        pictures = [each.convert("RGBA") for each in ImageSequence.Iterator(image)]
    return [np.asarray(each)[..., 3].astype(float) for each in pictures]


@pytest.mark.parametrize(("name", "codec", "most"), [
    *(("a.mkv", None, 0), ("a.apng", None, 0), ("a.mov", None, 2)),
    *(("out/%04d.png", None, 0), ("out/%04d.tif", None, 0)),
    *(("a.webm", "vp9", 3), ("a.mkv", "vp9", 3), ("a.mkv", "prores", 3)),
    *(("a.webp", None, 1), ("a.gif", None, 0)),
])  # fmt: skip
def test_alpha_of_every_frame_survives(
    tmp_path: Path, disc: DiscClip, name: str, codec: str | None, most: int
) -> None:
    path = tmp_path / name
    write(path, clear_frames(disc), codec=codec)
    for found, alpha in zip(
        alphas(path.parent if "%" in name else path), disc.alpha, strict=True
    ):
        true = np.where(alpha < 128, 0, 255) if name == "a.gif" else alpha
        assert np.abs(found - true).max() <= most + 1e-6
        assert np.abs(found - true).mean() < 0.3


def test_alpha_has_the_key_frames_of_the_colour(tmp_path: Path, disc: DiscClip) -> None:
    """Else a browser could not begin in the middle."""
    frames = clear_frames(disc)
    many = [replace(frames[i % len(frames)], time=Fraction(i, 25)) for i in range(140)]
    write(tmp_path / "a.webm", many)
    keys = []
    for packet in packets(tmp_path / "a.webm"):
        data = bytes(packet.get_sidedata("matroska_block_additional"))
        assert data[:8] == (1).to_bytes(8, "big")
        # VP9's frame header: marker, profile, no repeat, then "not a key".
        assert data[8] & 0b11111000 == 0b10000000
        assert packet.is_keyframe == (not data[8] & 0b100)
        keys.append(packet.is_keyframe)
    assert (len(keys), sum(keys)) == (140, 2)


# Depth and the shape of pixels


@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
@pytest.mark.parametrize(("name", "alpha", "pix_fmt"), [
    *(("a.mp4", False, "yuv420p10le"), ("a.mov", True, "yuva444p12le")),
    *(("a.mkv", False, "gbrp16le"), ("a.webm", False, "yuv420p10le")),
    *(("%04d.png", True, "rgba64be"), ("%04d.png", False, "rgb48be")),
])  # fmt: skip
def test_ten_bits_and_hdr_tags_are_kept(
    tmp_path: Path, name: str, alpha: bool, pix_fmt: str, transfer: int
) -> None:
    ramp = np.tile(np.linspace(0, 65535, 96), (64, 1)).round().astype(np.uint16)
    pixels = np.dstack([ramp] * 3 + [np.full_like(ramp, 65535)] * alpha)
    info = info_of(colour=Colour(9, 1, 9, transfer), depth=10)
    path = tmp_path / "out" / name
    path.parent.mkdir()
    write(path, as_frames([pixels]), info)
    (file,) = path.parent.iterdir()
    (picture,) = decode(file)
    assert picture.format.name == pix_fmt
    with VideoReader(file) as again:
        (back,), colour = list(again), again.info.colour
    error = np.abs(back.pixels.astype(int) - pixels[..., :3])
    assert error.max() <= (0 if "16" in pix_fmt or "png" in name else 514)
    assert (colour.primaries, colour.transfer) == (9, transfer)


SHAPED = [*formats.CONTAINERS, *(f"/%d{suffix}" for suffix in formats.IMAGES)]


@pytest.mark.parametrize("suffix", SHAPED)
@pytest.mark.parametrize("aspect", [Fraction(16, 11), Fraction(3, 4)])
def test_the_shape_of_pixels_is_kept_or_its_loss_is_noted(
    tmp_path: Path, suffix: str, aspect: Fraction
) -> None:
    path = tmp_path / f"a{suffix}"
    notes = write(path, label_frames(2), info_of(sample_aspect_ratio=aspect))
    if suffix in (".webp", ".avif", ".nut", "/%d.webp"):
        (note,) = notes
        shape = f"{aspect.numerator}:{aspect.denominator}"
        assert note.startswith(f"the shape of pixels ({shape}) is lost")
        return
    assert notes == []
    with VideoReader(path.parent if suffix[0] == "/" else path) as reader:
        kept = reader.info.sample_aspect_ratio
        assert len(list(reader)) == 2
    # Matroska counts in whole pixels on the screen, GIF in 64ths.
    error = Fraction(1, {".mkv": 192, ".webm": 192, ".gif": 64}.get(suffix, 10**6))
    assert abs(kept - aspect) <= error


def test_an_absurd_shape_of_an_image_is_ignored(tmp_path: Path) -> None:
    info = info_of(sample_aspect_ratio=Fraction(1, 1080))
    write(tmp_path / "a/%d.png", label_frames(1), info)
    with VideoReader(tmp_path / "a") as reader:
        assert reader.info.sample_aspect_ratio == 1


@pytest.mark.parametrize(("suffix", "codec"), [
    (".mkv", "ffv1"), (".mkv", "h264"), (".mkv", "prores"), (".webm", "vp9"),
])  # fmt: skip
def test_matroska_stays_whole(tmp_path: Path, suffix: str, codec: str) -> None:
    files = [tmp_path / f"shaped{suffix}", tmp_path / f"plain{suffix}"]
    for path, aspect in zip(files, (Fraction(4, 3), Fraction(1)), strict=True):
        info = info_of(sample_aspect_ratio=aspect)
        write(path, label_frames(3), info, codec=codec)
    for a, b in zip(*map(packets, files), strict=True):
        assert (a.pts, bytes(a)) == (b.pts, bytes(b))
    data = files[0].read_bytes()
    assert matroska.PLACEHOLDER.encode() not in data
    mark = b"\x16\x54\xae\x6b"  # once in the table of contents, then Tracks itself
    at = data.index(mark, data.index(mark) + 4) + 4
    length = 9 - data[at].bit_length()
    size = int.from_bytes(data[at : at + length], "big") ^ (1 << 7 * length)
    tracks = data[at + length :][:size]
    if suffix == ".mkv":
        assert tracks[0] == 0xBF  # the checksum, which FFmpeg leaves out in WebM
        assert zlib.crc32(tracks[6:]) == int.from_bytes(tracks[2:6], "little")
    assert b"\x54\xb0\x81\x80\x54\xba\x81\x40" in tracks  # 128 by 64
    with av.open(str(files[0])) as container:
        assert "title" not in container.streams.video[0].metadata


@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(4, 3)])
@pytest.mark.parametrize("suffix", ["/%d.png", ".apng"])
def test_png_says_the_true_shape(tmp_path: Path, suffix: str, aspect: Fraction) -> None:
    write(tmp_path / f"a{suffix}", label_frames(1), info_of(sample_aspect_ratio=aspect))
    data = next(tmp_path.rglob("*.*png")).read_bytes()
    x, y = struct.unpack_from(">II", data, data.index(b"pHYs") + 4)
    # As FFmpeg reads it, though the standard's pixels per unit are the inverse.
    assert Fraction(x, y) == aspect


# Any size


SIZES = [(97, 65), (1, 1), (17, 3), (2, 2), (1, 40)]
# A size is a matter of the codec, so each is tried in one container.
EACH_CODEC = {codec: suffix for suffix, codec in VIDEOS}.items()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("codec", "suffix"), EACH_CODEC)
def test_any_size_is_taken(tmp_path: Path, suffix: str, codec: str, size: Size) -> None:
    path = tmp_path / f"a{suffix}"
    notes = write(path, label_frames(2, size), codec=codec)
    width, height = formats.CODECS[codec].coded_size(*size)
    assert bool(notes) is ((width, height) != size)
    assert all("padded from" in note for note in notes)
    if suffix != ".webp":
        assert labels(read(path)) == [0, 1]
        assert read(path)[0].pixels.shape == (height, width, 3)
    if formats.CODECS[codec].alpha:
        clear = np.full((*size[::-1], 4), 200, np.uint8)
        assert write(path, as_frames([clear] * 2), codec=codec) == []


@pytest.mark.parametrize(
    ("size", "depth"), [*zip(SIZES, (8, 16, 8, 16, 16), strict=True)]
)
@pytest.mark.parametrize("suffix", [*formats.IMAGES])
def test_any_size_of_image(tmp_path: Path, suffix: str, size: Size, depth: int) -> None:
    info = info_of(size, depth=depth)
    write(tmp_path / f"%d{suffix}", label_frames(1, size), info)
    (frame,) = read(tmp_path / f"0{suffix}")
    assert frame.pixels.shape == (size[1], size[0], 3)
    assert read_label(frame.pixels) == 0


def test_padding_repeats_the_edge(tmp_path: Path) -> None:
    (picture,) = draw_disc(1, (97, 65)).frames
    write(tmp_path / "a.mp4", as_frames([picture]), crf=0)
    (frame,) = read(tmp_path / "a.mp4")
    padded = np.pad(picture, ((0, 1), (0, 1), (0, 0)), "edge")
    assert frame.pixels.shape == padded.shape
    assert np.abs(frame.pixels.astype(int) - padded)[-3:].max() <= 4


def test_quality_has_an_effect(tmp_path: Path) -> None:
    for crf in (5, 45):
        write(tmp_path / f"{crf}.mp4", as_frames(noise(25)), crf=crf)
    fine, coarse = ((tmp_path / f"{crf}.mp4").stat().st_size for crf in (5, 45))
    assert fine > 3 * coarse
