"""Numbered sequences of images: names, gaps, and where their numbers go."""

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from clips import frame_label, make_clip
from fakes import (
    Fake,
    convert,
    convert_in_parts,
    decode,
    labels,
    names,
    open_image,
    read_all,
)
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rematte.errors import InputError, OutputError
from rematte.options import Options
from rematte.video.codecs import pattern_of
from rematte.video.frame import Frame
from rematte.video.numbering import (
    Numbering,
    find_numbering,
    parse_pattern,
)
from rematte.video.output_paths import check_target
from rematte.video.reader import VideoReader
from rematte.workers.jobs import run as run_batch
from rematte.workers.planning import find_inputs, plan

PLATE = (1001, 1002, 1003, 1004, 1007, 1008)
NOTE = "frames 1005-1006 are missing; 1004 is held, in image outputs too"


def save(folder: Path, numbers: Any, pattern: str = "plate.%04d.png") -> Path:
    """Write images whose brightness tells how many numbers lie before them."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        picture = frame_label((number - min(numbers)) % 25, (32, 24))
        Image.fromarray(picture).save(folder / (pattern % number))
    return folder


def read(path: Path, **options: Any) -> list[Frame]:
    return read_all(path, hold_gaps=True, **options)[0]


def notes(path: Path, **options: Any) -> list[str]:
    return read_all(path, hold_gaps=True, **options)[1]


# Names

_TEXT = st.text("abz._- ~é", max_size=6)


@given(_TEXT, st.integers(1, 8), _TEXT, st.integers(0, 10**9))
def test_a_number_survives_in_a_name(
    before: str, digits: int, after: str, number: int
) -> None:
    numbering = Numbering(before, digits, after)
    assert numbering.number(numbering.name(number)) == number
    assert numbering.name(number) == f"{before}%0{digits}d{after}" % number
    assert parse_pattern(str(numbering)) == numbering
    assert parse_pattern(f"{before}{'#' * max(2, digits)}{after}") == Numbering(
        before, max(2, digits), after
    )


@pytest.mark.parametrize("given_names", [
    ["a.1.png", "b.2.png"], ["a1_1.png", "a2_2.png"], ["a.1.png", "a.01.png"],
    ["a.1.png", "a.2.jpg"], ["x.png", "a.png"], ["a.png"], ["a.1.png", "a.png"],
])  # fmt: skip
def test_names_that_are_no_sequence(given_names: list[str]) -> None:
    assert find_numbering(given_names) is None


@pytest.mark.parametrize(("name", "pattern"), [
    ("a.%04d.exr", True), ("a.####.exr", True), ("a_%d.png", True), ("a.#.png", True),
    ("100%.mp4", False), ("take##2.mp4", False), ("C#.png", False), ("#1.png", False),
])  # fmt: skip
def test_what_is_a_pattern(name: str, pattern: bool) -> None:
    assert (pattern_of(Path(name)) is not None) is pattern


def test_a_pattern_holds_one_number_and_a_known_suffix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold one number"):
        parse_pattern("a_%04d_%04d.png")
    with pytest.raises(ValueError, match=r"unknown suffix '\.tga'"):
        check_target(tmp_path / "missing" / "%d.tga", overwrite=False)


# Reading


@pytest.mark.parametrize(
    "word", ["", "plate.%04d.png", "plate.####.png", "plate.%d.png", "plate.#.png"]
)
@pytest.mark.parametrize("threads", [0, 2])
def test_gaps_are_held_and_noted(tmp_path: Path, word: str, threads: int) -> None:
    path = save(tmp_path / "in", PLATE) / word
    frames = read(path, threads=threads)
    assert labels(frames) == [0, 1, 2, 3, 3, 3, 6, 7]
    assert [frame.number for frame in frames] == list(range(1001, 1009))
    assert [frame.name for frame in frames] == [f"plate.{n}" for n in range(1001, 1009)]
    assert [frame.time for frame in frames] == [Fraction(n, 30) for n in range(8)]
    (note,) = notes(path)
    assert note.startswith(NOTE)


def test_notes_name_the_gaps_of_what_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "in", [1, 3, 4, 8, 9])
    (note,) = notes(path)
    assert "frames 2, 5-7 are missing; the frame before each gap is held" in note
    assert "frame 2 is missing; 1 is held" in notes(path, end=Fraction(4, 30))[0]
    assert "frames 6-7 are missing; 4 is held" in notes(path, start=Fraction(5, 30))[0]
    assert notes(path, start=Fraction(7, 30)) == []


def test_numbers_may_grow_beyond_their_padding(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", [8, 9, 10, 11], "f%d.png")
    for word in ("", "f%d.png", "f#.png", "f%02d.png")[:2]:
        assert [frame.number for frame in read(folder / word)] == [8, 9, 10, 11]
    save(folder, [98, 101], "g%02d.png")
    frames = read(folder / "g##.png")
    assert [frame.name for frame in frames] == ["g98", "g99", "g100", "g101"]
    Image.fromarray(frame_label(0)).save(folder / "g098.png")
    with pytest.raises(InputError, match=r"g0?98\.png has the same number"):
        read(folder / "g##.png")


def test_folders_of_unrelated_images_have_no_gaps(tmp_path: Path) -> None:
    photos = save(tmp_path / "photos", [1, 5, 30], "IMG_%04d.png")
    assert [frame.number for frame in read(photos)] == [None] * 3
    (note,) = notes(photos)
    assert "more numbers are missing (27) than there are images (3)" in note
    assert len(read(photos / "IMG_%04d.png")) == 30
    both = save(tmp_path / "both", [1, 3], "a.%04d.png")
    save(both, [1, 2], "b.%04d.png")
    assert [frame.name[0] for frame in read(both)] == list("aabb")
    assert "2 numbered sequences (a.%04d.png, b.%04d.png)" in notes(both)[0]
    Image.fromarray(frame_label(0)).save(both / "x.png")
    assert notes(both) == []


def test_an_endless_gap_is_an_error(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", [1, 1_000_000])
    with pytest.raises(InputError, match=r"frames 2-999999 are missing.*folders"):
        read(folder / "plate.%04d.png")
    assert len(read(folder)) == 2  # more are missing than there are: no sequence
    with VideoReader(folder / "plate.%04d.png") as reader:
        assert reader.info.frames == 2


def test_a_pattern_that_leads_to_nothing(tmp_path: Path) -> None:
    for name, message in {
        "plate.%04d.png": "no file in .* has such a name",
        "plate.%04d.mov": "no such file",
        "none/plate.%04d.png": "no such file",
    }.items():
        with pytest.raises(InputError, match=message):
            read(tmp_path / name)


# Writing


@pytest.mark.parametrize("word", ["", "plate.####.png"])
def test_a_pattern_keeps_the_numbers_of_the_source(tmp_path: Path, word: str) -> None:
    path = save(tmp_path / "in", PLATE) / word
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "cut.####.png"
    report = convert(path, out, start=Fraction(2, 30))
    assert names(out.parent) == {f"cut.{n}.png" for n in range(1003, 1009)}
    assert report.notes == [f"{NOTE}, under the missing numbers"]
    convert(path, out, start_number=7, limit=2)
    assert {"cut.0007.png", "cut.0008.png"} <= names(out.parent)
    convert(path, output=tmp_path / "cut")
    assert names(tmp_path / "cut") == {f"plate.{n}.png" for n in range(1001, 1009)}


def test_start_number_numbers_the_frames_of_a_video(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 3)
    (tmp_path / "out").mkdir()
    convert(clip, output=tmp_path / "out" / "a.%04d.tif", start_number=1001)
    assert names(tmp_path / "out") == {f"a.{n}.tif" for n in (1001, 1002, 1003)}
    convert(clip, output=tmp_path / "cut", start_number=5)
    assert names(tmp_path / "cut") == {"0005.png", "0006.png", "0007.png"}
    for number, out in ((-1, "cut"), (1, "cut.mov")):
        with pytest.raises(ValueError, match="start_number"):
            convert(clip, output=tmp_path / out, start_number=number)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_segments_hold_gaps_and_keep_numbers(tmp_path: Path, workers: int) -> None:
    path = save(tmp_path / "in", [*range(1001, 1005), *range(1008, 1041)])
    (tmp_path / "out").mkdir()
    outputs = {
        "output_alpha": tmp_path / "out" / "a.%04d.png",
        "output_foreground": tmp_path / "f.mkv",
        "overwrite": False,
    }
    if workers:
        report = convert_in_parts(
            path / "plate.%04d.png", load=partial(Fake, 0), segment=10,
            workers=workers, **outputs,
        )  # fmt: skip
    else:
        report = convert(path, model=Fake(0), **outputs)
    assert report.notes == [
        "frames 1005-1007 are missing; 1004 is held, in image outputs too, under the "
        "missing numbers"
    ]
    numbers = range(1001, 1041)
    shown = [n if n < 1005 or n > 1007 else 1004 for n in numbers]
    levels = [10 + 10 * ((number - 1001) % 25) for number in shown]
    assert names(tmp_path / "out") == {f"a.{n}.png" for n in numbers}
    for number, level in zip(numbers, levels, strict=True):
        alpha = open_image(tmp_path / "out" / f"a.{number}.png")
        assert alpha.mean() == pytest.approx(level, abs=0.5)
    found = [255 - picture.mean() for picture in decode(tmp_path / "f.mkv")]
    assert found == pytest.approx(levels, abs=1)


def test_batch_takes_patterns(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", PLATE)
    (tmp_path / "list.txt").write_text("in/plate.####.png\n")
    for word in (folder / "plate.%04d.png", tmp_path / "list.txt", folder):
        jobs = plan(find_inputs([word]), {"output": str(tmp_path / "o")}, ".mkv")
        (job,) = run_batch(jobs, Fake, Options())
        assert (job.status, job.frames, job.error) == ("done", 8, "")
        assert job.notes[0].startswith(NOTE)
        stem = "in" if word == folder else "plate"
        assert job.outputs["output"] == tmp_path / "o" / f"{stem}.mkv"
    template = {"output": str(tmp_path / "{stem}" / "c.%04d.png")}
    for status in ("done", "skipped"):
        jobs = plan(find_inputs([folder / "plate.%04d.png"]), template, ".mkv")
        (job,) = run_batch(jobs, Fake, Options(), skip_existing=True)
        assert job.status == status
    assert names(tmp_path / "plate") == {f"c.{n}.png" for n in range(1001, 1009)}


# What is there already


def test_other_files_in_a_folder_are_no_reason_to_refuse(tmp_path: Path) -> None:
    path = save(tmp_path / "in", PLATE)
    folder = tmp_path / "out"
    folder.mkdir()
    others = ("notes.txt", "cut.1009.png", "cut.1.png", "plate.1000.png",
              "cut.1001.exr", ".plate.1001.png")  # fmt: skip
    for name in others:
        (folder / name).write_text("precious")
    for out in (folder / "cut.%04d.png", folder):
        convert(path, out, overwrite=False)
        with pytest.raises(OutputError, match=r"\.1001\.png and 7 more would be repl"):
            convert(path, out, overwrite=False)
    for name in others:
        assert (folder / name).read_text() == "precious"


def test_what_would_be_replaced_is_known_exactly(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 10)
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("a_0004.png", "a_02.png", "a_00002.png"):  # two are others' numbers
        (folder / name).write_text("precious")
    spans: list[dict[str, Any]] = [
        {"limit": 5}, {"end": Fraction(5, 25)}, {"start_number": 4},
        {"start": Fraction(5, 25)},
    ]  # fmt: skip
    for span in spans:
        span |= {"output_alpha": folder / "a_%04d.png", "overwrite": False}
        for way in (convert, convert_in_parts):
            with pytest.raises(OutputError, match=r"a_0004\.png would be replaced"):
                way(clip, **span)
    convert(clip, output_alpha=folder / "a_%04d.png", overwrite=False, limit=4)
    convert(clip, output_alpha=folder / "a_%04d.png", overwrite=False, start_number=5)
    assert (folder / "a_0004.png").read_text() == "precious"


def test_what_an_earlier_run_left_is_noted(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 10)
    for out in (tmp_path / "cut", tmp_path / "cut" / "%04d.png"):
        convert(clip, out)
        report = convert(clip, out, limit=7)
        (note,) = report.notes
        assert "still holds 3 of its earlier images (0007.png to 0009.png)" in note
        assert len(names(tmp_path / "cut")) == 10
    other = tmp_path / "cut" / "x.%04d.png"
    assert convert(clip, output=other, limit=3).notes == []


def test_images_that_would_be_one_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", [1, 2])
    save(folder, [1, 2], "plate.%04d.bmp")
    with pytest.raises(ValueError, match=r"several images named plate\.0001.*pattern"):
        convert(folder, output=tmp_path / "cut")
    (tmp_path / "cut").mkdir()
    report = convert(folder, output=tmp_path / "cut" / "%04d.png")
    assert len(names(tmp_path / "cut")) == 4
    assert "2 numbered sequences" in report.notes[0]
