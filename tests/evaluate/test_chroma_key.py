"""The key, on green screens whose alpha is known because the test draws them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Refused, Run, draw_disc, make_clip
from numpy.typing import NDArray

from rematte.evaluate.chroma_key import ColourDifferenceKey
from rematte.evaluate.dataset import Source, read_mattes

GREEN, BLUE = (30, 190, 70), (20, 60, 200)
GRAY, SKIN = (120, 120, 120), (210, 150, 120)


def screen(
    colour: Sequence[int], back: Sequence[int], noise: float = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """A moving disc (1, T, 3, H, W) before a screen, and its alpha (1, T, 1, H, W)."""
    alpha = np.stack(draw_disc(4).alpha)[..., None] / 255
    mixed = alpha * np.array(colour) + (1 - alpha) * np.array(back)
    mixed += np.random.default_rng(0).normal(0, noise, mixed.shape)
    pixels = torch.from_numpy(mixed.clip(0, 255)).float() / 255
    return pixels.movedim(-1, -3)[None], torch.from_numpy(alpha).movedim(-1, -3)[None]


@pytest.mark.parametrize(("name", "back"), [("green", GREEN), ("blue", BLUE)])
def test_gray_things_are_keyed_exactly(name: str, back: Sequence[int]) -> None:
    src, alpha = screen(GRAY, back)
    fgr, pha = ColourDifferenceKey(name, low=0, high=1)(src)[:2]
    assert (pha - alpha).abs().max() < 1e-5
    seen = (alpha > 0.05).expand_as(fgr)
    assert (fgr[seen] * 255 - 120).abs().max() < 0.5


def test_a_person_is_keyed_closely_and_loses_the_green() -> None:
    src, alpha = screen(SKIN, GREEN)
    fgr, pha = ColourDifferenceKey(low=0, high=1)(src)[:2]
    assert (pha - alpha).abs().mean() < 0.01
    assert (pha - alpha).abs().max() < 0.25  # at the soft edge alone:
    assert pha[alpha == 1].min() == 1
    assert pha[alpha == 0].max() < 1e-5
    assert (fgr[:, :, 1] <= fgr[:, :, ::2].amax(2)).all()
    solid = (alpha == 1).expand_as(fgr)
    true = torch.tensor(SKIN).view(3, 1, 1).expand_as(fgr) / 255
    assert torch.allclose(fgr[solid], true[solid], atol=1e-5)


def test_levels_clean_a_noisy_screen() -> None:
    src, alpha = screen(SKIN, GREEN, noise=2)
    raw = ColourDifferenceKey(low=0, high=1)(src)[1]
    clean = ColourDifferenceKey(low=0.1, high=0.9)(src)[1]
    assert raw[alpha == 0].max() > 0
    assert clean[alpha == 0].max() == 0
    assert clean[alpha == 1].min() == 1


def test_a_given_colour_is_taken_and_the_measured_one_kept() -> None:
    src, _ = screen(GRAY, GREEN)
    unit = (GREEN[0] / 255, GREEN[1] / 255, GREEN[2] / 255)
    key = ColourDifferenceKey()
    measured = key(src)
    given = ColourDifferenceKey(colour=unit)(src)
    assert torch.allclose(measured[1], given[1], atol=1e-6)
    # Later frames with no screen in sight are keyed by the first frame's.
    gray = torch.full_like(src, 0.4)
    assert (key(gray, *measured[2:], 1.0)[1] == 1).all()


def test_chunks_are_single_frames() -> None:
    src, _ = screen(SKIN, GREEN, noise=3)
    key = ColourDifferenceKey()
    whole = key(src)[1]
    state: list[torch.Tensor | None] = [None] * 4
    for index in range(src.shape[1]):
        _, pha, *state = key(src[:, index : index + 1], *state, 1.0)
        assert torch.equal(pha[:, 0], whole[:, index])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"screen": "red"}, "green or blue"),
        ({"low": 0.5, "high": 0.5}, "low < high"),
        ({"high": 1.5}, "low < high"),
        ({"colour": (0.5, 0.5, 0.5)}, "no green screen"),
        ({"screen": "blue", "colour": (0.1, 0.8, 0.3)}, "no blue screen"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ColourDifferenceKey(**arguments)  # type: ignore[arg-type]


def frames(back: Sequence[int]) -> tuple[list[NDArray[np.uint8]], np.ndarray]:
    src, alpha = screen(GRAY, back)
    pixels = (src[0].movedim(1, -1) * 255).round().to(torch.uint8).numpy()
    return list(pixels), alpha[0, :, 0].numpy()


def test_the_key_command(tmp_path: Path, run: Run) -> None:
    pictures, alpha = frames(GREEN)
    options = {"codec": "ffv1", "pix_fmt": "bgr0"}
    clip = make_clip(tmp_path / "in.mkv", pictures, sound=True, **options)
    out = tmp_path / "out.mkv"
    words = ["key", clip, "-o", out, "--low", "0", "--high", "1"]
    assert run(*words)[1].startswith("4 frames of 96x64")
    for matte, true in zip(read_mattes(Source(out)), alpha, strict=True):
        assert np.abs(matte.alpha - true).max() < 0.02  # of 8-bit screen colours
    assert run(*words, "-y", "--screen-colour", "#1ebe46", "--quiet") == (0, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [("--screen blue", "no blue screen"), ("--screen-colour fresh", "--screen-colour"),
     ("--low 2", "low")],
)  # fmt: skip
def test_errors_are_one_line(
    tmp_path: Path, refused: Refused, words: str, said: str
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames(GREEN)[0])
    out = tmp_path / "out.mkv"
    assert said in refused(2, "key", clip, "-o", out, *words.split())
    assert not out.exists()


def test_a_yellow_wall_is_no_green_screen() -> None:
    """It is a little greener than red in some places, so that alpha would be noise."""
    wall = torch.tensor([0.70, 0.76, 0.08])[:, None, None].repeat(1, 40, 60)
    wall[0, :, 10:] += 0.08  # uneven light
    with pytest.raises(ValueError, match="no green screen: in 99% of the first frame"):
        ColourDifferenceKey()(wall[None, None])
