"""What finishing mattes promises, for every kind of output."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_clip
from conftest import Refused, Run
from fakes import Fake, as_frames, convert, open_image
from numpy.typing import NDArray

from rematte.conversion import outputs
from rematte.engines.tensors import TensorMatted, to_tensor
from rematte.matting.background import Renderer, make_background
from rematte.matting.finish import Finish
from rematte.matting.matte import Matted
from rematte.options import Options
from rematte.video.frame import Colour

Array = NDArray[Any]
HLG = Colour(9, 1, 9, 18)
KINDS = ("alpha", "foreground", "composition", "cutout")
V, U = np.mgrid[:80, :120]
OFF = np.hypot(V - 40, U - 60)  # from the middle of the person [pixels]
ALPHA = np.clip((24 - OFF) / 6 + 0.5, 0, 1)
EDGE, INSIDE = (ALPHA > 0.05) & (ALPHA < 0.95), ALPHA == 1
PERSON, ROOM = np.array([0.8, 0.3, 0.2]), np.array([0.1, 0.9, 0.3])
BLUE = np.array([0, 71, 187])  # as `make_background("blue")`


def picture(wide: bool = False) -> Array:
    """A red person before a green room."""
    shares, most = ALPHA[..., None], 65535 if wide else 255
    mixed = np.round((shares * PERSON + (1 - shares) * ROOM) * most)
    return mixed.astype(np.uint16 if wide else np.uint8)


def matted_of(wide: bool = False, from_maps: bool = True, **changes: Any) -> Matted:
    """The picture and its alpha; nothing that was made of another one is kept."""
    frame = replace(as_frames([picture(wide)])[0], **changes)
    maps = np.zeros((4, *ALPHA.shape), np.float32)
    maps[3] = ALPHA
    if from_maps:
        return Matted(frame, maps)
    src = to_tensor(frame.pixels, "cpu", torch.float32)
    return TensorMatted(frame, src, src, torch.from_numpy(maps[3:]))


def draw(kind: str, finish: Finish | None, matted: Matted, wide: bool = False) -> Array:
    behind = make_background("blue") if kind == "composition" else None
    return Renderer(kind, wide, behind, finish=finish)(matted)


@pytest.mark.parametrize("from_maps", [True, False])
@pytest.mark.parametrize("wide", [True, False])
def test_edges_lose_the_room_and_all_outputs_agree(from_maps: bool, wide: bool) -> None:
    matted, finish = matted_of(wide, from_maps), Finish(True)
    most = 65535 if wide else 255
    cutout = draw("cutout", finish, matted, wide) / most
    assert np.abs(cutout[..., :3] - PERSON)[EDGE].mean() < 0.04
    foreground = draw("foreground", finish, matted, wide) / most
    assert np.array_equal(foreground[EDGE], cutout[EDGE][:, :3])
    shares = cutout[..., 3:]
    over = shares * foreground + (1 - shares) * BLUE / 255
    composite = draw("composition", finish, matted, wide) / most
    assert np.abs(composite - over).max() < 1.01 / most + 1 / 255 * (not wide)
    plain = draw("cutout", None, matted, wide) / most
    assert np.array_equal(plain[..., 3], cutout[..., 3])
    assert np.abs(plain - cutout)[INSIDE].max() <= 1 / most


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_asked_for_is_nothing_done(kind: str) -> None:
    ways = (None, Finish(), Finish(Options().edge_colour == "clean"))
    first, *others = (draw(kind, way, matted_of()) for way in ways)
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("clean", [True, False])
def test_adjusted_outputs_agree(clean: bool) -> None:
    matted = matted_of()
    finish = Finish(clean, 0.1, 0.9, 2.5, 1.0, "green")
    matte = draw("alpha", finish, matted)
    cutout = draw("cutout", finish, matted)
    assert np.array_equal(cutout[..., 3:], matte)
    assert (matte > draw("alpha", None, matted)).sum() > 100
    assert (cutout[..., 1] <= cutout[..., :3].max(-1)).all()
    foreground = draw("foreground", finish, matted)
    seen = matte[..., 0] > 0
    assert np.array_equal(foreground[seen], cutout[seen][:, :3])
    shares = cutout[..., 3:] / 255
    over = shares * cutout[..., :3] + (1 - shares) * BLUE
    assert np.abs(draw("composition", finish, matted) - over).max() < 2
    if clean:  # what the matte grew over is the person's colour
        assert (cutout[seen][:, 0].astype(int) > cutout[seen][:, 1]).all()


def test_hidden_pixels_stay_hidden() -> None:
    own = np.full((*ALPHA.shape, 1), 255, np.uint8)
    own[:, 60:] = 0
    for finish in (Finish(True), Finish(True, grow=6, feather=3, despill="blue")):
        cutout = draw("cutout", finish, matted_of(alpha=own))
        assert not cutout[:, 60:].any()
        # Far from the person no background is left.
        assert not cutout[:, :20].any()


@pytest.mark.parametrize("grow", [0, 2])
def test_colours_that_are_not_sdr_are_cleaned_as_they_are(grow: int) -> None:
    original = picture(True)
    draw = Renderer("output", True, colour=HLG, finish=Finish(True, grow=grow))
    cutout = draw(matted_of(True, original=original))
    assert np.abs(cutout[..., :3] / 65535 - PERSON)[EDGE].mean() < 0.04
    assert np.abs(cutout[..., :3] - original.astype(int))[INSIDE].max() <= 257


def test_only_the_command_cleans_edges(run: Run, fake: Fake, tmp_path: Path) -> None:
    fake.memory = 0
    clip = make_clip(tmp_path / "in.mkv", [picture()], codec="ffv1", pix_fmt="bgr0")
    made = {}
    for name in ("", "clean", "network"):
        words = ["--edge-colour", name] if name else []
        assert run("convert", clip, "-o", tmp_path / f"cut{name}", *words)[0] == 0
        made[name] = open_image(tmp_path / f"cut{name}" / "0000.png")
    convert(clip, tmp_path / "api", fake)
    assert np.array_equal(made[""], made["clean"])
    assert np.array_equal(open_image(tmp_path / "api/0000.png"), made["network"])
    assert not np.array_equal(made["clean"], made["network"])


@pytest.mark.parametrize(("given", "message"), [
    ({"black_point": 0.6, "white_point": 0.5}, "black_point the smaller one"),
    ({"white_point": 1.5}, r"in \[0, 1\]"),
    ({"black_point": float("nan")}, r"in \[0, 1\]"),
    ({"grow": 33}, "grow must be -32 to 32 pixels, got 33"),
    ({"light_wrap": 1.5}, r"light_wrap must be in \[0, 1\], got 1.5"),
    ({"feather": -1}, "feather must be 0 to 32 pixels, got -1"),
    ({"feather": float("nan")}, "feather must be"),
    ({"edge_colour": "dirty"}, "edge_colour must be one of clean, network"),
    ({"despill": "red"}, "despill must be one of green, blue"),
    ({"tone_map": "bright"}, "tone_map must be one of"),
])  # fmt: skip
def test_values_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**given)


def test_a_plate_and_a_cut_out_make_the_source_again() -> None:
    matted = matted_of()
    room, person = draw("plate", None, matted), draw("cutout", None, matted)
    assert np.array_equal(room[..., 3], 255 - person[..., 3])
    seen = room[..., 3] > 0
    assert np.array_equal(room[seen][:, :3], picture()[seen])
    assert (room[~seen] == 0).all()


def test_a_plate_needs_a_format_with_alpha(refused: Refused, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 2)
    line = refused(2, "convert", clip, "--plate", tmp_path / "p.mp4")
    assert "cannot be transparent where the person is" in line


@pytest.mark.parametrize("wide", [True, False])
def test_an_outline_is_an_even_line_in_all_outputs(wide: bool) -> None:
    most = 65535 if wide else 255
    for clean in (True, False):
        matted, finish = matted_of(wide), Finish(clean, outline=7)
        seen = draw("alpha", finish, matted, wide)[..., 0] / most
        cutout = draw("cutout", finish, matted, wide) / most
        assert np.array_equal(cutout[..., 3], seen)
        # Alpha is a half at 24, and the line ends 7 pixels further out.
        assert (seen[OFF < 30] == 1).all()
        assert (seen[OFF > 33] == 0).all()
        line = (OFF > 27.5) & (OFF < 30)
        assert np.abs(cutout[line][:, :3] - 1).max() < 1.5 / 255
        plain = draw("cutout", Finish(clean), matted_of(wide), wide) / most
        assert np.abs(cutout - plain)[INSIDE].max() <= 1 / most
        over = cutout[..., :3] * seen[..., None] + BLUE / 255 * (1 - seen[..., None])
        made = draw("composition", finish, matted, wide) / most
        assert np.abs(made - over).max() < 1.5 / 255


def test_an_outline_has_a_colour_and_a_hole_of_its_shape() -> None:
    finish, matted = Finish(outline=5), matted_of()
    red = Renderer("cutout", finish=finish, outline=(255, 0, 0))(matted)
    assert tuple(red[40, 60 + 27]) == (255, 0, 0, 255)
    room = Renderer("plate", finish=finish)(matted)
    assert (room[..., 3] == 255 - red[..., 3]).all()


@pytest.mark.parametrize("given", ["0", "33", "-2", "nan", "wide", "4:plaid"])
def test_invalid_outlines_are_refused(given: str) -> None:
    assert outputs.parse_outline("4:") == (4, (255, 255, 255))  # as without
    with pytest.raises(ValueError, match=r"outline \(--outline\) must be a width"):
        outputs.parse_outline(given)


@pytest.mark.parametrize("wide", [True, False])
def test_light_wraps_around_edges_alone(wide: bool) -> None:
    most, made = 65535 if wide else 255, {}
    for name in ("black", "white"):
        for amount in (0.0, 0.5, 1.0):
            finish = Finish(True, light_wrap=amount)
            draw = Renderer("composition", wide, make_background(name), finish=finish)
            made[name, amount] = draw(matted_of(wide)) / most
    # A dark background gives no light.
    assert np.abs(made["black", 1.0] - made["black", 0.0]).max() <= 1 / most
    plain, half, full = (made["white", amount] for amount in (0.0, 0.5, 1.0))
    inside, edge = OFF < 14, (OFF > 22) & (OFF < 24)
    assert np.abs(full - plain)[inside | (ALPHA == 0)].max() <= 1 / most
    assert (full - plain).min() >= -1 / most
    # Green and blue, in which the person is dark.
    assert (full - plain)[edge][:, 1:].min() > 0.05
    np.testing.assert_allclose(half - plain, (full - plain) / 2, atol=1.01 / most)
    nearer = [(full - plain)[(r < OFF) & (r + 1 > OFF), 1].mean() for r in (17, 19, 21)]
    assert nearer == sorted(nearer)
