"""Who is cut out: people are told apart and followed."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import Fake, convert, open_image, save_images
from numpy.typing import NDArray

from rematte import Matter, People, Person
from rematte.convert import Report
from rematte.matting.parts import connected, spread
from rematte.options import Options

# Their alpha is their red.
ORANGE, PINK = (255, 140, 0), (255, 0, 160)
WIDTH, HEIGHT, COUNT = 160, 60, 25


def draw(place: int, other: int, colours: Any = (ORANGE, PINK)) -> NDArray[np.uint8]:
    """Two people of 20 pixels at some places; the second one walks in front."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[10:50, place : place + 20] = colours[0]
    frame[12:52, other : other + 20] = colours[1]
    return frame


def walk(colours: Any = (ORANGE, PINK)) -> list[NDArray[np.uint8]]:
    """They walk past each other, from 10 to 130 and from 130 to 10, by 5 pixels."""
    return [draw(10 + 5 * n, 130 - 5 * n, colours) for n in range(COUNT)]


def elsewhere(place: int, other: int) -> NDArray[np.uint8]:
    """The same people in another room."""
    frame = draw(place, other)
    frame[frame[..., 0] == 0] = (0, 120, 200)
    return frame


def chosen(
    tmp_path: Path, frames: list[NDArray[np.uint8]], person: str | int
) -> tuple[list[NDArray[np.bool_]], Report]:
    """Where alpha is, in each frame."""
    folder, out = tmp_path / "in", tmp_path / f"out{person}"
    if not folder.exists():
        save_images(folder, frames)
    report = convert(
        folder, model=Fake(0.0), output_alpha=out, output_type="png_sequence",
        person=person, frame_rate=25,
    )  # fmt: skip
    paths = sorted(out.iterdir(), key=lambda path: int(path.stem.strip("shot")))
    return [open_image(path) > 127 for path in paths], report


def test_parts_are_numbered_and_grow_evenly() -> None:
    picture = np.array([[1, 0, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 0]], bool)
    labels, count = connected(picture)
    assert count == 3
    assert labels[0, 3] == labels[1, 2] != labels[0, 0]
    assert labels[3, 1] == labels[3, 2]
    assert ((labels > 0) == picture).all()
    u = connected(np.array([[1, 0, 1], [1, 0, 1], [1, 1, 1]], bool))
    assert u[1] == 1
    grown = spread(np.array([[1, 0, 0, 0, 0, 2]], np.int32), 9)
    assert grown.tolist() == [[1, 1, 1, 2, 2, 2]]


@pytest.mark.parametrize(("person", "first"), [
    ("left", True), ("right", False), (1, True), (2, False), ("15,30", True),
    ("15,30@0.92", False), ("135,30@0.92", True), ("not:15,30@0.92", True),
])  # fmt: skip
def test_one_is_followed_past_another(tmp_path: Path, person: Any, first: bool) -> None:
    made, report = chosen(tmp_path, walk(), person)
    assert not report.notes
    for n in (*range(8), *range(17, COUNT)):  # while they do not touch
        mine, other = (10 + 5 * n, 130 - 5 * n)[:: 1 if first else -1]
        assert made[n][14:48, mine : mine + 20].all()
        assert not made[n][14:48, other : other + 20].any()
    for n in range(8, 17):
        visible = draw(10 + 5 * n, 130 - 5 * n)[..., 2] == (0 if first else 160)
        visible &= draw(10 + 5 * n, 130 - 5 * n)[..., 0] > 0
        assert made[n][visible].mean() > 0.85


def test_in_memory_the_same_person_has_the_same_alpha() -> None:
    matter = Matter(Fake(0.0), engine="plain", downsample_ratio=1)
    people, person = People(), Person("right")
    for n, matted in enumerate(matter.frames(iter(walk()))):
        alphas, alone = people.alphas(matted), person.alpha(matted)
        assert alone.dtype == matted.alpha.dtype == np.uint8
        assert sorted(alphas) == [1, 2]
        assert (alone == alphas[2]).all()
        assert np.abs(alphas[1].astype(int) + alphas[2] - matted.alpha).max() <= 1
        if n not in range(8, 17):
            assert (alone[14:48, 130 - 5 * n : 150 - 5 * n] == 255).all()
            assert not alone[14:48, 10 + 5 * n : 30 + 5 * n].any()
    assert people.notes == person.notes == []


def test_a_point_with_a_time_is_for_conversions() -> None:
    (matted,) = Matter(Fake(0.0), engine="plain").frames([draw(20, 100)])
    with pytest.raises(ValueError, match="which convert_video does"):
        Person("20,30@1").alpha(matted)


def test_a_foot_apart_from_the_first_frame_on_is_of_its_person(tmp_path: Path) -> None:
    frames = [draw(20 + n, 100) for n in range(6)]
    for n, frame in enumerate(frames):
        frame[44:, : 40 + n] = 0
        frame[47:50, 20 + n : 32 + n] = ORANGE
    made, report = chosen(tmp_path, frames, "left")
    assert not report.notes
    assert all(made[n][48, 21 + n : 31 + n].all() for n in range(6))
    other, _ = chosen(tmp_path, frames, 2)  # the foot has taken no number
    assert all(each[14:50, 100:120].all() for each in other)


@pytest.mark.parametrize("start", [4, 24])  # behind the near one, and beside
def test_a_distant_person_beside_a_near_one_is_seen(tmp_path: Path, start: int) -> None:
    frames = [draw(10, 200) for _ in range(20)]
    for n, frame in enumerate(frames):  # a twentieth of the other's area
        far = max(30, 10 + start + 5 * n)
        frame[30:40, far : far + 4] = PINK
    (near, _), (distant, _) = (chosen(tmp_path, frames, n) for n in (1, 2))
    assert near[-1][14:48, 10:30].all()
    assert not near[-1][:, 60:].any()
    assert distant[-1][31:39, far : far + 4].all()
    assert not distant[-1][:, :60].any()


@pytest.mark.parametrize(("frames", "said"), [
    # One leaves the picture while both touch, so that nothing tells who stays.
    ([draw(min(140, 10 + 10 * n), 120) for n in range(16)],
     r"persons 1, 2 touch from.*one may be taken for the other"),
    ([draw(30 - n, 48 + 3 * n) for n in range(10)],
     "person 1 was two people who touched until"),
    (walk((ORANGE, ORANGE)), "persons 1 and 2 separate at.*look alike"),
    # The first has left the picture after two frames, and the second stays.
    ([draw(10 - 6 * n if n < 2 else 300, 100) for n in range(60)],
     "is not seen from 0.04 s on"),
], ids=["never separate", "touch at first", "look alike", "away"])  # fmt: skip
def test_who_may_be_taken_for_another_is_noted(
    tmp_path: Path, frames: list[NDArray[np.uint8]], said: str
) -> None:
    _, report = chosen(tmp_path, frames, "left")
    (note,) = report.notes
    assert re.search(said, note)


def test_alone_nothing_is_left_out_and_who_comes_later_is_not(tmp_path: Path) -> None:
    frames = [draw(40, 200 - 8 * n) for n in range(12)]
    made, _ = chosen(tmp_path, frames, "largest")
    assert made[0].sum() == 20 * 40
    assert made[11].sum() == 20 * 40
    assert made[11][12:48, 40:60].all()


@pytest.mark.parametrize(("person", "seen"), [("25,30", True), ("4", False)])
def test_after_a_cut_colours_tell_who_it_is_and_numbers_go_on(
    tmp_path: Path, person: str, seen: bool
) -> None:
    frames = [draw(20, 100)] * 8 + [elsewhere(60, 20)] * 8
    made, report = chosen(tmp_path, frames, person)
    assert any("after a cut" in note for note in report.notes) == seen
    assert all(each.any() == seen for each in made[:8])
    assert made[12][14:48, 60:80].all()
    assert not made[12][14:48, 20:40].any()


@pytest.mark.parametrize(("person", "message"), [
    ("tallest", "largest, centre"), ("0", "number from 1"), ("1,2,3", "X,Y@TIME"),
    ("nan,2", "X,Y@TIME"), ("1,2@", "X,Y@TIME"),
])  # fmt: skip
def test_what_is_no_person_is_refused(person: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"person must be .*{message}"):
        Options(person=person)


def test_who_never_comes_is_noted(tmp_path: Path) -> None:
    made, report = chosen(tmp_path, walk(), "9")
    assert not any(each.any() for each in made)
    assert any("was never seen" in note for note in report.notes)


def test_who_stays_while_another_is_away_needs_no_note(tmp_path: Path) -> None:
    frames = [draw(10 - 6 * n if n < 2 else 300, 100) for n in range(60)]
    assert not chosen(tmp_path, frames, "right")[1].notes


def test_a_time_that_is_not_converted_is_refused(tmp_path: Path) -> None:
    folder = save_images(tmp_path / "in", walk())
    for when, says, more in (("99", "ends", {}), ("0.1", "begins", {"start": 0.5})):
        with pytest.raises(ValueError, match=f"is converted {says}"):
            convert(folder, tmp_path / "out", Fake(0), person=f"20,30@{when}", **more)


@pytest.mark.parametrize("person", ["80,30", "80,30@0.2", "500,30"])
def test_a_point_at_nobody_says_where_people_are(tmp_path: Path, person: str) -> None:
    with pytest.raises(ValueError, match="nobody is there then; people are near "):
        chosen(tmp_path, walk(), person)
    assert {path.name for path in tmp_path.iterdir()} == {"in"}
