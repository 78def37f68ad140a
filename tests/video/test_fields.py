"""Interlaced video is noticed and deinterlaced."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import Image, make_clip
from fakes import convert, convert_in_parts, read, read_all

from rematte.live.sources import Newest
from rematte.video.frame import Frame

Write = Callable[..., Path]
DONE = "interlaced, and deinterlaced (bwdif): each frame became one whole picture"
OFF = "interlaced, and its fields were left as they are (deinterlace off)"


def moving_bar(index: int, size: tuple[int, int] = (96, 64)) -> Image:
    """A bright bar that has moved by two pixels with each index."""
    picture = np.full((size[1], size[0], 3), 40, np.uint8)
    picture[:, 2 * index : 2 * index + 24] = 200
    return picture


def interlace(count: int, size: tuple[int, int] = (96, 64)) -> list[Image]:
    """Frames of two fields each, the top one first."""
    frames = []
    for index in range(count):
        frame = moving_bar(2 * index, size)
        frame[1::2] = moving_bar(2 * index + 1, size)[1::2]
        frames.append(frame)
    return frames


def flagged(pictures: list[Image], pix_fmt: str = "yuv420p") -> list[av.VideoFrame]:
    """Frames that are flagged as interlaced, for encoders that ask the frames."""
    height, width = pictures[0].shape[:2]
    graph = av.filter.Graph()
    size = f"video_size={width}x{height}:pix_fmt={pix_fmt}:time_base=1/25"
    graph.link_nodes(
        graph.add("buffer", size), graph.add("setfield", "tff"), graph.add("buffersink")
    ).configure()
    frames = []
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)
        frame.pts = index
        graph.push(frame)
        frames.append(graph.vpull())
    return frames


@pytest.fixture
def clip(tmp_path: Path) -> Write:
    """Writes a clip of H.264 that is flagged as interlaced."""

    def write(frames: int = 10, name: str = "in.mp4", **more: Any) -> Path:
        options = {"qp": "0", "flags": "+ildct", "x264-params": "keyint=5"}
        pictures = flagged(interlace(frames))
        return make_clip(tmp_path / name, pictures, options=options, **more)

    return write


def combing(frame: Frame) -> float:
    """How far neighbouring lines differ more than those of one field do."""
    pixels = frame.pixels[..., 1].astype(float)
    pixels = pixels[16:48] / np.iinfo(frame.pixels.dtype).max
    between = np.abs(pixels[1:] - pixels[:-1]).mean()
    return float(between - np.abs(pixels[2:] - pixels[:-2]).mean())


def test_auto_makes_whole_pictures_at_the_same_times(clip: Write) -> None:
    source = clip(times=[Fraction(n * n, 25) for n in range(10)])
    plain, left = read_all(source, deinterlace="off")
    whole, notes = read_all(source)
    assert (left, notes) == ([OFF], [DONE])
    assert [(f.time, f.duration) for f in whole] == [
        (f.time, f.duration) for f in plain
    ]
    assert min(map(combing, plain)) > 0.01
    assert max(map(combing, whole)) < 0.003
    # Of each frame the first field stays, and the other one is made to fit.
    for a, b in zip(plain, whole, strict=True):
        assert np.abs(a.pixels[::2].astype(int) - b.pixels[::2]).max() <= 2


def test_progressive_video_is_not_touched(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", interlace(6))
    a, b = read_all(source, deinterlace="off"), read_all(source)
    assert all(map(np.array_equal, *([f.pixels for f in x[0]] for x in (a, b))))
    assert a[1] == b[1] == []


def test_interlaced_png_is_no_interlaced_video(tmp_path: Path) -> None:
    """Adam7 is an order of pixels, and FFmpeg flags it all the same."""
    frames = interlace(4)
    source = make_clip(
        tmp_path / "in.avi", frames, codec="png", pix_fmt="rgb24",
        options={"flags": "+ildct"},
    )  # fmt: skip
    with av.open(str(source)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    got, notes = read_all(source)
    assert notes == []
    assert all(np.array_equal(f.pixels, g) for f, g in zip(got, frames, strict=True))


def test_frames_that_are_flagged_only_later(tmp_path: Path, clip: Write) -> None:
    """Two raw streams one after the other: the first part is left as it is."""
    still = [moving_bar(4)] * 6
    parts = [
        make_clip(tmp_path / "a.h264", still, options={"qp": "0"}),
        clip(6, "b.h264"),
    ]
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    got, notes = read_all(both)
    plain, _ = read_all(both, deinterlace="off")
    assert notes == [DONE]
    assert [f.time for f in got] == [f.time for f in plain]
    assert len(got) == 12
    for a, b in zip(got[:6], plain[:6], strict=True):
        assert np.array_equal(a.pixels, b.pixels)
    assert max(map(combing, got[6:])) < 0.003 < min(map(combing, plain[6:]))


@pytest.mark.parametrize("start", [Fraction(1, 25), Fraction(6, 25), Fraction(7, 25)])
def test_reading_from_later_on_gives_the_same(start: Fraction, clip: Write) -> None:
    source = clip(12)
    whole = {f.time: f.pixels for f in read(source) if f.time >= start}
    part = {f.time: f.pixels for f in read(source, start=start)}
    assert list(whole) == list(part)
    assert all(np.array_equal(whole[time], part[time]) for time in whole)


@pytest.mark.parametrize(("size", "codec", "pix_fmt", "suffix"), [
    ((98, 68), "libx264", "yuv420p10le", "mov"),
    ((97, 65), "ffv1", "yuv420p", "mkv"),
    ((97, 65), "ffv1", "bgr0", "mkv"),
    ((97, 65), "ffv1", "gbrp16le", "mkv"),
    ((96, 64), "rawvideo", "uyvy422", "mov"),
    ((96, 64), "jpeg2000", "yuv422p", "mov"),
    ((96, 64), "prores_ks", "yuv422p10le", "mov"),
    ((96, 64), "mpeg2video", "yuv420p", "mpg"),
])  # fmt: skip
def test_sizes_depths_and_codecs(
    size: tuple[int, int], codec: str, pix_fmt: str, suffix: str, tmp_path: Path
) -> None:
    pictures = interlace(5, size)
    source = make_clip(
        tmp_path / f"in.{suffix}", flagged(pictures, pix_fmt), codec=codec,
        pix_fmt=pix_fmt, time_base=Fraction(1, 25),
        options={"flags": "+ildct+ilme", "field_order": "tt"},
    )  # fmt: skip
    got, notes = read_all(source)
    assert notes == [DONE]
    assert (len(got), got[0].pixels.shape[:2]) == (5, (size[1], size[0]))
    assert max(map(combing, got)) < 0.01
    for frame, picture in zip(got, pictures, strict=True):
        top = frame.pixels[::2] // (257 if frame.pixels.itemsize == 2 else 1)
        assert np.abs(top.astype(int) - picture[::2]).mean() < 5


def test_too_small_to_be_deinterlaced(tmp_path: Path) -> None:
    frames = flagged([np.full((5, 7, 3), 99, np.uint8)] * 3, "yuv420p")
    source = make_clip(
        tmp_path / "in.mkv", frames, codec="ffv1", time_base=Fraction(1, 25)
    )
    got, notes = read_all(source)
    assert len(got) == 3
    assert [note[:26] for note in notes] == ["interlaced, but too small "]


def test_segments_give_what_one_run_gives(clip: Write, tmp_path: Path) -> None:
    source = clip(12)
    ways = {
        "whole": convert,
        "resumed": partial(convert_in_parts, segment=5),
        "shared": partial(convert_in_parts, segment=5, workers=2, lead_in=12),
    }
    seen = []
    for name, way in ways.items():
        out = tmp_path / f"{name}.mkv"
        assert way(source, output_foreground=out).notes == [DONE]
        seen.append([frame.pixels for frame in read(out)])
    for other in seen[1:]:
        assert all(map(np.array_equal, seen[0], other))


def test_live_deinterlaces_too(clip: Write) -> None:
    source = str(clip(6))
    for mode, note in (("auto", DONE), ("off", OFF)):
        newest = Newest([source], deinterlace=mode)
        with newest:
            while (arrival := newest.take()) is not None:
                assert (combing(arrival.frame) < 0.003) == (mode == "auto")
        assert newest.notes == [note]
