"""Augmentation: whatever is varied, alpha stays that of the composite."""

from dataclasses import fields, replace
from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest
import torch
from conftest import draw_disc
from runs import rng
from torch import Tensor
from torch.nn import functional as F

from rematte.train import augment
from rematte.train.augment import Layers, composite, place, vary
from rematte.train.hair import add_hair
from rematte.train.recipe import NO_AUGMENT, Augment

SIZE = (48, 64)
PIXELWISE = {"colour", "grayscale", "noise", "sharpness"}
EVERY = [field.name for field in fields(Augment)]


def layers() -> Layers:
    """A disc (T, C, H, W) whose background and foreground both have a gradient."""
    disc = draw_disc(6)

    def stack(pictures: list[np.ndarray]) -> Tensor:
        x = torch.from_numpy(np.stack(pictures)).float() / 255
        return x.movedim(-1, 1) if x.dim() == 4 else x[:, None]

    bgr = stack([disc.background] * 6)
    return Layers(bgr.flip(3).roll(1, 1) + 0.2, stack(disc.alpha), bgr)


def varied(how: Augment, seed: int) -> tuple[Layers, Tensor]:
    draws = rng(seed)
    moved = vary(place(*layers(), SIZE, how, draws), how, draws)
    return moved, augment.finish(composite(moved), how, draws)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_keeps_alpha_consistent_with_the_composite(name: str, seed: int) -> None:
    how = replace(NO_AUGMENT, **{name: 1.0})
    moved, src = varied(how, seed)
    for part in (*moved, src):
        assert part.min() >= 0
        assert part.max() <= 1
    if name in PIXELWISE:
        still = place(*layers(), SIZE, how, rng(seed))
        assert torch.equal(moved.pha, still.pha)
        assert not torch.equal(moved.fgr, still.fgr)
    error = (src - composite(moved)).abs()
    if name == "jpeg":  # an artefact of the composite alone
        assert 0 < error.mean() < 0.1
    else:
        assert error.max() == 0
    # The truth is not only consistent but still that of the picture: what is opaque
    # shows the foreground, what is clear the background.
    opaque, clear = moved.pha > 0.999, moved.pha == 0
    limit = 0.6 if name == "jpeg" else 1e-2
    assert ((src - moved.fgr).abs() * opaque).max() <= limit
    assert ((src - moved.bgr).abs() * clear).max() <= limit


@pytest.mark.parametrize("seed", range(4))
def test_all_at_once_keep_the_law(seed: int) -> None:
    how = replace(Augment(*[1.0] * len(EVERY)), jpeg=0.0)
    moved, src = varied(how, seed)
    assert torch.equal(src, composite(moved))


def test_none_only_fits_the_size() -> None:
    whole = layers()
    same = place(*whole, (64, 96), NO_AUGMENT, rng())
    assert (composite(same) - composite(whole)).abs().max() < 1e-5


def test_motion_moves_colour_and_alpha_together() -> None:
    """A foreground that tells its place still does so after any motion."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    disc = layers().pha
    fgr = torch.stack([x / 96, y / 64, torch.zeros(64, 96)]).expand(6, -1, -1, -1)
    how = replace(NO_AUGMENT, motion=1.0)
    true = (fgr * disc)[:, :2].sum((2, 3)) / disc.sum((1, 2, 3))[:, None]
    seen = 0
    for seed in range(6):
        moved = place(fgr, disc, layers().bgr, (64, 96), how, rng(seed))
        where = moved.fgr * moved.pha  # red and green say where each pixel was
        centre = where[:, :2].sum((2, 3)) / moved.pha.sum((1, 2, 3))[:, None]
        inside = moved.pha[:, 0, [0, -1]].sum((1, 2)) + moved.pha[..., [0, -1]].sum(
            (1, 2, 3)
        )
        whole = inside == 0  # not cut by the frame
        seen += int(whole.sum())
        assert ((centre - true).abs() * whole[:, None]).max() < 0.005
    assert seen > 10


def test_people_far_away_are_smaller_and_stand_anywhere() -> None:
    fgr, pha, bgr = layers()
    whole = Layers(fgr, torch.ones_like(pha), bgr)
    drawn = {}
    for far in (0.0, 1.0):
        how = replace(NO_AUGMENT, motion=1e-9, far=far)
        drawn[far] = [place(*whole, SIZE, how, rng(seed)).pha for seed in range(30)]
    areas = [fmean(float(pha.mean()) for pha in drawn[far]) for far in (0.0, 1.0)]
    assert areas[1] < 0.9 * areas[0]
    assert all(pha[:, :, -2].max() > 0.5 for pha in drawn[0.0])
    assert not all(pha[:, :, -2].max() > 0.5 for pha in drawn[1.0])


def test_who_is_in_front_hides_who_is_behind() -> None:
    front = layers()
    behind = front._replace(fgr=front.fgr.flip(3), pha=front.pha.roll(20, 3))
    both = augment.before(front, behind)
    assert torch.allclose(
        composite(both), composite(front._replace(bgr=composite(behind))), atol=1e-6
    )
    assert (both.pha >= torch.maximum(front.pha, behind.pha) - 1e-6).all()


def test_blurring_both_is_blurring_the_composite() -> None:
    sharp = layers()
    sigmas = np.linspace(0.5, 3, 6)
    soft = augment.blur(sharp, sigmas, True, True)
    whole = Layers(sharp.fgr, sharp.pha, composite(sharp))
    alone = augment.blur(whole, sigmas, False, True)
    assert (composite(soft) - alone.bgr).abs().max() < 1e-5


def test_sharpness_ignores_what_alpha_hides() -> None:
    fgr = torch.zeros(1, 3, 9, 9)
    fgr[..., :5] = 0.5
    alpha = (fgr[:, :1] > 0).float()
    harsh = augment.sharpen(fgr, 8, alpha)[..., :5]
    assert torch.allclose(harsh, torch.full_like(harsh, 0.5), atol=1e-5)
    x = torch.rand(1, 3, 9, 9)
    assert torch.allclose(augment.sharpen(x, 1, torch.ones(1, 1, 9, 9)), x, atol=1e-6)


def test_colour_changes_are_affine_and_drift() -> None:
    matrices = augment.colour_matrices(rng(), 5)
    x, y = torch.full((5, 3, 1, 1), 0.4), torch.full((5, 3, 1, 1), 0.6)
    mid = (augment.recolour(x, matrices) + augment.recolour(y, matrices)) / 2
    assert torch.allclose(augment.recolour((x + y) / 2, matrices), mid, atol=1e-6)
    assert not np.allclose(matrices[0], matrices[-1])


def test_noise_is_new_in_each_frame() -> None:
    noise = augment.film_noise(rng(), torch.zeros(3, 3, 32, 32))
    assert noise.shape == (3, 3, 32, 32)
    assert not torch.equal(noise[0], noise[1])
    assert noise.abs().mean() > 0


def test_jpeg_worsens_with_lower_quality() -> None:
    x = torch.rand(2, 3, 32, 32)
    good, bad = augment.jpeg(x, 95), augment.jpeg(x, 20)
    assert (good - x).abs().mean() < (bad - x).abs().mean()


def test_frames_that_are_no_composite() -> None:
    x = torch.rand(3, 3, 32, 32)
    assert torch.equal(augment.vary_frames(x, NO_AUGMENT, rng()), x)
    every = augment.vary_frames(x, Augment(*[1.0] * len(EVERY)), rng())
    assert every.shape == x.shape
    assert not torch.equal(every, x)


def test_frame_order() -> None:
    assert augment.frame_order(rng(), 1, 4, Augment()) == [0, 0, 0, 0]
    plain = augment.frame_order(rng(), 100, 10, NO_AUGMENT)
    assert plain == list(range(plain[0], plain[0] + 10))
    turned = augment.frame_order(rng(), 4, 8, NO_AUGMENT)  # a short clip turns round
    assert set(turned) <= set(range(4))
    assert max(abs(a - b) for a, b in pairwise(turned)) == 1
    how = replace(NO_AUGMENT, time=1.0)
    orders = [augment.frame_order(rng(seed), 200, 8, how) for seed in range(40)]
    steps = [abs(order[-1] - order[0]) / 7 for order in orders]
    assert min(steps) < 1 < 3 < max(steps) <= 5
    assert any(order[0] > order[-1] for order in orders)
    assert all(0 <= at < 200 for order in orders for at in order)
    assert len({order[0] for order in orders}) > 20


def test_pause_goes_on_where_it_stopped() -> None:
    how = replace(NO_AUGMENT, pause=1.0)
    for seed in range(20):
        order = augment.pause(rng(seed), list(range(8)), how)
        assert len(order) == 8
        assert order[0] == 0
        assert {b - a for a, b in pairwise(order)} <= {0, 1}
        assert len(set(order)) < 8


def test_stripes_are_laid_over_a_picture() -> None:
    x = torch.full((2, 3, 40, 60), 0.5)
    assert torch.equal(augment.stripes(x, NO_AUGMENT, rng()), x)
    striped = augment.stripes(x, replace(NO_AUGMENT, stripes=1.0), rng())
    assert torch.equal(striped[0], striped[1])  # they stand, as the wall does
    assert 0 <= striped.min() < striped.max() <= 1
    changed = (striped != x).any(1).float().mean()
    assert 0.05 < changed < 0.95


# Drawn hair, whose alpha and colours are known exactly.
HAIR = torch.tensor([0.3, 0.2, 0.1])


def person() -> tuple[Tensor, Tensor]:
    """A head of hair over wide shoulders, and alpha."""
    places = torch.arange(200.0), torch.arange(120.0)
    rows, columns = torch.meshgrid(*places, indexing="ij")
    head = (rows - 40) ** 2 + (columns - 60) ** 2 < 14**2
    body = (rows > 52) & ((columns - 60).abs() < 35)
    pha = (head | body)[None].float()
    colour = torch.where(rows < 52, 0.0, 1.0)[None]
    return (1 - colour) * HAIR[:, None, None] + colour * 0.9, pha


@pytest.mark.parametrize("seed", range(4))
def test_strands_lie_around_the_head_in_its_colour(seed: int) -> None:
    fgr, pha = person()
    colour, alpha = add_hair(fgr, pha, rng(seed))
    assert alpha.shape[1] > pha.shape[1]
    scale = 448 / 200
    margin = alpha.shape[1] - 448
    own = F.interpolate(pha[None], scale_factor=scale)[0]
    own = F.max_pool2d(F.pad(own, (margin, margin, margin, 0)), 5, 1, 2)
    strands = (alpha - own).clamp(min=0)
    assert strands.sum() > 20
    assert ((strands > 0.02) & (strands < 0.98)).any()
    assert strands[:, margin + int(scale * 120) :].max() < 0.02  # none at the waist
    shade = colour[:, (strands > 0.3)[0]] / HAIR[:, None]
    assert (shade.amax(0) - shade.amin(0)).max() < 0.15  # lighter or darker, one hue
    assert 0.7 < shade.mean() < 1.3
    # Alpha is that of the person or more.
    assert alpha[:, margin + 150 : -20, margin + 80 : -margin - 80].min() > 0.99


def test_who_shows_no_head_stays_as_they_are() -> None:
    fgr, pha = person()
    cut = fgr[:, 40:], pha[:, 40:]  # by the upper border of the picture
    after = add_hair(*cut, rng())
    assert (after[0] is cut[0], after[1] is cut[1]) == (True, True)
