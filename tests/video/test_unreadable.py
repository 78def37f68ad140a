"""What cannot be read, or only in part, and what is said of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from clips import damage, frame_label, make_clip, noise
from fakes import labels, read

from rematte.errors import InputError
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.video_source import VideoSource


def complaint(path: Path) -> str:
    """The message, after checking what every message must have."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def test_sound_with_a_cover(tmp_path: Path) -> None:
    """What is sound alone is refused in tests/cli."""
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("aac", rate=48000)
        picture: Any = container.add_stream("png", rate=1, width=32, height=32)
        picture.pix_fmt, picture.disposition = "rgb24", Disposition.attached_pic
        art = av.VideoFrame.from_ndarray(frame_label(3, (32, 32)))
        container.mux(picture.encode(art))
        silence = np.zeros((2, 1024), np.float32)
        piece = av.AudioFrame.from_ndarray(silence, "fltp", "stereo")
        piece.sample_rate, piece.pts = 48000, 0
        container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
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
    assert labels(frames) == [*range(15, 20)]


@pytest.mark.parametrize(("given", "message"), [
    ({"hwaccel": "gpu"}, r"hwaccel must be one of .*cuda.*got 'gpu'"),
    ({"deinterlace": "on"}, "deinterlace must be one of auto, off, got"),
    ({"input_alpha": "keep"}, "input_alpha must be one of multiply, ignore"),
])  # fmt: skip
def test_unknown_words_are_refused(tmp_path: Path, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoReader(make_clip(tmp_path / "in.mp4"), ReadOptions(**given))


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
