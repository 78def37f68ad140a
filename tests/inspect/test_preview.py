"""The contact sheet of `rematte preview`."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import Printed, Refused, Run, make_clip
from fakes import Fake, decode, names, open_image, save_images

from rematte.inspect.preview import source_picture
from rematte.matting.region import Region, Regions, Window
from rematte.video.frame import Frame
from rematte.video.sheet import GAP, draw_number


@pytest.fixture(autouse=True)
def network(fake: Fake, here: Path) -> Fake:
    """The network of every clip; commands run in a folder of their own."""
    return fake


@pytest.fixture
def clip(network: Fake) -> Path:
    """Two seconds: red without a person's absence, then black."""
    red, black = (np.zeros((48, 64, 3), np.uint8) for _ in range(2))
    red[..., 0] = 255
    frames = [red] * 25 + [black] * 25
    return make_clip(Path("in.mkv"), frames, codec="ffv1", pix_fmt="bgr0")


def test_rows_are_kinds_and_columns_moments(printed: Printed, clip: Path) -> None:
    words = ["preview", clip, "-o", "s.png", "--frames", "2", "--background", "blue"]
    out = printed(*words, "--json")
    assert json.loads(out)["times"] == [0.48, 1.48]
    picture = open_image(Path("s.png"))
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


def test_the_state_has_settled_each_time(run: Run, network: Fake, clip: Path) -> None:
    assert run("preview", clip, "-o", "s.png", "-q") == (0, "", "")
    assert (network.seen, network.fresh) == (4 * 11, 4)


def test_people_have_the_numbers_of_a_conversion(
    run: Run, printed: Printed, network: Fake
) -> None:
    network.memory = 0
    frames = []
    for n in range(24):  # 1 walks past 2, whose colour is another
        frame = np.zeros((48, 96, 3), np.uint8)
        frame[8:40, 4 + 3 * n : 14 + 3 * n] = 255, 140, 0
        frame[9:41, 80 - 3 * n : 90 - 3 * n] = 255, 0, 160
        frames.append(frame)
    clip = make_clip(Path("in.mkv"), frames, codec="ffv1", pix_fmt="bgr0")
    words = ["preview", clip, "-o", "s.png", "--frames", "2", "--json"]
    out = printed(*words, "--people", "--downsample-ratio", "1")
    report = json.loads(out)
    picture = open_image(Path("s.png"))
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
    words = ["convert", clip, "--alpha", "o.mkv", "--person", "2", "-q"]
    assert run(*words, "--downsample-ratio", "1")[0] == 0
    last = decode(Path("o.mkv"))[-1][..., 0]
    assert last[20, 80 - 69 + 5] > 250
    assert last[20, 4 + 69 + 5] < 5


def test_quality_decides_what_the_network_sees(printed: Printed) -> None:
    clip = make_clip(Path("in.mkv"), [np.zeros((600, 2048, 3), np.uint8)] * 2)
    words = ["preview", clip, "-o", "s.png", "-y", "--json", "--frames", "1"]
    for quality, ratio in (("balanced", 0.25), ("best", 0.5)):
        out = printed(*words, "--region", "full", "--quality", quality)
        assert json.loads(out)["downsample_ratio"] == ratio


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("sheet.mp4", 2, "a contact sheet is one image"),
        ("sheet", 2, "a contact sheet is one image"),
        ("in.mkv", 2, "a contact sheet is one image"),
        ("none/sheet.png", 1, "does not exist"),
        ("there.jpg", 1, "exists; pass overwrite (-y)"),
        ("s.png --background red --background-fit contain", 2, "has no effect here"),
        ("s.png", 1, "the fake network broke"),
    ],
)
def test_what_is_refused_leaves_nothing_and_spares_what_is_there(
    words: str, code: int, said: str, refused: Refused, clip: Path, network: Fake
) -> None:
    network.fail_at = 15
    before = clip.read_bytes()
    Path("there.jpg").write_text("mine")
    assert said in refused(code, "preview", clip, "-o", *words.split())
    assert clip.read_bytes() == before
    assert Path("there.jpg").read_text() == "mine"
    assert names(Path()) == {"in.mkv", "there.jpg"}


def test_a_sheet_is_replaced_where_told_so(run: Run, clip: Path) -> None:
    Path("sheet.jpg").write_text("mine")
    assert run("preview", clip, "-o", "sheet.jpg", "-yq") == (0, "", "")
    assert open_image(Path("sheet.jpg")).shape[2] == 3


def test_the_input_is_not_overwritten(refused: Refused) -> None:
    image = save_images(Path("in"), [np.zeros((48, 64, 3), np.uint8)]) / "shot0.png"
    assert "the input itself" in refused(2, "preview", image, "-o", image, "-y")


def test_a_picture_is_fitted_behind(run: Run, clip: Path) -> None:
    behind = save_images(Path("behind"), [np.full((9, 16, 3), 80, np.uint8)])
    words = ["--background", behind / "shot0.png", "--background-fit", "contain"]
    assert run("preview", clip, "-o", "s.png", *words, "-q") == (0, "", "")


def test_numbers_are_drawn_within_the_picture() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    draw_number(picture, 17, (0, 0), 2)
    assert (picture[:14, :18] > 0).all()
    assert not picture[14:].any()
    assert not picture[:, 18:].any()
    small = np.zeros((6, 5, 3), np.uint8)
    draw_number(small, 123, (4, 4), 3)
    assert small.shape == (6, 5, 3)


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
