"""Segments: any length gives the same as one run, and workers share one video."""

import json
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Refused, Run, draw_disc, make_clip
from fakes import (
    Deadly,
    Fake,
    colours,
    contents,
    names,
    save_images,
    scenes,
    sound,
    times,
)
from segmenting import RATIO, frames, place, uneven

from rematte.cli.messages import summarise
from rematte.convert import convert_video
from rematte.errors import InputError, OutputError
from rematte.segments import (
    LongReport,
    SegmentConverter,
    Work,
    convert_long,
    join,
    prepare,
)  # fmt: skip
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

__all__ = ["place"]  # the fixture
Fakes = partial(Fake)


def in_segments(
    network: Fake, source: str, backwards: bool = False, **given: Any
) -> tuple[Work, LongReport]:
    """Convert one segment after the other, or from the last one to the first."""
    work = prepare(network, source, **given, **RATIO)
    converter = SegmentConverter(network, work)
    for segment in work.segments[:: -1 if backwards else 1]:
        converter(segment)
    return work, join(work)


def two_scenes(at: int | None) -> None:
    """Write a clip of 40 frames whose scene changes at one of them, or nowhere."""
    make_clip(Path("cut.mp4"), scenes(*(40,) if at is None else (at, 40 - at)))


def times_of(source: str) -> list[Fraction]:
    with VideoReader(source) as reader:
        return reader.times()


@pytest.mark.parametrize("length", [1, 3, 9, 10, None])
def test_any_length_gives_the_same(length: int | None, place: Path) -> None:
    one = {"output": "w.mkv", "output_alpha": "a.mkv", **RATIO}
    many = {"output": "s.mkv", "output_alpha": "b.mkv", **RATIO}
    whole = convert_video(Fake(), "in.mp4", **one)
    report = convert_long(Fake, "in.mp4", segment=length, **many)
    assert frames(place / "s.mkv") == frames(place / "w.mkv")
    assert frames(place / "b.mkv") == frames(place / "a.mkv")
    assert report.frames == whole.frames == 10
    assert report.segments == -(-10 // (length or 10))
    assert (report.reused, report.seams, report.lead_in) == (0, [], None)
    assert report.outputs == {"output": "s.mkv", "alpha": "b.mkv"}
    assert names(place) == {"in.mp4", "w.mkv", "a.mkv", "s.mkv", "b.mkv"}


def test_a_list_of_clips(place: Path) -> None:
    """The run-up of each clip's sound lies within the sound before it."""
    lines = ["ffconcat version 1.0", *["file in.mp4"] * 3]
    (place / "list.ffconcat").write_text("\n".join(lines))
    given = {"output": "s.mov", "allow_lists": True, **RATIO}
    assert convert_long(Fake, "list.ffconcat", segment=7, **given).frames == 30
    pieces = [piece for _, piece in sound(place / "in.mp4")]
    assert [piece for _, piece in sound(place / "s.mov")] == pieces * 3


FORMATS = [
    (".mp4", None), (".mp4", "hevc"), (".mp4", "av1"), (".m4v", None), (".mov", None),
    (".mov", "h264"), (".mov", "hevc"), (".webm", None), (".webm", "av1"),
    (".mkv", None), (".mkv", "h264"), (".mkv", "hevc"), (".mkv", "vp9"),
    (".mkv", "prores"),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "codec"), FORMATS)
def test_every_format_is_joined(suffix: str, codec: str | None, place: Path) -> None:
    """With the times of one that is written at once, and nearly its pixels."""
    shown = draw_disc(12, (64, 48)).frames
    make_clip(place / "in.mp4", shown, times=uneven(12), time_base=Fraction(1, 600),
              sound=True, sound_seconds=0.6)  # fmt: skip
    given = {"codec": codec, **RATIO}
    whole, joined = place / f"w{suffix}", place / f"s{suffix}"
    convert_video(Fake(), "in.mp4", output=whole, **given)
    convert_long(Fake, "in.mp4", output=joined, segment=5, **given)
    assert times(joined) == times(whole)
    assert sound(joined) == sound(whole)
    with (
        VideoReader(whole, ReadOptions(alpha=True)) as a,
        VideoReader(joined, ReadOptions(alpha=True)) as b,
    ):
        assert b.info.colour == a.info.colour
        assert b.info.depth == a.info.depth
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            assert other.pixels.shape == one.pixels.shape
            # libx265 forgets how long the last one is shown.
            if codec != "hevc" or index < 11:
                assert other.duration == one.duration
            off = np.abs(other.pixels.astype(float) - one.pixels)
            assert off.mean() < 3 * (257 if one.pixels.itemsize == 2 else 1)


@pytest.mark.parametrize("target", ["seq", "s_%02d.tif"])
def test_images_are_named_on(target: str, place: Path) -> None:
    save_images(place / "shots", colours())
    found = []
    for folder, length in ((place / "whole", None), (place / "cut", 4)):
        folder.mkdir()
        given = {"output": folder / target, "segment": length, **RATIO}
        assert convert_long(Fake, "shots", num_workers=2, **given).frames == 10
        found.append(contents(folder))
    assert found[0] == found[1]
    name = "seq/shot{}.png" if target == "seq" else "s_{:02d}.tif"
    assert {*found[0]} - {"seq"} == {name.format(n) for n in range(10)}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"output": "o.gif"}, "cannot be joined from segments"),
        ({"workers": 0}, "workers must be 1 or more, got 0"),
        ({"segment": 0}, "segment must be 1 or more frames, got 0"),
        ({"workers": 2, "lead_in": -1}, "lead_in must be 0 or more frames, got -1"),
        ({"start": 5}, "no frame between 5"),
        ({"output": None}, "no output"),
        ({"output": "in.mp4"}, "is the input itself"),
        ({"engine": "none"}, "engine must be one of"),
        ({"codec": "ffv1"}, "cannot go into .mp4"),
        ({"background": "no.png"}, "neither a colour"),
    ],
)
def test_what_cannot_be_is_refused(settings: Any, told: str, place: Path) -> None:
    with pytest.raises(ValueError, match=told):
        convert_long(Fake, "in.mp4", **{"output": "o.mp4", **settings, **RATIO})
    assert names(place) == {"in.mp4"}


def test_what_has_no_segments_is_refused(place: Path) -> None:
    photo = save_images(place / "shots", colours(1)) / "shot0.png"
    with pytest.raises(ValueError, match="one image, which has no segments"):
        convert_long(Fake, photo, output="o.png", **RATIO)
    (place / "empty").mkdir()
    with pytest.raises(InputError, match=r"no images in .*`rematte batch` takes vid"):
        convert_long(Fake, "empty", output="o.mp4", **RATIO)
    with pytest.raises(InputError, match="no such file"):
        convert_long(Fake, "none.mp4", output="o.mp4", **RATIO)
    (place / "out.mp4").write_text("precious")
    with pytest.raises(OutputError, match=r"out\.mp4 exists"):
        convert_long(Fake, "in.mp4", output="out.mp4", overwrite=False, **RATIO)


@pytest.mark.parametrize("rate", [None, 30])
def test_frames_without_times_are_counted(place: Path, rate: int | None) -> None:
    film = Fraction(24000, 1001)
    make_clip(
        place / "raw.h264", colours(), rate=film, time_base=1 / film,
        options={"bf": "2", "qp": "0"},
    )  # fmt: skip
    given = {"frame_rate": rate, **RATIO}
    convert_video(Fake(), "raw.h264", output_foreground="w.mkv", **given)
    given |= {"output_foreground": "s.mkv", "segment": 4}
    report = convert_long(Fake, "raw.h264", **given)
    assert (report.segments, report.frames) == (3, 10)
    whole, joined = frames(place / "w.mkv"), frames(place / "s.mkv")
    step = 1 / Fraction(rate or film)
    assert whole == joined
    ms = [round(n * step * 1000) for n in range(10)]
    assert [time * 1000 for time, *_ in whole] == ms


@pytest.mark.parametrize("rate", [10, 24, 60])
def test_a_rate_is_converted_as_in_one_run(place: Path, rate: int) -> None:
    given = {"frame_rate": rate, "start": 0.1, "end": 0.33, **RATIO}
    one = convert_video(Fake(), "in.mp4", output_foreground="w.mkv", **given)
    many = convert_long(Fake, "in.mp4", output_foreground="s.mkv", segment=2, **given)
    for report in (one, many):
        assert f"to {rate} frames/s: frames are dropped or repeated" in report.notes[0]
    assert frames(place / "w.mkv") == frames(place / "s.mkv")
    assert one.frames == many.frames == {10: 3, 24: 6, 60: 14}[rate]


def test_a_lead_in_over_everything_equals_the_serial_run(place: Path) -> None:
    convert_video(Fake(), "in.mp4", output="w.mkv", **RATIO)
    given = {"output": "s.mkv", "workers": 2, "lead_in": 99, "segment": 4, **RATIO}
    report = convert_long(Fakes, "in.mp4", **given)
    assert frames(place / "s.mkv") == frames(place / "w.mkv")
    assert sound(place / "s.mkv") == sound(place / "w.mkv")
    assert (report.segments, report.lead_in, report.frames) == (3, 99, 10)
    assert [seam[1:] for seam in report.seams] == [(0, 0), (0, 0)]
    assert names(place) == {"in.mp4", "w.mkv", "s.mkv"}


@pytest.mark.parametrize("at", [None, 12, 19, 21])
def test_segments_begin_at_cuts(at: int | None, place: Path) -> None:
    """Of 40 frames in two, the second begins where the scene does, within a quarter."""
    two_scenes(at)
    times = times_of("cut.mp4")
    for lead_in in (3, None):
        given = {"output_alpha": "a.mkv", "segment": 20, "lead_in": lead_in}
        work, report = in_segments(Fake(), "cut.mp4", **given)
        start = 20 if at in (None, 12) or lead_in is None else at
        assert work.segments[0].end == work.segments[1].first == times[start]
        assert work.segments[1].lead == times[start - (lead_in or 0)]
        assert report.frames == 40


def test_a_cut_behind_what_is_asked_for_is_left_alone(place: Path) -> None:
    two_scenes(22)
    times = times_of("cut.mp4")
    given = {"lead_in": 3, "output_alpha": "a.mkv", "segment": 20, "end": times[21]}
    work = prepare(Fake(), "cut.mp4", **given, **RATIO)
    assert [segment.first for segment in work.segments] == [times[0], times[20]]
    assert work.segments[1].end == times[21]


def test_seams_are_measured(place: Path) -> None:
    """The fake forgets half with each frame, so a lead-in halves the difference."""
    convert_video(Fake(), "in.mp4", output_alpha="w.mkv", **RATIO)
    whole = frames(place / "w.mkv")
    worst = []
    for lead_in in (0, 1, 3):
        given = {"output_alpha": "s.mkv", "segment": 5, "lead_in": lead_in}
        _, report = in_segments(Fake(), "in.mp4", backwards=True, **given)
        (seam,) = report.seams
        found = frames(place / "s.mkv")
        assert [frame[:2] for frame in found] == [frame[:2] for frame in whole]
        assert found[:5] == whole[:5]
        one, other = (np.frombuffer(f[5][2], np.uint8).astype(int)
                      for f in (whole, found))  # fmt: skip
        assert seam[0] == float(whole[5][0])
        assert seam[2] == np.abs(one - other).max()
        worst.append(seam[1])
    assert worst[0] > 1.8 * worst[1] > 3 * worst[2] > 0


SOURCES = [
    ("in.ts", "libx264"), ("in.avi", "mpeg4"), ("in.webm", "libvpx-vp9"),
    ("in.webm", "libvpx"), ("in.mkv", "libx265"),
    ("in.mp4", "libx264"), ("in.flv", "flv1"), ("in.mov", "libx265"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "codec"), SOURCES)
def test_reading_begins_at_the_right_frame(name: str, codec: str, place: Path) -> None:
    """Whatever the container's index is worth; without memory there are no seams."""
    x265 = {"x265-params": "log-level=error:keyint=12:open-gop=1"}
    options = x265 if codec == "libx265" else {"g": "12", "bf": "2", "b:v": "400k"}
    if codec in ("libvpx", "libvpx-vp9", "flv1"):
        del options["bf"]
    make_clip(place / name, draw_disc(24).frames, codec=codec, options=options)
    forgets = Fake(memory=0)
    convert_video(forgets, name, output_foreground="w.mkv", **RATIO)
    given = {"segment": 9, "lead_in": 2, "output_foreground": "s.mkv"}
    _, report = in_segments(forgets, name, backwards=True, **given)
    assert report.frames == 24
    assert frames(place / "s.mkv") == frames(place / "w.mkv")
    assert [seam[2] for seam in report.seams] == [0] * 2


def test_a_killed_worker_is_replaced(place: Path) -> None:
    given = {"workers": 2, "lead_in": 9, "segment": 5, **RATIO}
    once, always = (partial(Deadly, place / "tally", {32: n}) for n in (1, 99))
    report = convert_long(once, "in.mp4", output="s.mkv", **given)
    convert_video(Fake(), "in.mp4", output="w.mkv", **RATIO)
    assert (place / "tally.died-32").exists()
    assert report.frames == 10
    assert frames(place / "s.mkv") == frames(place / "w.mkv")
    with pytest.raises(MemoryError, match="use fewer"):
        convert_long(always, "in.mp4", output="t.mkv", **given)


@pytest.mark.usefixtures("fake")
def test_the_command(place: Path, run: Run, refused: Refused) -> None:
    words = ["convert", "in.mp4", "-o", "o.mkv", "--downsample-ratio", "1"]
    code, out, err = run(*words, "--resume", "--segment", "4", "--json")
    assert code == 0
    assert err.startswith("note: o.mkv: subtitle")
    assert err.count("\n") == 1
    report = json.loads(out)
    assert (report["frames"], report["segments"], report["seams"]) == (10, 3, [])
    code, out, _ = run(*words, "-y", "--resume", "--segment", "4")
    assert (code, "segments: 3, 0 of them finished before" in out) == (0, True)
    assert "workers must be 1 or more" in refused(2, *words, "--workers", "0")


def test_the_command_tells_of_seams(place: Path) -> None:
    report = LongReport(segments=3, lead_in=15, seams=[(1.0, 0.1, 9), (2.0, 0.3, 7)])
    report.frames, report.seconds = 30, 1
    _, _, first, second = summarise(report, "cpu").splitlines()
    assert first == "segments: 3, 0 of them finished before"
    assert second == (
        "seams: 2, each after 15 frames of lead-in; alpha differs by 0.20 of 255 on "
        "average, at the worst seam (2.00 s) by 0.30, and there by 7 at most"
    )
