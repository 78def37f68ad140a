"""What laying a foreground over a background promises."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_clip, read_label
from fakes import as_frames, colours
from numpy.typing import NDArray
from torch import Tensor

from rematte.engines.tensors import TensorMatted, to_pixels, to_tensor
from rematte.matting.background import (
    Background,
    Renderer,
    fit_picture,
    make_background,
    parse_colour,
)
from rematte.matting.finish import Finish
from rematte.matting.matte import Plate
from rematte.matting.person import Person
from rematte.video.pixels import with_depth

STEP = Fraction(1, 25)


def matted_from(
    pixels: NDArray[np.uint8],
    alpha: Tensor | None = None,
    time: Fraction = Fraction(0),
    dtype: torch.dtype = torch.float32,
) -> TensorMatted:
    src = to_tensor(pixels, "cpu", dtype)
    pha = torch.zeros_like(src[:1]) if alpha is None else alpha.to(dtype)
    (frame,) = as_frames([pixels])
    return TensorMatted(replace(frame, time=time), src, src, pha)


def shown(background: Background, matted: TensorMatted) -> NDArray[Any]:
    """The background in a frame, as 8-bit pixels."""
    plate = background(matted).pixels(False)
    return np.broadcast_to(plate, matted.frame.pixels.shape)


@pytest.mark.parametrize(("kind", "dtype"), [
    (np.uint8, torch.float32), (np.uint16, torch.float32), (np.uint8, torch.half),
])  # fmt: skip
def test_every_code_survives_the_network(kind: type[Any], dtype: torch.dtype) -> None:
    codes = np.arange(np.iinfo(kind).max + 1, dtype=kind).reshape(-1, 256, 1)
    again = to_pixels(to_tensor(codes, "cpu", dtype), kind is np.uint16)
    assert np.array_equal(again, codes)


@pytest.mark.parametrize(("text", "colour"), [
    ("green", (120, 255, 155)),
    ("White", (255, 255, 255)),
    ("#0a1B2c", (10, 27, 44)),
    ("1,2,3", (1, 2, 3)),
    ("255, 0, 7", (255, 0, 7)),
    *((text, None) for text in ("300,0,0", "-1,0,0", "1,2", "1,2,3,4", "#12345")),
    *((text, None) for text in ("#gggggg", "beach.jpg", "")),
])  # fmt: skip
def test_colours_are_read(text: str, colour: tuple[int, int, int] | None) -> None:
    assert parse_colour(text) == colour


def ramp(width: int, height: int) -> NDArray[np.uint16]:
    """Red grows to the right and green downwards; blue is full."""
    y, x = np.mgrid[:height, :width]
    shares = (x + 0.5) / width, (y + 0.5) / height, np.ones((height, width))
    return np.round(np.stack(shares, 2) * 65535).astype(np.uint16)


def fitted(picture: NDArray[np.uint16], *size: int, fit: str) -> NDArray[np.float64]:
    """A picture at a size, in [0, 1]; with 8 bits it is the same within a level."""
    height, width = size
    made = fit_picture(picture, (height, width), fit)
    small = fit_picture(with_depth(picture, False), (height, width), fit)
    assert np.abs(small - made / 257).max() <= 1.01
    return made / 65535


def test_stretch_shows_all_of_a_picture() -> None:
    image = fitted(ramp(64, 32), 20, 80, fit="stretch")
    np.testing.assert_allclose(image, ramp(80, 20) / 65535, atol=0.02, rtol=0)


def test_cover_cuts_both_sides_off_alike() -> None:
    image = fitted(ramp(64, 32), 40, 40, fit="cover")
    assert image.shape == (40, 40, 3)
    # The middle half of the width, and all of the height.
    true = ramp(40, 40) / 65535
    np.testing.assert_allclose(image[..., 0], 0.25 + true[..., 0] / 2, atol=0.02)
    np.testing.assert_allclose(image[..., 1], true[..., 1], atol=0.02)
    assert image[..., 2].min() == 1


def test_contain_shows_all_between_black_bars() -> None:
    image = fitted(ramp(64, 32), 40, 40, fit="contain")
    assert image.shape == (40, 40, 3)
    assert image[:10].max() == image[30:].max() == 0
    np.testing.assert_allclose(image[10:30], ramp(40, 20) / 65535, atol=0.03)


@pytest.mark.parametrize("fit", ["cover", "contain", "stretch"])
@pytest.mark.parametrize("size", [(1, 1), (3, 17), (1000, 1), (33, 7)])
def test_pictures_fit_any_frame(fit: str, size: tuple[int, int]) -> None:
    for width, height in ((64, 32), (1, 50), (7, 1)):
        assert fit_picture(ramp(width, height), size, fit).shape == (*size, 3)


def person_before(room: NDArray[np.uint8]) -> tuple[TensorMatted, NDArray[np.bool_]]:
    """A frame with a magenta person of alpha 1 in its middle, and where that is."""
    pixels = room.copy()
    height, width = pixels.shape[:2]
    inside = np.zeros((height, width), bool)
    inside[height // 4 : -height // 4, width // 3 : -width // 3] = True
    pixels[inside] = (255, 0, 255)
    return matted_from(pixels, torch.from_numpy(inside)[None].float()), inside


def blurred(what: str, matted: TensorMatted) -> NDArray[np.float64]:
    return make_background(what)(matted).pixels(True) / 65535


@pytest.mark.parametrize("what", ["blur", "blur:1", "blur:2.5", "blur:6", "blur:40"])
def test_blur_leaves_no_halo_and_keeps_a_plain_background_plain(what: str) -> None:
    plain = np.full((90, 120, 3), (40, 120, 60), np.uint8)
    matted, person = person_before(plain)
    image = blurred(what, matted)
    assert np.abs(image[~person] - np.array([40, 120, 60]) / 255).max() < 0.5 / 255


@pytest.mark.parametrize("soft", [2, 8, 20])
def test_blur_keeps_colours_of_soft_edges_out(soft: int) -> None:
    """Alpha may miss two pixels of the person, as the network's does at hair."""
    y, x = np.mgrid[:180, :240]
    off = np.hypot(x - 120, y - 90) - 50
    true, found = (np.clip(0.5 - (off + n) / soft, 0, 1)[..., None] for n in (0, 2))
    pixels = true * (255, 0, 0) + (1 - true) * (0, 90, 140)
    matted = matted_from(
        np.round(pixels).astype(np.uint8), torch.from_numpy(found[None, ..., 0]).float()
    )
    for radius in (4, 12):
        image = blurred(f"blur:{radius}", matted)[true[..., 0] < 0.02]
        assert np.abs(image * 255 - (0, 90, 140)).max() < 1


def test_who_is_not_cut_out_is_blurred_with_the_room() -> None:
    room = np.full((90, 120, 3), (40, 120, 60), np.uint8)
    room[30:60, 20:40] = 200, 30, 160
    room[30:60, 80:100] = 210, 120, 10
    found = (room[..., 0] > 100).astype(np.float32)
    matted = matted_from(room, torch.from_numpy(found)[None])
    finish = Finish(chosen=Person("left"))
    draw = Renderer("output", True, make_background("blur:3"), finish=finish)
    image = draw(matted).astype(float) / 257
    assert np.abs(image[45, 90] - (210, 120, 10)).max() < 12
    assert np.abs(image[45, 30] - room[45, 30]).max() < 1


def test_blur_takes_detail_away() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    noise[..., 0] = 0
    matted, person = person_before(noise)
    image = blurred("blur:5", matted)[~person]
    assert image[:, 0].max() < 1 / 255  # nothing of the person's red
    assert image[:, 1].std() < (noise[~person] / 255)[:, 1].std() / 5


def test_blur_with_nothing_but_the_person() -> None:
    matted = matted_from(colours(1)[0], torch.ones(1, 24, 32))
    assert blurred("blur", matted).shape == (24, 32, 3)


def black(height: int, width: int) -> NDArray[np.uint8]:
    return np.zeros((height, width, 3), np.uint8)


@pytest.mark.parametrize(("count", "rate"), [(6, 10), (6, 25), (6, 50), (1, 25)])
@pytest.mark.parametrize("origin", [Fraction(0), Fraction(7, 2)])
def test_video_plays_behind_at_its_own_speed_over_and_over(
    tmp_path: Path, count: int, rate: int, origin: Fraction
) -> None:
    """After a gap, too."""
    clip = make_clip(tmp_path / "behind.mp4", count, rate=rate, size=(32, 24))
    background = make_background(clip)
    for index in (*range(40), 53, 90):
        matted = matted_from(black(24, 32), time=origin + index * STEP)
        found = read_label(shown(background, matted))
        assert found == int(index * STEP * rate) % count


def test_video_behind_fits_frames_of_every_size(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "behind.mp4", 2, rate=1, size=(32, 24))
    background = make_background(clip)
    for size in ((24, 32), (10, 10), (50, 7)):
        assert shown(background, matted_from(black(*size))).shape == (*size, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_backgrounds_are_laid_in_the_network_s_precision(dtype: torch.dtype) -> None:
    matted = matted_from(colours(1, (20, 30))[0], dtype=dtype)
    picture = colours(1, (20, 30))[0][:, ::-1].copy()
    step = 257 if dtype == torch.float16 else 600  # of 16-bit codes near white
    for wide, most in ((False, 1 if dtype == torch.float16 else 2), (True, step)):
        over = matted.pixels("composite", wide, Plate(picture))
        expected = with_depth(picture, wide).astype(int)
        assert np.abs(over - expected).max() <= most


@pytest.mark.parametrize(
    "spec", ["greenish", "300,0,0", "blur:x", "blur:0", "blur:-3", "blur:nan", "blur:",
             (0, 256, 0), (-1, 0, 0), (1, 2)],
)  # fmt: skip
def test_other_backgrounds_are_refused_before_any_work(spec: Any) -> None:
    with pytest.raises(ValueError, match="background"):
        make_background(spec)
    with pytest.raises(ValueError, match=r"background_fit must be one of .*'zoom'"):
        make_background("green", "zoom")
