"""What finishing mattes promises, for every kind of output."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run, make_clip
from fakes import Fake, colours
from numpy.typing import NDArray

from rematte.conversion import outputs
from rematte.engines.tensors import TensorMatted, to_tensor
from rematte.matting.background import Renderer, make_background
from rematte.matting.finish import Finish
from rematte.matting.matte import Matted
from rematte.options import Options
from rematte.video.frame import Colour, Frame

Array = NDArray[Any]
HLG = Colour(9, 1, 9, 18)
KINDS = ("alpha", "foreground", "composition", "cutout")


def frame_of(alpha: Array, kind: Any = np.uint8) -> tuple[Frame, Array]:
    """A red person of some alpha before a green room, and the person's colour."""
    person, room = np.array([0.8, 0.3, 0.2]), np.array([0.1, 0.9, 0.3])
    shares = alpha[..., None]
    most = np.iinfo(kind).max
    picture = np.round((shares * person + (1 - shares) * room) * most)
    return Frame(picture.astype(kind), Fraction(0), Fraction(1, 25)), person


def disc() -> Array:
    v, u = np.mgrid[:80, :120]
    return np.clip((24 - np.hypot(v - 40, u - 60)) / 6 + 0.5, 0, 1)


def matted_of(frame: Frame, alpha: Array, from_maps: bool) -> Matted:
    maps = np.zeros((4, *alpha.shape), np.float32)
    maps[3] = alpha
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
    alpha = disc()
    frame, person = frame_of(alpha, np.uint16 if wide else np.uint8)
    matted, finish = matted_of(frame, alpha, from_maps), Finish(True)
    most = 65535 if wide else 255
    cutout = draw("cutout", finish, matted, wide) / most
    edge = (alpha > 0.05) & (alpha < 0.95)
    assert np.abs(cutout[..., :3] - person)[edge].mean() < 0.04
    foreground = draw("foreground", finish, matted, wide) / most
    assert np.array_equal(foreground[edge], cutout[edge][:, :3])
    shares = cutout[..., 3:]
    behind = np.array([0, 71, 187]) / 255
    over = shares * foreground + (1 - shares) * behind
    composite = draw("composition", finish, matted, wide) / most
    assert np.abs(composite - over).max() < 1.01 / most + 1 / 255 * (not wide)
    plain = draw("cutout", None, matted, wide) / most
    assert np.array_equal(plain[..., 3], cutout[..., 3])
    inside = alpha == 1
    assert np.abs(plain - cutout)[inside].max() <= 1 / most


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_asked_for_is_nothing_done(kind: str) -> None:
    alpha = disc()
    frame, _ = frame_of(alpha)
    ways = (None, Finish(), Finish(Options().edge_colour == "clean"))
    first, *others = (draw(kind, way, matted_of(frame, alpha, True)) for way in ways)
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("clean", [True, False])
def test_adjusted_outputs_agree(clean: bool) -> None:
    alpha = disc()
    frame, _ = frame_of(alpha)
    matted = matted_of(frame, alpha, True)
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
    over = shares * cutout[..., :3] + (1 - shares) * np.array([0, 71, 187])
    assert np.abs(draw("composition", finish, matted) - over).max() < 2
    if clean:  # what the matte grew over is the person's colour
        assert (cutout[seen][:, 0].astype(int) > cutout[seen][:, 1]).all()


def test_hidden_pixels_stay_hidden() -> None:
    alpha = disc()
    frame, _ = frame_of(alpha)
    own = np.full((*alpha.shape, 1), 255, np.uint8)
    own[:, 60:] = 0
    frame = Frame(frame.pixels, frame.time, frame.duration, alpha=own)
    for finish in (Finish(True), Finish(True, grow=6, feather=3, despill="blue")):
        cutout = draw("cutout", finish, matted_of(frame, alpha, True))
        assert not cutout[:, 60:].any()
        # Far from the person no background is left.
        assert not cutout[:, :20].any()


@pytest.mark.parametrize("grow", [0, 2])
def test_colours_that_are_not_sdr_are_cleaned_as_they_are(grow: int) -> None:
    alpha = disc()
    original, person = frame_of(alpha, np.uint16)
    shown, _ = frame_of(alpha, np.uint16)
    frame = Frame(shown.pixels, shown.time, shown.duration, original=original.pixels)
    matted = matted_of(frame, alpha, True)
    cutout = Renderer("output", True, colour=HLG, finish=Finish(True, grow=grow))(
        matted
    )
    edge = (alpha > 0.05) & (alpha < 0.95)
    assert np.abs(cutout[..., :3] / 65535 - person)[edge].mean() < 0.04
    inside = alpha == 1
    assert np.abs(cutout[..., :3] - original.pixels.astype(int))[inside].max() <= 257


def test_the_command_line_cleans_edges_and_the_api_does_not(
    run: Run, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Watched(Finish):
        def __init__(self, clean: bool, **rest: Any) -> None:
            seen.append(clean)
            super().__init__(clean, **rest)

    monkeypatch.setattr(outputs, "Finish", Watched)
    assert Options().edge_colour == "network"
    make_clip(tmp_path / "in.mp4", colours(2))
    words = ("convert", str(tmp_path / "in.mp4"), "-o", str(tmp_path / "o.mov"), "-q")
    assert run(*words)[0] == 0
    assert run(*words, "-y", "--edge-colour", "network")[0] == 0
    assert seen == [True, False]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"black_point": 0.6, "white_point": 0.5}, "black_point the smaller one"),
        ({"white_point": 1.5}, r"in \[0, 1\]"),
        ({"black_point": float("nan")}, r"in \[0, 1\]"),
        ({"grow": 33}, "grow must be -32 to 32 pixels, got 33"),
        ({"light_wrap": 1.5}, r"light_wrap must be in \[0, 1\], got 1.5"),
        ({"feather": -1}, "feather must be 0 to 32 pixels, got -1"),
        ({"feather": float("nan")}, "feather must be"),
        ({"edge_colour": "dirty"}, "edge_colour must be one of clean, network"),
        ({"despill": "red"}, "despill must be one of green, blue"),
    ],
)
def test_values_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**given)


def test_a_plate_and_a_cut_out_make_the_source_again(tmp_path: Path) -> None:
    alpha = disc()
    frame, _ = frame_of(alpha)
    matted = matted_of(frame, alpha, True)
    room, person = draw("plate", None, matted), draw("cutout", None, matted)
    assert np.array_equal(room[..., 3], 255 - person[..., 3])
    seen = room[..., 3] > 0
    assert np.array_equal(room[seen][:, :3], frame.pixels[seen])
    assert (room[~seen] == 0).all()


def test_a_plate_needs_a_format_with_alpha(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 2)
    code, _, error = run("convert", clip, "--plate", tmp_path / "p.mp4")
    assert code == 2
    assert "cannot be transparent where the person is" in error


@pytest.mark.parametrize("wide", [True, False])
def test_an_outline_is_an_even_line_in_all_outputs(wide: bool) -> None:
    alpha = disc()
    frame, _ = frame_of(alpha, np.uint16 if wide else np.uint8)
    most = 65535 if wide else 255
    for clean in (True, False):
        matted, finish = matted_of(frame, alpha, True), Finish(clean, outline=7)
        seen = draw("alpha", finish, matted, wide)[..., 0] / most
        cutout = draw("cutout", finish, matted, wide) / most
        assert np.array_equal(cutout[..., 3], seen)
        v, u = np.mgrid[:80, :120]
        off = np.hypot(v - 40, u - 60)
        # Alpha is a half at 24, and the line ends 7 pixels further out.
        assert (seen[off < 30] == 1).all()
        assert (seen[off > 33] == 0).all()
        line = (off > 27.5) & (off < 30)
        assert np.abs(cutout[line][:, :3] - 1).max() < 1.5 / 255
        inside = Finish(clean)
        plain = draw("cutout", inside, matted_of(frame, alpha, True), wide) / most
        assert np.abs(cutout - plain)[alpha == 1].max() <= 1 / most
        blue = np.array([0, 71, 187]) / 255
        over = cutout[..., :3] * seen[..., None] + blue * (1 - seen[..., None])
        made = draw("composition", finish, matted, wide) / most
        assert np.abs(made - over).max() < 1.5 / 255


def test_an_outline_has_a_colour_and_a_hole_of_its_shape() -> None:
    alpha = disc()
    frame, _ = frame_of(alpha)
    finish, matted = Finish(outline=5), matted_of(frame, alpha, True)
    red = Renderer("cutout", finish=finish, outline=(255, 0, 0))(matted)
    assert tuple(red[40, 60 + 27]) == (255, 0, 0, 255)
    room = Renderer("plate", finish=finish)(matted)
    assert (room[..., 3] == 255 - red[..., 3]).all()


@pytest.mark.parametrize("given", ["0", "33", "-2", "nan", "wide", "4:plaid", "4:"])
def test_invalid_outlines_are_refused(given: str) -> None:
    if given == "4:":  # white, as without
        assert outputs.parse_outline(given) == (4, (255, 255, 255))
        return
    with pytest.raises(ValueError, match=r"outline \(--outline\) must be a width"):
        outputs.parse_outline(given)


@pytest.mark.parametrize("wide", [True, False])
def test_light_wraps_around_edges_alone(wide: bool) -> None:
    alpha = disc()
    frame, _ = frame_of(alpha, np.uint16 if wide else np.uint8)
    most = 65535 if wide else 255
    made = {}
    for name in ("black", "white"):
        for amount in (0.0, 0.5, 1.0):
            draw = Renderer(
                "composition", wide, make_background(name),
                finish=Finish(True, light_wrap=amount),
            )  # fmt: skip
            made[name, amount] = draw(matted_of(frame, alpha, True)) / most
    # A dark background gives no light.
    assert np.abs(made["black", 1.0] - made["black", 0.0]).max() <= 1 / most
    plain, half, full = (made["white", amount] for amount in (0.0, 0.5, 1.0))
    v, u = np.mgrid[:80, :120]
    off = np.hypot(v - 40, u - 60)
    inside, edge = off < 14, (off > 22) & (off < 24)
    assert np.abs(full - plain)[inside | (alpha == 0)].max() <= 1 / most
    assert (full - plain).min() >= -1 / most
    # Green and blue, in which the person is dark.
    assert (full - plain)[edge][:, 1:].min() > 0.05
    np.testing.assert_allclose(half - plain, (full - plain) / 2, atol=1.01 / most)
    nearer = [(full - plain)[(off > r) & (off < r + 1), 1].mean() for r in (17, 19, 21)]
    assert nearer == sorted(nearer)
