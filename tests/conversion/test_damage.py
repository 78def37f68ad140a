"""What `ignore_errors` passes over is counted, and named where it is."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import make_clip
from fakes import Fake, colours, save_images, times

from rematte.convert import convert_video
from rematte.errors import InputError
from rematte.segments import convert_long
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

GIVEN: dict[str, Any] = {
    "downsample_ratio": 1, "progress": False, "ignore_errors": True,
}  # fmt: skip
# How a video is converted: in one run, or in segments.
WAYS: dict[str, Callable[..., Any]] = {
    "once": lambda *given, **more: convert_video(Fake(), *given, **more),
    "segments": partial(convert_long, Fake, segment=5, resume=True),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def damage_images(folder: Path, *numbers: int) -> Path:
    for number in numbers:
        (folder / f"shot{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def damage_packets(path: Path, *numbers: int, intact: float = 0) -> Path:
    """Overwrite packets of a file, all or what comes after an intact share."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        for number in numbers:
            content = bytes(packets[number])
            length = len(content) - int(intact * len(content))
            end = data.index(content) + len(content)
            data[end - length : end] = b"\xff" * length
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("threads", [0, 2])
def test_a_damaged_image_shows_the_one_before(threads: int) -> None:
    folder = damage_images(save_images(Path("in"), colours(6)), 2, 3)
    with pytest.raises(InputError, match="shot2"), VideoReader(folder) as reader:
        list(reader)
    options = ReadOptions(ignore_errors=True, threads=threads)
    frames = [*VideoReader(folder, options)]
    assert [frame.name for frame in frames] == [f"shot{n}" for n in range(6)]
    same = [np.array_equal(frame.pixels, frames[1].pixels) for frame in frames]
    assert same == [False, True, True, True, False, False]
    report = convert_video(Fake(), folder, output_alpha=Path("a.mkv"), **GIVEN)
    (note,) = report.notes
    assert note.startswith("2 images damaged (shot2.png, shot3.png)")
    assert len(report.damaged) == 2


def test_a_part_that_begins_with_damage_shows_the_image_before() -> None:
    folder = damage_images(save_images(Path("in"), colours(6)), 2, 3)
    whole = [*VideoReader(folder, ReadOptions(ignore_errors=True))]
    start = whole[3].time
    part = [*VideoReader(folder, ReadOptions(ignore_errors=True, start=start))]
    assert [frame.pixels.tobytes() for frame in part] == [
        frame.pixels.tobytes() for frame in whole[3:]
    ]


@pytest.mark.parametrize("way", WAYS)
def test_damaged_packets_are_counted_once(way: str) -> None:
    clip = make_clip(Path("in.mov"), colours(12), codec="png", pix_fmt="rgb24")
    damage_packets(clip, 2, 3, 4, 8)
    report = WAYS[way](clip, output_alpha=Path("a.mkv"), **GIVEN)
    notes = [note for note in report.notes if "damaged" in note]
    assert len(notes) == 1
    assert notes[0].startswith("4 packets damaged (0.080 s, 0.120 s, 0.160 s and 1")
    assert report.frames == len(times(Path("a.mkv"))) == 8
    assert sorted(report.damaged) == pytest.approx([0.08, 0.12, 0.16, 0.32])


@pytest.mark.parametrize("way", WAYS)
def test_what_the_decoder_filled_in_is_noted(way: str) -> None:
    clip = make_clip(Path("in.mkv"), 12, codec="mpeg4", options={})
    damage_packets(clip, 4, 7, intact=0.5)
    settings = GIVEN | {"ignore_errors": False}
    report = WAYS[way](clip, output_alpha=Path("a.mkv"), **settings)
    (note,) = [note for note in report.notes if "damaged" in note]
    assert note.startswith("2 packets damaged (0.160 s, 0.280 s): the decoder filled")
    assert report.frames == 12


def test_a_segment_without_any_frame_names_the_source() -> None:
    clip = make_clip(Path("in.mov"), colours(12), codec="png", pix_fmt="rgb24")
    damage_packets(clip, 5, 6, 7, 8, 9)
    with pytest.raises(InputError, match=r"in.mov: no frame .* 0.200 s .*--resume"):
        WAYS["segments"](clip, output_alpha=Path("a.mkv"), **GIVEN)


@pytest.mark.parametrize("way", WAYS)
def test_packets_that_lack_parts_are_noted(way: str) -> None:
    shown = [Fraction(50 + n, 25) for n in range(12)]  # damage counts from the first
    clip = make_clip(Path("in.ts"), colours(12), options={"bf": "0"}, times=shown)
    data = bytearray(clip.read_bytes())
    data[len(data) // 2 // 188 * 188 + 1] |= 0x80  # the mark of a receiver
    clip.write_bytes(data)
    settings = GIVEN | {"ignore_errors": False}
    report = WAYS[way](clip, output_alpha=Path("a.mkv"), **settings)
    (note,) = [note for note in report.notes if "damaged" in note]
    assert note.startswith("1 packet damaged (0.")
    assert "the decoder filled in what is missing" in note
