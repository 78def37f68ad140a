"""Many videos: found, planned, converted, and what fails does not stop the rest."""

import json
from functools import partial
from pathlib import Path

import pytest
from conftest import Printed, Refused, Run, make_clip
from fakes import Deadly, Fake, colours, decode

from rematte.errors import InputError
from rematte.options import Options
from rematte.workers.jobs import run
from rematte.workers.planning import find_inputs, plan

Fakes = partial(Fake)
OPTIONS = Options(downsample_ratio=1)


@pytest.fixture
def place(here: Path) -> Path:
    """A folder with two good videos, a bad one, and one further down."""
    (here / "clips/more").mkdir(parents=True)
    for name in ("clips/a.mp4", "clips/b.mkv", "clips/more/a.mp4"):
        make_clip(here / name, colours(4, (64, 48)))
    (here / "clips/bad.mp4").write_text("no video")
    (here / "clips/notes.md").write_text("to be left alone")
    return here


def names(found: list[tuple[Path, Path]]) -> list[tuple[str, str]]:
    return [(str(path), str(folder)) for path, folder in found]


def test_folders_patterns_and_lists_are_found(place: Path) -> None:
    all_ = [
        ("clips/a.mp4", "."), ("clips/b.mkv", "."), ("clips/bad.mp4", "."),
        ("clips/more/a.mp4", "more"),
    ]  # fmt: skip
    assert names(find_inputs(["clips"])) == all_
    found = find_inputs(["clips/**/a.mp4", "clips/a.mp4"])
    assert [path for path, _ in names(found)] == ["clips/a.mp4", "clips/more/a.mp4"]
    (place / "list.txt").write_text("# mine\nclips/b.mkv\n\nclips/more\n")
    assert names(find_inputs(["list.txt"])) == [
        ("clips/b.mkv", "."), ("clips/more/a.mp4", ".")
    ]  # fmt: skip


def test_links_to_folders_above_are_not_followed(place: Path) -> None:
    before = find_inputs(["clips"])
    (place / "clips/more/all").symlink_to("../../clips")
    assert find_inputs(["clips"]) == before
    (place / "clips/again").symlink_to("more")  # as a second folder it counts
    assert len(find_inputs(["clips"])) == len(before) + 1


def test_lists_of_other_programs(place: Path) -> None:
    (place / "list.txt").write_text("clips/b.mkv\n", "utf-8-sig")
    assert names(find_inputs(["list.txt"])) == [("clips/b.mkv", ".")]
    (place / "list.txt").write_text("clips/b.mkv\n", "utf-16")
    with pytest.raises(InputError, match=r"list\.txt: not a text in UTF-8"):
        find_inputs(["list.txt"])
    (place / "list.txt").write_text("other.txt\n")
    (place / "other.txt").write_text("list.txt\n")
    with pytest.raises(InputError, match="names itself"):
        find_inputs(["list.txt"])


def test_a_folder_of_images_is_one_clip(place: Path) -> None:
    (place / "clips/shots/one").mkdir(parents=True)
    (place / "clips/shots/one/0001.png").write_bytes(b"")
    assert ("clips/shots/one", "shots") in names(find_inputs(["clips"]))


@pytest.mark.parametrize("word", ["nothing.mp4", "*.avi", "empty", "list.txt"])
def test_what_leads_to_nothing_is_an_error(word: str, place: Path) -> None:
    (place / "empty").mkdir()
    (place / "list.txt").write_text("clips/c.mp4\n")
    with pytest.raises(InputError, match=r"no video there|leads to nothing"):
        find_inputs([word])


def test_templates_and_folders(place: Path) -> None:
    inputs = find_inputs(["clips"])
    jobs = plan(
        inputs, {"output": "out", "alpha": "{folder}/{stem}_{suffix}.mkv"}, ".webm"
    )
    assert [str(job.outputs["output"]) for job in jobs] == [
        "out/a.webm", "out/b.webm", "out/bad.webm", "out/more/a.webm"
    ]  # fmt: skip
    assert [str(job.outputs["alpha"]) for job in jobs] == [
        "a_mp4.mkv", "b_mkv.mkv", "bad_mp4.mkv", "more/a_mp4.mkv"
    ]  # fmt: skip
    dotless = plan(inputs, {"output": "out"}, "webm")
    assert [job.outputs for job in dotless] == [
        {"output": job.outputs["output"]} for job in jobs
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_fails_is_recorded_and_the_rest_goes_on(workers: int, place: Path) -> None:
    jobs = plan(find_inputs(["clips"]), {"output": "out"}, ".mkv")
    done = {str(job.input): job for job in run(jobs, Fakes, OPTIONS, workers=workers)}
    bad = done.pop("clips/bad.mp4")
    assert (bad.status, bad.code) == ("failed", 3)
    assert "not a video" in bad.error
    assert done.keys() == {"clips/a.mp4", "clips/b.mkv", "clips/more/a.mp4"}
    for job in done.values():
        assert job.status == "done"
        assert len(decode(job.outputs["output"])) == job.frames == 4
    again = list(run(jobs, Fakes, OPTIONS, skip_existing=True))
    assert sorted(job.status for job in again) == ["failed"] + ["skipped"] * 3


def test_a_killed_process_fails_one_input_alone(place: Path) -> None:
    make_clip(place / "clips/deadly.mp4", colours(4, (80, 48)))
    jobs = plan(find_inputs(["clips"]), {"output": "out"}, ".mkv")
    load = partial(Deadly, place / "tally", {80: 99})
    done = list(run(jobs, load, OPTIONS, workers=2))
    assert len(done) == 5
    bad, deadly = sorted(
        (job for job in done if job.status == "failed"), key=lambda job: job.input
    )
    assert (bad.input.name, deadly.input.name) == ("bad.mp4", "deadly.mp4")
    assert "process was killed" in deadly.error
    assert not deadly.outputs["output"].exists()


def test_the_command_tells_how_it_went(
    place: Path, fake: Fake, run: Run, printed: Printed
) -> None:
    words = ["batch", "clips", "-o", "out", "--suffix", ".mkv"]
    assert "4 planned" in printed(*words, "--dry-run")
    assert not Path("out").exists()
    code, out, error = run(*words)
    assert code == 1
    assert "3 done, 1 failed" in out
    assert "failed   clips/bad.mp4     clips/bad.mp4: not a video" in out
    assert "done     clips/a.mp4       4 frames in " in out
    assert "Traceback" not in error
    code, out, _ = run(*words, "--json", "--skip-existing")
    rows = [json.loads(line) for line in out.splitlines()]
    assert sorted(row["status"] for row in rows) == ["failed"] + ["skipped"] * 3
    code, out, _ = run(*words)  # what is there is not replaced unasked
    assert code == 1
    assert "4 failed" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("clips", 2, "no output; give -o"),
        ("clips -o out/{stem}.mov", 1, "clips/more/a.mp4; use {folder} or {name}"),
        ("clips -o out/{date}.mov", 2, "no other fields"),
        ("clips -o {stem", 2, "no other fields"),
        ("clips -o out/{stem}}.mov", 2, "no other fields"),
        ("clips --alpha alpha.mp4", 2, "must hold"),
        ("clips -o out --jobs 0", 2, "jobs must be 1 or more"),
        ("nothing -o out", 3, "nothing: no video there"),
    ],
)
def test_bad_words_are_one_line(
    words: str, code: int, message: str, place: Path, fake: Fake, refused: Refused
) -> None:
    assert message in refused(code, "batch", *words.split())
