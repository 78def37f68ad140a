"""Stopped runs continue where they were, and only with the same settings and files."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import make_clip, noise
from fakes import Fake, Slow, colours, names, sound
from segmenting import RATIO, frames, place

from rematte.errors import InputError, OutputError
from rematte.segments import (
    LongReport,
    SegmentConverter,
    Work,
    convert_long,
    join,
    prepare,
)  # fmt: skip
from rematte.video.image_writer import ImageWriter

__all__ = ["place"]  # the fixture
GIVEN: dict[str, Any] = {
    "output": "out.mov", "output_alpha": "pha.mkv", "segment": 3, **RATIO,
}  # fmt: skip


def started(done: int, **settings: Any) -> Work:
    """What a run leaves that is stopped while it works on the next segment."""
    work = prepare(Fake(), "in.mp4", **{**GIVEN, **settings})
    converter = SegmentConverter(Fake(), work)
    for segment in work.segments[:done]:
        converter(segment)
    (work.folder / ".half").mkdir()
    (work.folder / ".half/state.safetensors").write_bytes(b"half")
    return work


def go_on(**settings: Any) -> LongReport:
    return convert_long(Fake, "in.mp4", resume=True, **{**GIVEN, **settings})


@pytest.fixture
def unbroken(place: Path) -> list[Any]:
    go_on(output="w.mov", output_alpha="w.mkv")
    return [frames(place / "w.mov"), frames(place / "w.mkv"), sound(place / "w.mov")]


@pytest.mark.parametrize("done", [0, 1, 2, 3, 4])
def test_a_stopped_run_goes_on(done: int, place: Path, unbroken: list[Any]) -> None:
    started(done)
    report = go_on(overwrite=False)
    found = [frames(place / "out.mov"), frames(place / "pha.mkv")]
    assert [*found, sound(place / "out.mov")] == unbroken
    assert sound(place / "out.mov") == sound(place / "in.mp4")
    assert (report.segments, report.reused, report.frames) == (4, done, 10)
    assert names(place) == {"in.mp4", "w.mov", "w.mkv", "out.mov", "pha.mkv"}


def test_without_resume_it_starts_over(place: Path, unbroken: list[Any]) -> None:
    started(2)
    report = convert_long(Fake, "in.mp4", output="out.mov", segment=3, **RATIO)
    assert report.reused == 0
    assert frames(place / "out.mov") == unbroken[0]


def test_work_is_not_deleted_unasked(place: Path) -> None:
    started(2)
    given = {"output": "out.mov", "overwrite": False, **RATIO}
    with pytest.raises(OutputError, match="holds segments of an earlier run; pass res"):
        convert_long(Fake, "in.mp4", segment=3, **given)
    assert "000001" in names(place / ".out.mov.segments")


def test_a_run_stopped_while_it_names_goes_on(
    place: Path, unbroken: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = started(4, output_foreground="fgr", overwrite=False)
    with monkeypatch.context() as patch:
        # The process ends between the first name and the last.
        patch.setattr(ImageWriter, "publish", lambda self: None)
        patch.setattr(shutil, "rmtree", lambda *a, **k: None)
        join(work)
    assert (place / "out.mov").exists()
    report = go_on(output_foreground="fgr", overwrite=False)
    assert report.reused == 4
    assert [frames(place / "out.mov"), frames(place / "pha.mkv")] == unbroken[:2]
    assert names(place / "fgr") == {f"{n:04d}.png" for n in range(10)}


def slowly() -> None:
    load = partial(Slow, seconds=0.3)
    convert_long(load, "in.mp4", resume=True, overwrite=False, **GIVEN)


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
    go_on(output="w.mov", output_alpha="w.mkv")
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
    started(2)
    before = names(place / ".out.mov.segments")
    with pytest.raises(ValueError, match=told) as error:
        go_on(**change)
    assert "or overwrite (-y) without resume (--resume)" in str(error.value)
    assert names(place / ".out.mov.segments") == before


def test_other_weights_are_refused(place: Path) -> None:
    started(2)

    def other() -> Fake:
        fake = Fake()
        fake.weight.fill_(0.5)
        return fake

    with pytest.raises(ValueError, match=r"the weights \("):
        convert_long(other, "in.mp4", resume=True, **GIVEN)
    # And side by side is another thing than alone.
    with pytest.raises(ValueError, match=r"other settings: lead_in \(default -> 15"):
        go_on(workers=2)


def test_another_input_is_refused(place: Path) -> None:
    started(2)
    make_clip(place / "in.mp4", colours(11))
    with pytest.raises(ValueError, match=r"beginning of the input \("):
        go_on()
    os.utime(place / "in.mp4")
    with pytest.raises(ValueError, match=r"time of change of the input \("):
        go_on()


def test_frames_that_move_are_refused(place: Path) -> None:
    """As in broken files, where times depend on where reading begins."""
    work = started(4)
    record = work.path(work.segments[1]) / "segment.json"
    changed = json.loads(record.read_text())
    changed["frames"].pop(0)
    record.write_text(json.dumps(changed))
    with pytest.raises(InputError, match="other times than when read from the"):
        go_on()
    assert "out.mov" not in names(place)


def test_a_damaged_part_is_refused(place: Path) -> None:
    work = started(4)
    place_of = work.path(work.segments[1])
    other = work.path(work.segments[3])
    shutil.copy(other / "alpha/pha.mkv", place_of / "alpha/pha.mkv")
    with pytest.raises(OutputError, match=r"has 1 frames instead of 3; delete"):
        go_on()
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
