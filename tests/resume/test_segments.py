"""Segments: any length gives the same, stopped runs go on, workers share one video."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run, draw_disc, make_clip, noise
from fakes import Fake, colours, names, save_images, sound, times
from torch import Tensor

from rematte import segments
from rematte.cli.messages import summarise
from rematte.convert import convert_video
from rematte.errors import InputError, OutputError
from rematte.segments import LongReport, SegmentConverter, convert_long, join, prepare
from rematte.video.image_writer import ImageWriter
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

Fakes = partial(Fake)
RATIO: dict[str, Any] = {"downsample_ratio": 1, "progress": False}


def frames(path: Path) -> list[tuple[Fraction, Fraction, bytes]]:
    """Time, duration and pixels of every frame."""
    with VideoReader(path, ReadOptions(alpha=True)) as reader:
        return [(f.time, f.duration, f.pixels.tobytes()) for f in reader]


def uneven(count: int) -> list[Fraction]:
    """Times [s] with steps of 1 to 3 sixtieths, not from 0."""
    steps = [1 + (7 * index) % 3 for index in range(count)]
    return [Fraction(3 + sum(steps[:index]), 60) for index in range(count)]


def in_segments(
    network: Fake, source: str, backwards: bool = False, **given: Any
) -> tuple[segments.Work, LongReport]:
    """Convert one segment after the other, or from the last one to the first."""
    work = prepare(network, source, **given, **RATIO)
    converter = SegmentConverter(network, work)
    for segment in work.segments[:: -1 if backwards else 1]:
        converter(segment)
    return work, join(work)


def two_scenes(at: int | None) -> None:
    """Write a clip of 40 frames whose scene changes at one of them, or nowhere."""
    noise = np.random.default_rng(5).integers(0, 256, (2, 4, 6, 3), np.uint8)
    pictures = noise.repeat(8, 1).repeat(8, 2)
    scenes = [pictures[int(at is not None and n >= at)] for n in range(40)]
    make_clip(Path("cut.mp4"), scenes)


def times_of(source: str) -> list[Fraction]:
    with VideoReader(source) as reader:
        return reader.times()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clip of ten frames, not evenly timed, and sound."""
    monkeypatch.chdir(tmp_path)
    make_clip(
        tmp_path / "in.mp4", colours(), times=uneven(10), time_base=Fraction(1, 600),
        sound=True, sound_seconds=0.6, subtitles=[(0.1, 0.3, "words")],
        chapters=[(0, 0.3, "one")],
    )  # fmt: skip
    return tmp_path


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


@pytest.mark.parametrize(
    "settings",
    [
        {"start": 0.1, "end": "0.2"},
        {"start": 0.1, "limit": 5, "warmup": 4},
        {"end": 0.2, "seq_chunk": 2, "background": "back.mp4"},  # which plays on
    ],
)
def test_a_part_of_a_video(settings: dict[str, Any], place: Path) -> None:
    make_clip(place / "back.mp4", colours(3), rate=40)
    given = {**settings, **RATIO}
    whole = convert_video(Fake(), "in.mp4", output="w.mov", **given)
    report = convert_long(Fake, "in.mp4", segment=2, output="s.mov", **given)
    assert frames(place / "s.mov") == frames(place / "w.mov")
    assert sound(place / "s.mov") == sound(place / "w.mov")
    assert report.frames == whole.frames


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
        found.append({f.name: f.read_bytes() for f in folder.rglob("*.*")})
    assert found[0] == found[1]
    name = "shot{}.png" if target == "seq" else "s_{:02d}.tif"
    assert set(found[0]) == {name.format(n) for n in range(10)}


GIVEN: dict[str, Any] = {
    "output": "out.mov", "output_alpha": "pha.mkv", "segment": 3, **RATIO,
}  # fmt: skip


def begun(place: Path, done: int, **settings: Any) -> segments.Work:
    """What a run leaves that is stopped while it works on the next segment."""
    work = prepare(Fake(), "in.mp4", **{**GIVEN, **settings})
    converter = SegmentConverter(Fake(), work)
    for segment in work.segments[:done]:
        converter(segment)
    (work.folder / ".half").mkdir()
    (work.folder / ".half/state.safetensors").write_bytes(b"half")
    return work


def go_on(place: Path, **settings: Any) -> LongReport:
    return convert_long(Fake, "in.mp4", resume=True, **{**GIVEN, **settings})


@pytest.fixture
def unbroken(place: Path) -> list[Any]:
    go_on(place, output="w.mov", output_alpha="w.mkv")
    return [frames(place / "w.mov"), frames(place / "w.mkv"), sound(place / "w.mov")]


@pytest.mark.parametrize("done", [0, 1, 2, 3, 4])
def test_a_stopped_run_goes_on(done: int, place: Path, unbroken: list[Any]) -> None:
    begun(place, done)
    report = go_on(place, overwrite=False)
    found = [frames(place / "out.mov"), frames(place / "pha.mkv")]
    assert [*found, sound(place / "out.mov")] == unbroken
    assert sound(place / "out.mov") == sound(place / "in.mp4")
    assert (report.segments, report.reused, report.frames) == (4, done, 10)
    assert names(place) == {"in.mp4", "w.mov", "w.mkv", "out.mov", "pha.mkv"}


def test_without_resume_it_begins_anew(place: Path, unbroken: list[Any]) -> None:
    begun(place, 2)
    report = convert_long(Fake, "in.mp4", output="out.mov", segment=3, **RATIO)
    assert report.reused == 0
    assert frames(place / "out.mov") == unbroken[0]


def test_work_is_not_deleted_unasked(place: Path) -> None:
    begun(place, 2)
    given = {"output": "out.mov", "overwrite": False, **RATIO}
    with pytest.raises(OutputError, match="holds segments of an earlier run; pass res"):
        convert_long(Fake, "in.mp4", segment=3, **given)
    assert "000001" in names(place / ".out.mov.segments")


def test_a_run_stopped_while_it_names_goes_on(
    place: Path, unbroken: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = begun(place, 4, output_foreground="fgr", overwrite=False)
    with monkeypatch.context() as patch:
        # The process ends between the first name and the last.
        patch.setattr(ImageWriter, "publish", lambda self: None)
        patch.setattr(shutil, "rmtree", lambda *a, **k: None)
        join(work)
    assert (place / "out.mov").exists()
    report = go_on(place, output_foreground="fgr", overwrite=False)
    assert report.reused == 4
    assert [frames(place / "out.mov"), frames(place / "pha.mkv")] == unbroken[:2]
    assert names(place / "fgr") == {f"{n:04d}.png" for n in range(10)}


class Slow(Fake):
    def forward(self, *given: Any) -> tuple[Tensor, ...]:
        time.sleep(0.3)
        return super().forward(*given)


def slowly() -> None:
    convert_long(Slow, "in.mp4", resume=True, overwrite=False, **GIVEN)


def test_kill_9_and_resume(place: Path) -> None:
    """Killed three times, each time after one segment more."""
    context = multiprocessing.get_context("spawn")
    for index in range(3):
        process = context.Process(target=slowly)
        process.start()
        waited = place / f".out.mov.segments/{index:06d}"
        while not waited.exists():
            assert process.is_alive()
            time.sleep(0.005)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (place / "out.mov").exists()
    slowly()
    # The name of a class is part of what tells weights: the same one, unbroken.
    found = [frames(place / name) for name in ("out.mov", "pha.mkv")]
    go_on(place, output="w.mov", output_alpha="w.mkv")
    assert found == [frames(place / "w.mov"), frames(place / "w.mkv")]
    assert sound(place / "out.mov") == sound(place / "in.mp4")
    assert len(found[0]) == 10


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"crf": 30}, r"crf \(default -> 30\)"),
        ({"background": "white"}, r"background \(default -> white\)"),
        ({"downsample_ratio": 0.5}, r"downsample_ratio \(1 -> 0\.5\)"),
        ({"output_alpha": "else.mkv"}, r"alpha \(.*pha\.mkv -> .*else\.mkv\)"),
        ({"limit": 5}, r"limit \(default -> 5\)"),
    ],
)
def test_other_options_are_told(change: dict[str, Any], told: str, place: Path) -> None:
    begun(place, 2)
    before = names(place / ".out.mov.segments")
    with pytest.raises(ValueError, match=told) as error:
        go_on(place, **change)
    assert "or overwrite (-y) without resume (--resume)" in str(error.value)
    assert names(place / ".out.mov.segments") == before


def test_other_weights_are_refused(place: Path) -> None:
    begun(place, 2)

    def other() -> Fake:
        fake = Fake()
        fake.weight.fill_(0.5)
        return fake

    with pytest.raises(ValueError, match=r"the weights \("):
        convert_long(other, "in.mp4", resume=True, **GIVEN)
    # And side by side is another thing than alone.
    with pytest.raises(ValueError, match=r"other settings: lead_in \(default -> 15"):
        go_on(place, workers=2)


def test_another_input_is_refused(place: Path) -> None:
    begun(place, 2)
    make_clip(place / "in.mp4", colours(11))
    with pytest.raises(ValueError, match=r"beginning of the input \("):
        go_on(place)
    os.utime(place / "in.mp4")
    with pytest.raises(ValueError, match=r"time of change of the input \("):
        go_on(place)


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


def test_frames_that_move_are_refused(place: Path) -> None:
    """As in broken files, where times depend on where reading begins."""
    work = begun(place, 4)
    record = work.path(work.segments[1]) / "segment.json"
    changed = json.loads(record.read_text())
    changed["frames"].pop(0)
    record.write_text(json.dumps(changed))
    with pytest.raises(InputError, match="other times than when read from the"):
        go_on(place)
    assert "out.mov" not in names(place)


def test_a_damaged_part_is_refused(place: Path) -> None:
    work = begun(place, 4)
    place_of = work.path(work.segments[1])
    other = work.path(work.segments[3])
    shutil.copy(other / "alpha/pha.mkv", place_of / "alpha/pha.mkv")
    with pytest.raises(OutputError, match=r"has 1 frames instead of 3; delete"):
        go_on(place)
    assert "out.mov" not in names(place)


def test_a_full_disk_keeps_the_work(place: Path, disk: Path) -> None:
    make_clip(place / "in.mkv", noise(30, (64, 48)), codec="ffv1", pix_fmt="bgr0")
    given = {"output": disk / "out.mov", "segment": 5, **RATIO}
    with pytest.raises(OutputError, match="no space left on the disk") as error:
        convert_long(Fake, "in.mkv", resume=True, **given)
    assert "finished segments are saved in" in str(error.value)
    assert names(disk) == {".out.mov.segments"}
    done = names(disk / ".out.mov.segments") - {"manifest.json"}
    assert done == {f"{n:06d}" for n in range(len(done))}
    assert 0 < len(done) < 6
    subprocess.run(["mount", "-o", "remount,size=9M", str(disk)], check=True)
    report = convert_long(Fake, "in.mkv", resume=True, **given)
    assert report.reused == len(done)
    convert_long(Fake, "in.mkv", **{**given, "output": "w.mov"})
    assert frames(disk / "out.mov") == frames(place / "w.mov")
    assert names(disk) == {"out.mov"}


def test_an_interrupt_keeps_the_work(place: Path) -> None:
    stopped = partial(Fake, fail_at=7, error=KeyboardInterrupt())
    given = {"output": "out.mov", "segment": 3, **RATIO}
    with pytest.raises(KeyboardInterrupt, match=r"\.out\.mov\.segments"):
        convert_long(stopped, "in.mp4", **given)
    assert names(place) == {"in.mp4", ".out.mov.segments"}
    report = convert_long(Fake, "in.mp4", resume=True, **given)
    assert report.reused == 2


def test_an_error_before_the_first_segment_leaves_nothing(place: Path) -> None:
    with pytest.raises(RuntimeError, match="broke"):
        convert_long(partial(Fake, fail_at=1), "in.mp4", output="o.mov", **RATIO)
    assert names(place) == {"in.mp4"}


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
    make_clip(place / name, draw_disc(30).frames, codec=codec, options=options)
    forgets = Fake(memory=0)
    convert_video(forgets, name, output_foreground="w.mkv", **RATIO)
    given = {"segment": 7, "lead_in": 2, "output_foreground": "s.mkv"}
    _, report = in_segments(forgets, name, backwards=True, **given)
    assert report.frames == 30
    assert frames(place / "s.mkv") == frames(place / "w.mkv")
    assert [seam[2] for seam in report.seams] == [0] * 4


class Deadly(Fake):
    """Kills its process: always, or until a file tells that it did."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.always = always

    def forward(self, *given: Any) -> tuple[torch.Tensor, ...]:
        if self.always or (self.seen == 2 and not Path("killed").exists()):
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(*given)


def test_a_killed_worker_is_replaced(place: Path) -> None:
    given = {"workers": 2, "lead_in": 9, "segment": 5, **RATIO}
    report = convert_long(partial(Deadly, False), "in.mp4", output="s.mkv", **given)
    convert_video(Fake(), "in.mp4", output="w.mkv", **RATIO)
    assert (place / "killed").exists()
    assert report.frames == 10
    assert frames(place / "s.mkv") == frames(place / "w.mkv")
    with pytest.raises(MemoryError, match="use fewer"):
        convert_long(partial(Deadly, True), "in.mp4", output="t.mkv", **given)


@pytest.mark.usefixtures("fake")
def test_the_command(place: Path, run: Run) -> None:
    words = ["convert", "in.mp4", "-o", "o.mkv", "--downsample-ratio", "1"]
    code, out, err = run(*words, "--resume", "--segment", "4", "--json")
    assert code == 0
    assert err.startswith("note: o.mkv: subtitle")
    assert err.count("\n") == 1
    report = json.loads(out)
    assert (report["frames"], report["segments"], report["seams"]) == (10, 3, [])
    code, out, _ = run(*words, "-y", "--resume", "--segment", "4")
    assert (code, "segments: 3, 0 of them finished before" in out) == (0, True)
    code, _, err = run(*words, "--workers", "0")
    assert (code, err.count("\n")) == (2, 1)
    assert "workers must be 1 or more" in err


def test_the_command_tells_of_seams(place: Path) -> None:
    report = LongReport(segments=3, lead_in=15, seams=[(1.0, 0.1, 9), (2.0, 0.3, 7)])
    report.frames, report.seconds = 30, 1
    _, _, first, second = summarise(report, "cpu").splitlines()
    assert first == "segments: 3, 0 of them finished before"
    assert second == (
        "seams: 2, each after 15 frames of lead-in; alpha differs by 0.20 of 255 on "
        "average, at the worst seam (2.00 s) by 0.30, and there by 7 at most"
    )
