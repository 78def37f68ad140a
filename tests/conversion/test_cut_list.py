"""The list of cuts: what it holds, and that it appears with the outputs."""

from pathlib import Path

import pytest
from conftest import Run, make_clip
from fakes import Fake, convert, convert_in_parts, names, scenes

from rematte.errors import OutputError
from rematte.video.reader import VideoReader

GIVEN = {"output_alpha": "a.mkv", "cuts": "cuts.csv"}


@pytest.fixture(autouse=True)
def _clip(here: Path) -> None:
    make_clip(here / "in.mp4", scenes(6, 8, 5))


def written() -> str:
    return Path("cuts.csv").read_text("utf-8")


def listed(numbers: list[int], first: int = 0) -> str:
    with VideoReader("in.mp4") as reader:
        shown = reader.times()
    since = shown[first] if first else 0
    lines = [f"{n - first},{float(shown[n] - since):.6f}\n" for n in numbers]
    return "".join(["frame,seconds\n", *lines])


@pytest.mark.parametrize("warmup", [0, "auto", 3])
def test_it_lists_every_cut(warmup: int | str) -> None:
    report = convert("in.mp4", warmup=warmup, **GIVEN)
    assert written() == listed([6, 14])
    assert [number for number, _ in report.cuts] == [6, 14]


def test_its_times_are_those_of_the_outputs() -> None:
    with VideoReader("in.mp4") as reader:
        start = reader.times()[4]
    convert("in.mp4", start=start, **GIVEN)
    assert written() == listed([6, 14], 4)


@pytest.mark.parametrize(
    ("length", "lead_in"), [(1, None), (1, 5), (4, None), (6, None), (7, None)]
)
def test_segments_list_the_same(length: int, lead_in: int | None) -> None:
    given = {**GIVEN, "warmup": 4, "lead_in": lead_in}
    workers = 1 if lead_in is None else 2
    convert_in_parts("in.mp4", segment=length, workers=workers, **given)
    assert written() == listed([6, 14])


def test_without_cuts_it_is_empty(tmp_path: Path) -> None:
    make_clip(tmp_path / "in.mp4", scenes(9))
    convert("in.mp4", **GIVEN)
    assert written() == "frame,seconds\n"


def test_an_error_leaves_none_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broke"):
        convert("in.mp4", model=Fake(fail_at=9), **GIVEN)
    assert names(tmp_path) == {"in.mp4"}


def test_it_replaces_only_what_it_may(tmp_path: Path) -> None:
    Path("cuts.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"cuts\.csv exists; pass overwrite"):
        convert("in.mp4", overwrite=False, **GIVEN)
    Path("in.mp4").rename("in.csv")
    with pytest.raises(ValueError, match=r"list of cuts in\.csv is the input itself"):
        convert("in.csv", **{**GIVEN, "cuts": "in.csv"})
    with pytest.raises(ValueError, match=r"cuts must be a path that ends in \.csv"):
        convert("in.csv", **{**GIVEN, "cuts": "cuts.txt"})
    assert Path("cuts.csv").read_text() == "mine"
    assert names(tmp_path) == {"in.csv", "cuts.csv"}


def test_the_command_warms_up(run: Run, fake: Fake) -> None:
    seen = []
    for words in ("", "--warmup 0", "--warmup 3 --cuts cuts.csv"):
        before = fake.seen
        code, *_ = run("convert", "in.mp4", "--alpha", "a.mkv", "-y", *words.split())
        assert code == 0
        seen.append(fake.seen - before)
    assert seen == [19 + 6 + 8 + 5, 19, 19 + 9]
    assert written() == listed([6, 14])
    assert run("batch", "in.mp4", "-o", "out", "--cuts", "cuts.csv")[0] == 2
