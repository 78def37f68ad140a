"""What is always and never cut out."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import make_clip
from fakes import Fake, convert, open_image, save_images
from numpy.typing import NDArray

from rematte.errors import InputError
from rematte.matting.masks import draw
from rematte.options import Options
from rematte.video.mask_spec import parse_masks

RED, GRAY = (255, 0, 0), (40, 90, 120)


def test_a_shape_covers_its_area_and_what_it_touches_in_part() -> None:
    box = draw([(1.5, 2), (4, 2), (4, 5.25), (1.5, 5.25)], 8, 8)
    assert box.sum() == pytest.approx(2.5 * 3.25)
    assert box[2].tolist() == [0, 0.5, 1, 1, 0, 0, 0, 0]
    assert box[5, 2] == pytest.approx(0.25)
    assert draw([(-5, -5), (20, -5), (20, 20), (-5, 20)], 4, 4).min() == 1
    assert draw([(9, 0), (20, 0), (20, 4), (9, 4)], 4, 8).max() == 0
    corners = [(0.0, 0.0), (8.0, 0.0), (0.0, 8.0)]
    assert draw(corners, 8, 8).sum() == pytest.approx(32, rel=0.02)
    assert np.array_equal(draw(corners[::-1], 8, 8), draw(corners, 8, 8))
    star = [(4 + 4 * np.sin(n * 0.8 * np.pi), 4 - 4 * np.cos(n * 0.8 * np.pi))
            for n in range(5)]  # fmt: skip
    assert draw(star, 8, 8)[4, 4] < 0.1  # inside twice


def test_a_shape_moves_evenly_and_holds_in_its_span() -> None:
    (moving,) = parse_masks("include", "0,0,2,2@1;10,0,4,2@3")
    assert moving.corners(Fraction(2)) == [(5, 0), (8, 0), (8, 2), (5, 2)]
    assert moving.corners(Fraction(0)) == moving.corners(Fraction(1))
    assert moving.corners(Fraction(9))[0] == (10, 0)
    spans = parse_masks("include", ["0,0,2,2@1-2", "0,0,2,2@1:00-", "0,0,2,2@-3"])
    for spec, holds in zip(spans, ("0100", "0001", "1110"), strict=True):
        times = (0, Fraction(3, 2), 2, 60)
        found = [spec.holds(Fraction(time)) for time in times]
        assert found == [each == "1" for each in holds]


@pytest.mark.parametrize(("given", "message"), [
    ("nothing.png", "neither a shape nor an existing file; it takes a picture"),
    *((text, "neither a shape") for text in ("1,2,3", "@1-2", "nan,0,10,10")),
    *((text, "neither a shape") for text in ("0,0,inf,10", "1,2,0,4")),
    ("points:nan,0 1,1 2,0", "neither a shape"),
    ("points:0,0 1,1", "neither a shape"),
    ("1,2,3,4@5", "'5' is not a span of time"),
    ("1,2,3,4@5-2", "ends before it begins"),
    ("1,2,3,4@2;1,2,3,4@1", "each time must be later"),
    ("1,2,3,4@1;points:0,0 1,1 2,0@2", "must keep its number of corners"),
    ("1,2,3,4@a-b", "must be seconds"),
])  # fmt: skip
def test_what_is_no_mask_is_refused(given: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"exclude.*{message}"):
        Options(exclude=[given])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three frames: gray, and a person at the right, whose alpha is their red."""
    frame = np.full((24, 32, 3), GRAY, np.uint8)
    frame[:, 20:] = RED
    return save_images(tmp_path / "in", [frame] * 3)


def cut_out(folder: Path, **options: object) -> list[NDArray[Any]]:
    """RGBA of each frame; the network's colours are 1 - the source's."""
    out = folder.parent / "out"
    convert(folder, out, Fake(0), frame_rate=1, **options)
    return [open_image(path) for path in sorted(out.iterdir())]


def test_what_is_included_shows_the_source_and_excluded_nothing(folder: Path) -> None:
    before = cut_out(folder)[0]
    made = cut_out(folder, include=["2,2,4,4", "4,4,4,4@1-"], exclude="24,0,8,8")
    assert (made[0][2:6, 2:6] == (*GRAY, 255)).all()
    assert (made[1][4:8, 4:8] == (*GRAY, 255)).all()
    assert (made[0][0:8, 24:] == 0).all()
    untouched = np.ones((24, 32), bool)
    for rows, columns in ((slice(2, 8), slice(2, 8)), (slice(0, 8), slice(24, 32))):
        untouched[rows, columns] = False
    assert np.array_equal(made[1][untouched], before[untouched])
    both = cut_out(folder, include="2,2,4,4", exclude="2,2,4,4")[0]
    assert (both[2:6, 2:6] == 0).all()


def test_an_included_place_may_lie_outside_of_the_region(folder: Path) -> None:
    made = cut_out(folder, region=(16, 0, 16, 24), include="0,0,4,4")[0]
    assert (made[:4, :4] == (*GRAY, 255)).all()
    assert (made[6:, :15] == 0).all()


@pytest.mark.parametrize(("mask", "why"), [
    ("40,0,4,4", "lies outside the frame, which is 32x24"),
    ("0,0,4,4@-1", "applies at no time that is converted"),
    ("0,0,4,4@3-", "applies at no time that is converted"),
    ("40,0,4,4@1;0,0,4,4@2", ""),
    ("0,0,4,4@2.5-", ""),
])  # fmt: skip
def test_a_mask_without_effect_is_noted(folder: Path, mask: str, why: str) -> None:
    report = convert(
        folder, folder.parent / "out", Fake(0), frame_rate=1, start=1, end=3,
        include=mask,
    )  # fmt: skip
    assert report.notes == ([f"include (--include) {mask} has no effect: it {why}"]
                            if why else [])  # fmt: skip


@pytest.mark.parametrize("kind", ["picture", "video", "sequence"])
def test_a_file_is_a_mask_at_its_own_times(folder: Path, kind: str) -> None:
    light = [np.zeros((12, 16, 3), np.uint8) for _ in range(3)]
    for index, each in enumerate(light):
        each[:6, : 4 * (1 if kind == "picture" else index)] = 255
    pictures = save_images(folder.parent / "mask", light)
    mask = {
        "picture": lambda: sorted(pictures.iterdir())[0],
        "sequence": lambda: pictures,
        "video": lambda: make_clip(
            folder.parent / "mask.mkv", light, rate=1, codec="ffv1", pix_fmt="bgr0"
        ),
    }[kind]()
    made = cut_out(folder, include=mask)
    for index, each in enumerate(made):
        wide = 8 * (1 if kind == "picture" else index)  # twice as large as the mask
        assert (each[:10, : max(0, wide - 2), 3] == 255).all()
        assert (each[14:, :18, 3] < 255).all()
        assert (each[:10, wide + 2 : 18, 3] < 255).all()


def test_a_file_that_is_no_picture_is_named(folder: Path) -> None:
    (broken := folder.parent / "mask.png").write_text("no picture")
    with pytest.raises(InputError, match=r"mask\.png"):
        cut_out(folder, exclude=broken)
