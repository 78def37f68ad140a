"""What `VideoReader` promises of videos, on files that the tests make."""

import shutil
import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import Image, draw_disc, make_clip, read_label
from fakes import labels, read
from numpy.typing import NDArray

from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

Size = tuple[int, int]
NTSC_FILM = Fraction(24000, 1001)
# Squares of twelfths of a second: no two frames are shown for the same time.
UNEVEN = [Fraction(index**2, 144) for index in range(1, 11)]
UNEVEN_FROM_0 = [time - UNEVEN[0] for time in UNEVEN]


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
        assert labels(reader) == [1, 3, 6, 8]
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
