"""Pictures of another shape in the size that was asked for."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import make_clip
from fakes import as_frames, convert, save_images

from rematte.video.fitting import Upright, place
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

WIDE = np.full((60, 120, 3), (200, 40, 90), np.uint8)
WIDE[:, :30] = (10, 220, 30)


def first(path: Path, **options: Any) -> Any:
    with VideoReader(path, ReadOptions(**options)) as reader:
        return next(iter(reader)), reader.info


@pytest.fixture(params=["in.mkv", "pictures"])
def wide(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    if path.suffix:
        make_clip(path, [WIDE] * 2, codec="ffv1", pix_fmt="bgr0")
    else:
        save_images(path, [WIDE] * 2)
    return path


def test_contain_shows_all_and_hides_the_bars(wide: Path) -> None:
    frame, info = first(wide, size=(80, 80), fit="contain")
    assert (info.width, info.height) == (80, 80)
    assert frame.pixels.shape == (80, 80, 3)
    np.testing.assert_array_equal(frame.alpha[:20], 0)
    np.testing.assert_array_equal(frame.alpha[60:], 0)
    np.testing.assert_array_equal(frame.alpha[20:60], 255)
    np.testing.assert_array_equal(frame.pixels[0], frame.pixels[20])  # no black bar
    assert abs(int(frame.pixels[40, 5, 1]) - 220) <= 2


def test_cover_cuts_both_sides_alike(wide: Path) -> None:
    frame, _ = first(wide, size=(40, 40), fit="cover")
    assert frame.alpha is None
    assert frame.pixels.shape == (40, 40, 3)
    assert frame.pixels[20, :, 1].max() < 60  # the stripe is cut off
    assert abs(int(frame.pixels[20, -1, 1]) - 40) <= 2


def test_stretch_is_what_python_does_unless_asked(wide: Path) -> None:
    plain, _ = first(wide, size=(80, 80))
    asked, _ = first(wide, size=(80, 80), fit="stretch")
    assert plain.alpha is None
    np.testing.assert_array_equal(plain.pixels, asked.pixels)


@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(4, 3), Fraction(2, 3)])
def test_pixels_that_are_not_square_become_so(aspect: Fraction, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", [WIDE] * 2, aspect=aspect)
    frame, info = first(clip, size=(200, 200), fit="contain")
    assert info.sample_aspect_ratio == 1
    rows, columns = np.nonzero(frame.alpha[..., 0])
    shown = (np.ptp(columns) + 1) / (np.ptp(rows) + 1)
    assert shown == pytest.approx(float(2 * aspect), rel=0.02)


def test_a_pixel_or_two_are_no_bar() -> None:
    for picture, frame in [((1920, 1080), (854, 480)), ((1920, 1080), (1280, 720))]:
        upright = Upright(av.VideoFrame(*picture, "yuv420p"))
        assert upright.scaled_size(picture, frame, "contain") == frame


def test_bars_are_transparent_or_background(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", [WIDE] * 2, codec="ffv1", pix_fmt="bgr0")
    report = convert(
        clip, input_resize=(80, 80), fit="contain",
        output=tmp_path / "o.mkv", output_composition=tmp_path / "c.mkv",
        output_alpha=tmp_path / "a.mkv", background="white",
    )  # fmt: skip
    cut, _ = first(tmp_path / "o.mkv", alpha=True)
    assert cut.pixels.shape[:2] == (report.height, report.width) == (80, 80)
    assert not cut.pixels[:20].any()
    assert cut.pixels[40, :, 3].any()
    over, _ = first(tmp_path / "c.mkv")
    np.testing.assert_array_equal(over.pixels[:20], 255)
    alpha, _ = first(tmp_path / "a.mkv")
    assert not alpha.pixels[60:].any()


def test_an_own_alpha_stays_what_it_is() -> None:
    (frame,) = as_frames([np.full((4, 8, 3), 9, np.uint16)])
    assert place(frame, (8, 8)).alpha.max() == 65535
    own = replace(frame, alpha=np.full((4, 8, 1), 77, np.uint16))
    assert set(np.unique(place(own, (8, 8)).alpha)) == {0, 77}
