"""The contact sheet of `rematte preview`."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, make_clip
from fakes import Fake, open_image, save_images

from rematte.inspect.preview import source_picture
from rematte.matting.region import Region, Regions, Window
from rematte.video.frame import Frame
from rematte.video.pixels import resize
from rematte.video.reader import VideoReader
from rematte.video.sheet import GAP, draw_number, make_sheet, on_squares


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds: red without a person's absence, then black."""
    red, black = (np.zeros((48, 64, 3), np.uint8) for _ in range(2))
    red[..., 0] = 255
    frames = [red] * 25 + [black] * 25
    return make_clip(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt="bgr0")


def test_rows_are_kinds_and_columns_moments(
    run: Run, fake: Fake, clip: Path, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    words = ["preview", clip, "-o", sheet, "--frames", "2", "--background", "blue"]
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["times"] == [0.48, 1.48]
    picture = open_image(sheet)
    assert picture.shape == (GAP + 4 * (48 + GAP), GAP + 2 * (64 + GAP), 3)
    middle = picture[GAP + 24 :: 48 + GAP, GAP + 32 :: 64 + GAP].astype(int)
    # Alpha is red's running mean; the foreground of the fake is the frame inverted.
    expected = [
        [(255, 0, 0), (0, 0, 0)],
        [(255, 255, 255), (0, 0, 0)],
        [(0, 255, 255), None],
        [(0, 255, 255), (0, 71, 187)],
    ]
    for row, colours in zip(middle, expected, strict=True):
        for pixel, colour in zip(row, colours, strict=True):
            if colour is None:  # squares
                assert pixel[0] in (205, 235)
            else:
                assert np.abs(pixel - colour).max() <= 2


def test_the_state_has_settled_at_each_moment(
    run: Run, fake: Fake, clip: Path, tmp_path: Path
) -> None:
    assert run("preview", clip, "-o", tmp_path / "s.png", "-q") == (0, "", "")
    assert fake.seen == 4 * 11
    assert fake.fresh == 4


def test_people_have_the_numbers_that_a_conversion_gives_them(
    run: Run, fake: Fake, tmp_path: Path
) -> None:
    fake.memory = 0
    frames = []
    for n in range(24):  # 1 walks past 2, whose colour is another
        frame = np.zeros((48, 96, 3), np.uint8)
        frame[8:40, 4 + 3 * n : 14 + 3 * n] = 255, 140, 0
        frame[9:41, 80 - 3 * n : 90 - 3 * n] = 255, 0, 160
        frames.append(frame)
    clip = make_clip(tmp_path / "in.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    words = ["preview", clip, "-o", tmp_path / "s.png", "--frames", "2", "--json"]
    code, out, err = run(*words, "--people", "--downsample-ratio", "1")
    assert (code, err) == (0, "")
    report = json.loads(out)
    picture = open_image(tmp_path / "s.png")
    for column, time in enumerate(report["times"]):
        shown = frames[round(time * 25)]
        found = {p["number"]: p for p in report["people"] if p["time"] == time}
        assert sorted(found) == [1, 2]
        for number, colour in ((1, (255, 140, 0)), (2, (255, 0, 160))):
            x, y = found[number]["x"], found[number]["y"]
            assert tuple(shown[y, x]) == colour
            left = GAP + column * (96 + GAP)
            box = picture[GAP + y - 6 : GAP + y + 6, left + x - 4 : left + x + 4]
            assert (box == 20).all(2).any()  # the number's box
            assert (box == 255).all(2).any()  # and its digit
    out_file = tmp_path / "o.mkv"
    words = ["convert", clip, "--alpha", out_file, "--person", "2", "-q"]
    assert run(*words, "--downsample-ratio", "1")[0] == 0
    with VideoReader(out_file) as reader:
        last = list(reader)[-1].pixels[..., 0]
    assert last[20, 80 - 69 + 5] > 250
    assert last[20, 4 + 69 + 5] < 5


def test_quality_decides_what_the_network_sees(
    run: Run, fake: Fake, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mkv", [np.zeros((600, 2048, 3), np.uint8)] * 2)
    words = ["preview", clip, "-o", tmp_path / "s.png", "-y", "--json", "--frames", "1"]
    for quality, ratio in (("balanced", 0.25), ("best", 0.5)):
        code, out, _ = run(*words, "--region", "full", "--quality", quality)
        assert (code, json.loads(out)["downsample_ratio"]) == (0, ratio)


def test_numbers_are_drawn_within_the_picture() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    draw_number(picture, 17, (0, 0), 2)
    assert (picture[:14, :18] > 0).all()
    assert not picture[14:].any()
    assert not picture[:, 18:].any()
    small = np.zeros((6, 5, 3), np.uint8)
    draw_number(small, 123, (4, 4), 3)
    assert small.shape == (6, 5, 3)


def test_a_sheet_is_an_image_and_spares_what_is_there(
    run: Run, fake: Fake, clip: Path, tmp_path: Path
) -> None:
    before = clip.read_bytes()
    for name, code, text in (
        ("sheet.mp4", 2, "a contact sheet is one image"),
        ("sheet", 2, "a contact sheet is one image"),
        ("none/sheet.png", 1, "does not exist"),
        ("in.mkv", 2, "a contact sheet is one image"),
    ):
        found, out, err = run("preview", clip, "-o", tmp_path / name)
        assert (found, out) == (code, ""), err
        assert text in err
    (tmp_path / "sheet.jpg").write_text("mine")
    code, _, err = run("preview", clip, "-o", tmp_path / "sheet.jpg")
    assert (code, "exists; pass overwrite (-y)" in err) == (1, True)
    assert run("preview", clip, "-o", tmp_path / "sheet.jpg", "-yq") == (0, "", "")
    assert open_image(tmp_path / "sheet.jpg").shape[2] == 3
    assert clip.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"in.mkv", "sheet.jpg"}


def test_the_input_is_not_overwritten(run: Run, fake: Fake, tmp_path: Path) -> None:
    folder = save_images(tmp_path / "in", [np.zeros((48, 64, 3), np.uint8)])
    image = folder / "shot0.png"
    code, _, err = run("preview", image, "-o", image, "-y")
    assert (code, "the input itself" in err) == (2, True)


def test_a_fit_needs_a_picture(
    run: Run, fake: Fake, clip: Path, tmp_path: Path
) -> None:
    words = ["preview", clip, "-o", tmp_path / "s.png", "--background-fit", "contain"]
    code, out, err = run(*words, "--background", "red")
    assert (code, out) == (2, "")
    assert "(--background-fit) contain has no effect here" in err
    save_images(tmp_path / "behind", [np.full((9, 16, 3), 80, np.uint8)])
    image = tmp_path / "behind/shot0.png"
    assert run(*words, "--background", image, "-q") == (0, "", "")


def test_an_error_leaves_nothing(
    run: Run, fake: Fake, clip: Path, tmp_path: Path
) -> None:
    fake.fail_at = 15
    code, out, _ = run("preview", clip, "-o", tmp_path / "s.png")
    assert (code, out) == (1, "")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_windows_are_drawn_on_the_source_alone() -> None:
    flat = np.full((60, 80, 3), 100, np.uint8)
    frame = Frame(flat, Fraction(0), Fraction(1))
    assert (source_picture(frame, None) == flat).all()
    windows = Window(10, 20, (10, 20, 42, 52)), Window(-8, 40, (0, 40, 24, 60))
    regions = Regions((60, 80), (Region(windows=windows, size=(32, 32)),))
    drawn = source_picture(frame, regions)
    assert (flat == 100).all()
    changed = (drawn != 100).any(2)
    for y, x in ((20, 10), (51, 41), (35, 10), (40, 0), (59, 23)):
        assert changed[y, x]
    assert not changed[25, 15]
    assert not changed[10].any()
    other = Frame(flat[:50], Fraction(0), Fraction(1))  # which is seen whole
    assert (source_picture(other, regions) == 100).all()


def test_pictures_of_a_sheet_keep_their_levels() -> None:
    flat = np.full((30, 40, 3), 100, np.uint8)
    assert (resize(flat, 20, 15) == 100).all()
    sheet = make_sheet([[flat, flat], [flat[..., :1], flat]], 60)
    width = (60 - GAP) // 2 - GAP
    assert sheet.shape[1] == GAP + 2 * (width + GAP)
    assert (sheet[GAP + 2, GAP + 2] == 100).all()
    clear = np.zeros((30, 40, 4), np.uint8)
    assert set(np.unique(on_squares(clear))) == {205, 235}
