"""What `VideoReader` promises, on files that the tests make."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
from av.stream import Disposition
from clips import (
    Image,
    damage,
    draw_disc,
    encode_image,
    frame_label,
    make_clip,
    noise,
    read_label,
)
from fakes import read_all
from numpy.typing import NDArray

import rematte
from rematte.errors import InputError
from rematte.video.frame import Frame
from rematte.video.images import natural_key
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.video_source import VideoSource

Size = tuple[int, int]
NTSC_FILM = Fraction(24000, 1001)
# Squares of twelfths of a second: no two frames are shown for the same time.
UNEVEN = [Fraction(index**2, 144) for index in range(1, 11)]
UNEVEN_FROM_0 = [time - UNEVEN[0] for time in UNEVEN]


def read(path: Path, **options: Any) -> list[Frame]:
    return read_all(path, **options)[0]


def labels(frames: list[Frame]) -> list[int]:
    return [read_label(frame.pixels) for frame in frames]


def save_image(path: Path, pixels: NDArray[Any], **more: Any) -> None:
    """Write an image without the code under test."""
    if path.suffix == ".exr":
        path.write_bytes(encode_image("exr", pixels, to="gbrpf32le"))
    else:
        picture = PIL.Image.fromarray(pixels)
        picture.save(path, quality=100, subsampling=0, lossless=True, **more)


# Frames and times


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_variable_rate_and_a_late_start_are_exact(tmp_path: Path, suffix: str) -> None:
    path = make_clip(
        tmp_path / f"a{suffix}", times=UNEVEN, rate=24, time_base=Fraction(1, 144),
        sound=True,
    )  # fmt: skip
    frames = read(path)
    assert labels(frames) == list(range(10))
    most = Fraction(1, 2000) if suffix == ".mkv" else 0  # whole milliseconds
    for frame, time in zip(frames, UNEVEN, strict=True):
        assert abs(frame.time - time) <= most
    for frame, following in pairwise(frames):
        assert frame.time + frame.duration == following.time
    assert abs(frames[-1].duration - Fraction(1, 24)) <= 2 * most


def test_what_is_known_before_reading_is_what_comes(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", 12, rate=NTSC_FILM, aspect=Fraction(4, 3))
    with VideoReader(path) as reader:
        info, frames = reader.info, list(reader)
    assert (info.width, info.height, info.frames) == (96, 64, 12)
    assert (info.rate, info.depth, info.still) == (NTSC_FILM, 8, False)
    assert info.sample_aspect_ratio == Fraction(4, 3)
    assert (NTSC_FILM * info.time_base).numerator == 1
    assert labels(frames) == list(range(12))
    assert [frame.time for frame in frames] == [n / NTSC_FILM for n in range(12)]
    assert {frame.duration for frame in frames} == {1 / NTSC_FILM}
    opaque = read(path, alpha=True)
    assert {frame.pixels.shape for frame in opaque} == {(64, 96, 3)}


# A part of it


def reordered(path: Path, count: int = 20) -> Path:
    """A clip with frames out of order (B-frames) and several key frames."""
    options = {"qp": "0", "g": "6", "bf": "3", "b-adapt": "0", "preset": "medium"}
    return make_clip(path, count, options=options)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".flv"])
@pytest.mark.parametrize("offset", [Fraction(0), Fraction(1, 50)])
def test_start_selects_what_is_shown_from_then_on(
    tmp_path: Path, suffix: str, offset: Fraction
) -> None:
    path = reordered(tmp_path / f"a{suffix}")
    times = [frame.time for frame in read(path)]
    for index in range(0, 20, 1 if suffix == ".mp4" else 5):
        start = times[index] + offset
        assert labels(read(path, start=start)) == list(range(index, 20)), start


def test_start_finds_a_frame_shown_for_long(tmp_path: Path) -> None:
    options = {"qp": "0", "g": "3", "bf": "2"}
    path = make_clip(
        tmp_path / "a.mp4", times=UNEVEN_FROM_0, options=options,
        time_base=Fraction(1, 144),
    )  # fmt: skip
    for index, (time, end) in enumerate(pairwise(UNEVEN_FROM_0)):
        almost = end - Fraction(1, 1000)
        assert labels(read(path, start=almost)) == list(range(index, 10))
        assert read(path, start=almost)[0].time == time


@pytest.mark.parametrize(("end", "count"), [("8/25", 8), ("33/100", 9), ("99", 20)])
def test_end_leaves_out_what_comes_after(tmp_path: Path, end: str, count: int) -> None:
    path = reordered(tmp_path / "a.mp4")
    assert labels(read(path, end=Fraction(end))) == list(range(count))
    part = read(path, start=Fraction(3, 25), end=Fraction(end))
    assert labels(part) == list(range(3, count))
    assert read(path, start=Fraction(100)) == []


# Upright


def place(pixels: Image, matrix: tuple[int, int, int, int]) -> Image:
    """Move every pixel to where ISO/IEC 14496-12 says: (a p + c q, b p + d q)."""
    a, b, c, d = matrix
    q, p = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    x, y = a * p + c * q, b * p + d * q
    x, y = x - x.min(), y - y.min()
    placed = np.zeros((y.max() + 1, x.max() + 1, 3), np.uint8)
    placed[y, x] = pixels
    return placed


ORIENTATIONS = [
    (a * s, b * s, c * t, d * t)
    for a, b, c, d in [(1, 0, 0, 1), (0, 1, 1, 0)]
    for s in (1, -1)
    for t in (1, -1)
]


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_every_display_matrix_gives_upright_pixels(
    tmp_path: Path, matrix: tuple[int, int, int, int]
) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (6, 10, 3), np.uint8)
    a, b, c, d = (value << 16 for value in matrix)
    path = make_clip(
        tmp_path / "a.mov", [picture] * 2, codec="png", pix_fmt="rgb24",
        matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30), aspect=Fraction(3, 2),
    )  # fmt: skip
    expected = place(picture, matrix)
    with VideoReader(path) as reader:
        frames, info = list(reader), reader.info
    assert len(frames) == 2
    for frame in frames:
        np.testing.assert_array_equal(frame.pixels, expected)
    assert (info.height, info.width) == expected.shape[:2]
    turned = expected.shape != picture.shape
    assert info.sample_aspect_ratio == (Fraction(2, 3) if turned else Fraction(3, 2))


@pytest.mark.parametrize("size", [(48, 32), (128, 64), (30, 90)])
def test_resizing_keeps_the_shape_on_the_screen(tmp_path: Path, size: Size) -> None:
    path = make_clip(tmp_path / "a.mp4", 2, size=(96, 64), aspect=Fraction(4, 3))
    with VideoReader(path, ReadOptions(size=size)) as reader:
        shown = reader.info.sample_aspect_ratio * Fraction(*size)
    assert shown == Fraction(4, 3) * Fraction(96, 64)
    square = make_clip(tmp_path / "b.mp4", 2, size=(96, 64))
    with VideoReader(square, ReadOptions(size=size)) as reader:
        assert reader.info.sample_aspect_ratio == 1  # asked for, so meant


# Where EXIF says that the first row and the first column of the file are shown.
EXIF_ORIENTATIONS = [
    *("top left", "top right", "bottom right", "bottom left"),
    *("left top", "right top", "right bottom", "left bottom"),
]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_photos_are_turned_as_exif_says(tmp_path: Path, suffix: str, turn: int) -> None:
    stored = np.full((32, 64, 3), 128, np.uint8)
    stored[:8] = 255  # the first row
    stored[8:, :8] = 0  # the first column
    path, exif = tmp_path / f"a{suffix}", PIL.Image.Exif()
    exif[0x0112] = turn
    save_image(path, stored, exif=exif)
    (frame,) = read(path)
    gray = frame.pixels.mean(-1)
    sides = {
        "top": gray[2], "bottom": gray[-3], "left": gray[:, 2], "right": gray[:, -3],
    }  # fmt: skip
    shown = [most(sides, key=lambda side: sides[side].mean()) for most in (max, min)]
    assert shown == EXIF_ORIENTATIONS[turn - 1].split()
    assert gray.shape == ((64, 32) if turn > 4 else (32, 64))


def corners(pixels: NDArray[Any]) -> NDArray[Any]:
    """The mean colours of the upper left quarter and of the lower right one."""
    y, x = pixels.shape[0] // 2, pixels.shape[1] // 2
    return np.stack([pixels[:y, :x].mean((0, 1)), pixels[y:, x:].mean((0, 1))])


@pytest.mark.parametrize("matrix", [None, (0, 1, -1, 0)])
def test_size_resizes_upright_frames(tmp_path: Path, matrix: Any) -> None:
    a, b, c, d = (value << 16 for value in matrix or (1, 0, 0, 1))
    disc = draw_disc(3)
    path = make_clip(
        tmp_path / "a.mp4", disc.frames, matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30)
    )
    plain = read(path)
    with VideoReader(path, ReadOptions(size=(40, 50))) as reader:
        assert (reader.info.width, reader.info.height) == (40, 50)
        frames = list(reader)
    assert [frame.pixels.shape for frame in frames] == [(50, 40, 3)] * 3
    for small, large in zip(frames, plain, strict=True):
        difference = corners(small.pixels) - corners(large.pixels)
        assert np.abs(difference).max() < 2


# Images


def test_images_of_a_folder_come_in_natural_order(tmp_path: Path) -> None:
    before_zero = ["0001.png", "-0001.png", "0000.png", "-0002.png"]
    ordered_too = ["-0002.png", "-0001.png", "0000.png", "0001.png"]
    assert sorted(before_zero, key=natural_key) == ordered_too
    ordered = ["Frame1.png", "frame9.png", "frame10.PNG", "frame010b.png", "x.png"]
    for index, name in enumerate(ordered):
        save_image(tmp_path / name, frame_label(index))
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("not an image")
    frames = read(tmp_path)
    assert labels(frames) == [0, 1, 2, 3, 4]
    assert [frame.name for frame in frames] == [Path(name).stem for name in ordered]
    assert [frame.time for frame in frames] == [Fraction(n, 30) for n in range(5)]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_image_kinds(tmp_path: Path, suffix: str) -> None:
    picture = draw_disc(1).frames[0]
    save_image(tmp_path / f"a{suffix}", picture)
    save_image(tmp_path / f"b{suffix}", picture)
    for path, still in ((tmp_path, False), (tmp_path / f"a{suffix}", True)):
        with VideoReader(path) as reader:
            assert reader.info.still is still
            assert reader.info.frames == (1 if still else 2)
            frames = list(reader)
        assert len(frames) == reader.info.frames
        error = np.abs(frames[0].pixels.astype(int) - picture)
        assert error.max() <= (16 if suffix == ".jpg" else 0)
        assert error.mean() < 2


def test_sixteen_bit_images_keep_their_bits(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 65536, (8, 8, 3), np.uint16)
    for codec, name in (("png", "rgb48be"), ("tiff", "rgb48le")):
        path = tmp_path / f"a.{codec}"
        path.write_bytes(encode_image(codec, picture, name))
        (frame,) = read(path)
        np.testing.assert_array_equal(frame.pixels, picture)


@pytest.mark.parametrize("name", ["gray", "rgba", "gray16be"])
def test_other_image_layouts_come_as_rgb(tmp_path: Path, name: str) -> None:
    shape = (8, 8, 4) if name == "rgba" else (8, 8)
    dtype = np.uint16 if "16" in name else np.uint8
    picture = np.full(shape, 77, dtype)
    (tmp_path / "a.png").write_bytes(encode_image("png", picture, name))
    (frame,) = read(tmp_path / "a.png")
    assert frame.pixels.shape == (8, 8, 3)
    assert (frame.pixels == 77).all()


# What cannot be read


def complaint(path: Path) -> str:
    """The message, after checking what every message must have."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone(tmp_path: Path, cover: bool) -> None:
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("aac", rate=48000)
        picture: Any = container.add_stream("png", rate=1) if cover else None
        if cover:
            picture.width = picture.height = 32
            picture.pix_fmt, picture.disposition = "rgb24", Disposition.attached_pic
            art = av.VideoFrame.from_ndarray(frame_label(3, (32, 32)))
            container.mux(picture.encode(art))
        silence = np.zeros((2, 1024), np.float32)
        piece = av.AudioFrame.from_ndarray(silence, "fltp", "stereo")
        piece.sample_rate, piece.pts = 48000, 0
        container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == cover
    assert "only sound" in complaint(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_cut_off_after_the_index(tmp_path: Path, suffix: str) -> None:
    pictures = noise(20, (96, 64))
    path = make_clip(tmp_path / f"a{suffix}", pictures, faststart=suffix == ".mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    message = complaint(path)
    assert "cut off" in message
    assert "--ignore-errors" in message
    with VideoReader(path, ReadOptions(ignore_errors=True)) as reader:
        assert 5 < len([*reader]) < 20
        (note,) = [note for note in reader.notes if "cut off" in note]
    assert f"{path.stat().st_size} are there" in note


@pytest.mark.parametrize(("codec", "pix_fmt", "suffix"), [
    ("png", "rgb24", ".mov"),
    ("mjpeg", "yuvj420p", ".mov"),
    ("libx264", "yuv420p", ".mp4"),
    ("libvpx-vp9", "yuv420p", ".mkv"),
])  # fmt: skip
def test_damage_midway(tmp_path: Path, codec: str, pix_fmt: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    make_clip(path, 20, codec=codec, pix_fmt=pix_fmt, options={"g": "1"})
    damage(path, slice(9, 10))
    message = complaint(path)
    assert "damaged after" in message
    assert "--ignore-errors" in message
    there = labels(read(path, ignore_errors=True))
    assert {*range(9), *range(10, 20)} <= set(there)


@pytest.mark.parametrize("suffix", [".png", ".apng"])
def test_a_png_with_a_colour_profile_does_no_harm(tmp_path: Path, suffix: str) -> None:
    """PyAV frees its name twice if its side data is touched; so in a process apart."""
    path = tmp_path / f"a{suffix}"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    several = {"append_images": [PIL.Image.new("RGB", (6, 4), "red")]}
    PIL.Image.new("RGB", (6, 4)).save(
        path, "png", icc_profile=b"profile" * 20, exif=exif,
        **{"save_all": True, **several} if suffix == ".apng" else {},
    )  # fmt: skip
    code = (
        "import av, gc, sys; from rematte.video.reader import VideoReader\n"
        "from rematte.matter.pictures import to_frame\n"
        "reader = VideoReader(sys.argv[1])\n"
        "print(reader.info.width, reader.info.height, len(list(reader)))\n"
        "frame = next(av.open(sys.argv[1]).decode(video=0))\n"
        "print(to_frame(frame)[0].pixels.shape)\n"
        "del reader, frame; gc.collect()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(rematte.__file__).parents[1])},
    )  # fmt: skip
    count = 2 if suffix == ".apng" else 1
    expected = f"4 6 {count}\n(6, 4, 3)\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_without_the_hardware_the_processor_decodes(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    expected = [frame.pixels for frame in read(clip)]
    with VideoReader(clip, ReadOptions(hwaccel="cuda")) as reader:
        found = [frame.pixels for frame in reader]
        used = not reader.notes
    assert np.array_equal(found, expected)
    assert used or "cuda cannot be used" in reader.notes[0]
    started = read(clip, hwaccel="cuda", start=Fraction(1, 5))
    assert np.array_equal([frame.pixels for frame in started], expected[5:])


@pytest.mark.parametrize(("given", "message"), [
    ({"hwaccel": "gpu"}, r"hwaccel must be one of .*cuda.*got 'gpu'"),
    ({"deinterlace": "on"}, "deinterlace must be one of auto, off, got"),
    ({"input_alpha": "keep"}, "input_alpha must be one of multiply, ignore"),
])  # fmt: skip
def test_unknown_words_are_refused(tmp_path: Path, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoReader(make_clip(tmp_path / "in.mp4"), ReadOptions(**given))


@pytest.mark.parametrize("suffix", ["h264", "m2v", "mjpeg"])
@pytest.mark.parametrize("given", [None, Fraction(50)])
def test_a_stream_without_times_has_the_rate_of_its_header(
    suffix: str, given: Fraction | None, tmp_path: Path
) -> None:
    """FFmpeg claims 25 for all of them; a JPEG has no header that says more."""
    codec = {"h264": "libx264", "m2v": "mpeg2video", "mjpeg": "mjpeg"}
    path = make_clip(
        tmp_path / f"a.{suffix}", 8, rate=NTSC_FILM, codec=codec[suffix],
        pix_fmt="yuvj420p" if suffix == "mjpeg" else "yuv420p",
        time_base=1 / NTSC_FILM, options={},
    )  # fmt: skip
    rate = given or (Fraction(25) if suffix == "mjpeg" else NTSC_FILM)
    with VideoReader(path, ReadOptions(frame_rate=given)) as reader:
        assert (reader.info.rate, reader.average_rate, reader.notes) == (rate, rate, [])
        times = [frame.time for frame in reader]
        assert times == reader.times() == [n / rate for n in range(8)]
    with VideoReader(
        path, ReadOptions(frame_rate=given, start=3 / rate, end=5 / rate)
    ) as reader:
        assert [frame.time for frame in reader] == times[3:5]


def test_a_video_with_times_is_converted_by_time(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", 10)
    with VideoReader(path, ReadOptions(frame_rate=Fraction(10))) as reader:
        assert reader.info.frames == 4
        assert [read_label(frame.pixels) for frame in reader] == [1, 3, 6, 8]
    with VideoReader(
        path, ReadOptions(frame_rate=Fraction(50), start=Fraction(1, 10))
    ) as reader:
        got = [(read_label(frame.pixels), frame.time * 50) for frame in reader]
    assert got == [(n // 2, n) for n in range(5, 20)]


def test_the_usual_rate_and_the_average(tmp_path: Path) -> None:
    """Of a clip at 30000/1001 with frames left out, as phones write them."""
    rate = Fraction(30000, 1001)
    times = [n / rate for n in (0, 1, 2, 4, 5, 6, 8, 9, 11, 12)]
    path = make_clip(tmp_path / "a.mp4", 10, rate=rate, times=times)
    with VideoReader(path) as reader:
        assert reader.info.rate == rate
        assert reader.average_rate == 10 / (13 / rate)
        assert [frame.time for frame in reader] == times


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs a Theora encoder")
def test_a_screen_recording_that_repeats_frames(tmp_path: Path) -> None:
    """Theora has an empty packet for a frame that is the one before."""
    path, source = tmp_path / "a.ogv", "color=gray:s=96x64:r=25:d=0.96"
    white = "drawbox=c=white:t=fill:enable='between(n\\,10\\,17)+eq(n\\,23)'"
    words = ["-f", "lavfi", "-i", f"{source},{white}", "-c:v", "libtheora"]
    subprocess.run(["ffmpeg", "-v", "error", *words, path], check=True)
    with av.open(str(path)) as container:
        sizes = [p.size for p in container.demux(video=0) if p.pts is not None]
    assert len(sizes) == 24
    assert 0 in sizes[1:9]
    with VideoReader(path) as reader:
        frames = list(reader)
        assert [frame.time for frame in frames] == reader.times()
    assert reader.times() == [n * Fraction(1, 25) for n in range(24)]
    bright = [n for n, frame in enumerate(frames) if frame.pixels.mean() > 200]
    assert bright == [*range(10, 18), 23]
    with VideoReader(path, ReadOptions(start=Fraction(14, 25))) as reader:
        assert [frame.pixels.mean() > 200 for frame in reader] == [
            n in bright for n in range(14, 24)
        ]


def test_a_position_that_cannot_be_decoded_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a broadcast that changes its size; the file is read from further ahead."""
    path = make_clip(tmp_path / "a.mp4", 20)
    real, calls = VideoSource._decode, 0

    def broken() -> Iterator[av.VideoFrame]:
        raise InputError(f"{path}: damaged after 0 frames")
        yield  # type: ignore[unreachable]

    def decode(source: VideoSource) -> Iterator[av.VideoFrame]:
        nonlocal calls
        calls += 1
        return broken() if calls == 2 else real(source)

    monkeypatch.setattr(VideoSource, "_decode", decode)
    frames = read(path, start=Fraction(3, 5))
    assert calls == 3
    assert [read_label(frame.pixels) for frame in frames] == [*range(15, 20)]


def test_a_change_of_size_is_noted(tmp_path: Path) -> None:
    parts = [
        make_clip(tmp_path / f"{width}.m2v", 5, size=(width, 64), codec="mpeg2video",
                  options={}, time_base=Fraction(1, 25))
        for width in (96, 64)
    ]  # fmt: skip
    path = tmp_path / "a.m2v"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with VideoReader(path) as reader:
        assert {frame.pixels.shape for frame in reader} == {(64, 96, 3)}
        (note,) = reader.notes
    assert "changes its size" in note
    assert "from 96x64 to 64x64" in note


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp", "exr"])
@pytest.mark.parametrize("name", ["input", "image.mp4"])
def test_an_image_needs_no_suffix(tmp_path: Path, kind: str, name: str) -> None:
    """As it comes through a pipe."""
    known, path = tmp_path / f"a.{kind}", tmp_path / name
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    save_image(known, pixels)
    shutil.copy(known, path)
    with VideoReader(path) as reader, VideoReader(known) as expected:
        assert reader.info == expected.info
        assert reader.info.still
        np.testing.assert_array_equal(next(iter(reader)).pixels,
                                      next(iter(expected)).pixels)  # fmt: skip


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_images_one_after_the_other_are_a_video(tmp_path: Path, kind: str) -> None:
    save_image(tmp_path / f"a.{kind}", frame_label(1))
    path = tmp_path / "input"
    path.write_bytes((tmp_path / f"a.{kind}").read_bytes() * 3)
    with VideoReader(path) as reader:
        assert not reader.images
        assert len(list(reader)) == 3


def test_files_that_cannot_be_read_leave_the_log_as_it_was(tmp_path: Path) -> None:
    """Also where threads ask for one at the same time: the log is the process's."""
    before = av.logging.get_level()
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(1000))

    def read(index: int) -> None:
        with pytest.raises(InputError):
            VideoReader(path)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(40)))
    assert av.logging.get_level() == before
