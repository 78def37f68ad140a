"""What `ignore_errors` passes over is counted, and named where it is."""

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import damage
from conftest import make_clip
from fakes import colours, convert, convert_in_parts, save_images, times

from rematte.errors import InputError
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

pytestmark = pytest.mark.usefixtures("here")
ways = pytest.mark.parametrize("way", [convert, partial(convert_in_parts, segment=5)])


def damage_images(folder: Path, *numbers: int) -> Path:
    for number in numbers:
        (folder / f"shot{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


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
    report = convert(folder, output_alpha="a.mkv", ignore_errors=True)
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


@ways
def test_damaged_packets_are_counted_once(way: Any) -> None:
    clip = make_clip(Path("in.mov"), colours(12), codec="png", pix_fmt="rgb24")
    damage(damage(clip, slice(2, 5)), slice(8, 9))
    report = way(clip, output_alpha="a.mkv", ignore_errors=True)
    notes = [note for note in report.notes if "damaged" in note]
    assert len(notes) == 1
    assert notes[0].startswith("4 packets damaged (0.080 s, 0.120 s, 0.160 s and 1")
    assert report.frames == len(times("a.mkv")) == 8
    assert sorted(report.damaged) == pytest.approx([0.08, 0.12, 0.16, 0.32])


@ways
def test_what_the_decoder_filled_in_is_noted(way: Any) -> None:
    clip = make_clip(Path("in.mkv"), 12, codec="mpeg4", options={})
    damage(clip, slice(4, 8, 3), intact=0.5)
    report = way(clip, output_alpha="a.mkv")
    (note,) = [note for note in report.notes if "damaged" in note]
    assert note.startswith("2 packets damaged (0.160 s, 0.280 s): the decoder filled")
    assert report.frames == 12


def test_a_segment_without_any_frame_names_the_source() -> None:
    clip = make_clip(Path("in.mov"), colours(12), codec="png", pix_fmt="rgb24")
    damage(clip, slice(5, 10))
    with pytest.raises(InputError, match=r"in.mov: no frame .* 0.200 s .*--resume"):
        convert_in_parts(clip, output_alpha="a.mkv", ignore_errors=True, segment=5)


@ways
def test_packets_that_lack_parts_are_noted(way: Any) -> None:
    shown = [Fraction(50 + n, 25) for n in range(12)]  # damage counts from the first
    clip = make_clip(Path("in.ts"), colours(12), options={"bf": "0"}, times=shown)
    data = bytearray(clip.read_bytes())
    data[len(data) // 2 // 188 * 188 + 1] |= 0x80  # the mark of a receiver
    clip.write_bytes(data)
    report = way(clip, output_alpha="a.mkv")
    (note,) = [note for note in report.notes if "damaged" in note]
    assert note.startswith("1 packet damaged (0.")
    assert "the decoder filled in what is missing" in note
