"""Losses, on values worked out by hand."""

import math

import numpy as np
import pytest
import torch

from rematte.network.matting_network import MattingNetwork
from rematte.train.losses import (
    laplacian_pyramid,
    map_error,
    matting_loss,
    pyramid_loss,
    temporal_loss,
)
from rematte.train.passes import Passes
from rematte.train.recipe import Phase


def test_bands_and_their_sizes() -> None:
    flat = laplacian_pyramid(torch.full((1, 1, 64, 64), 0.7))
    assert all(band.abs().max() < 1e-6 for band in flat)
    shapes = [tuple(b.shape[-2:]) for b in laplacian_pyramid(torch.rand(1, 1, 71, 64))]
    assert shapes == [(70, 64), (34, 32), (16, 16), (8, 8), (4, 4)]
    assert len(laplacian_pyramid(torch.rand(1, 1, 16, 16))) == 3


def test_the_finest_band_of_one_pixel() -> None:
    """The kernel is (1 4 6 4 1)^2 / 256; a pixel at an even place is kept.

    Reduced, its middle is 36/256, and with the neighbours 2 pixels away 6/256 and
    1/256. Expanded with gain 4, the middle is 4 (36 * 36 + 4 * 6 * 6 + 4 * 1) / 256^2:
    of the neighbours, those beside weigh 6 and those at corners 1.
    """
    x = torch.zeros(1, 1, 64, 64)
    x[0, 0, 32, 32] = 1
    fine = laplacian_pyramid(x)[0]
    again = 4 * (36 * 36 + 4 * 6 * 6 + 4 * 1 * 1) / 256**2
    assert fine[0, 0, 32, 32].item() == pytest.approx(1 - again, abs=1e-6)


def test_levels_weigh_double_each() -> None:
    x, true = torch.rand(1, 2, 1, 64, 64), torch.rand(1, 2, 1, 64, 64)
    pairs = zip(laplacian_pyramid(x[0]), laplacian_pyramid(true[0]), strict=True)
    bands = [(a - b).abs().mean().item() for a, b in pairs]
    hand = np.dot((0.2, 0.4, 0.8, 1.6, 3.2), bands)
    assert pyramid_loss(x, true).item() == pytest.approx(hand, rel=1e-5)


def test_temporal() -> None:
    x = torch.tensor([0.0, 0.5, 0.25]).view(1, 3, 1, 1, 1)
    true = torch.tensor([0.0, 0.25, 0.25]).view(1, 3, 1, 1, 1)
    # changes 0.5, -0.25 against 0.25, 0: errors 0.25, -0.25
    assert temporal_loss(x, true).item() == pytest.approx(0.0625)
    assert temporal_loss(x[:, :1], true[:, :1]).item() == 0


def test_matting() -> None:
    """Alpha 0.5 against 1, constant in place and time: only its L1 is not 0."""
    alpha = torch.full((1, 2, 1, 64, 64), 0.5)
    true = torch.ones(1, 2, 1, 64, 64)
    fgr = torch.stack([torch.full((3, 64, 64), v) for v in (0.2, 0.6)])[None]
    terms = matting_loss(fgr, alpha, torch.full_like(fgr, 0.4), true)
    got = {name: value.item() for name, value in terms.items()}
    assert got["alpha_l1"] == pytest.approx(0.5)
    assert got["alpha_pyramid"] == pytest.approx(0, abs=1e-6)
    assert got["alpha_temporal"] == 0
    assert got["foreground_l1"] == pytest.approx(0.2)
    assert got["foreground_temporal"] == pytest.approx(5 * 0.16)


def test_the_foreground_counts_only_where_alpha_is_above_0() -> None:
    true = torch.zeros(1, 1, 1, 64, 64)
    true[..., :16] = 0.01
    fgr = torch.ones(1, 1, 3, 64, 64)
    terms = matting_loss(fgr, true, torch.zeros_like(fgr), true)
    assert terms["foreground_l1"].item() == pytest.approx(0.25)


def test_segmentation() -> None:
    logits = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2)
    mask = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    hand = (math.log(2) + math.log(1 + math.exp(2))) / 2
    network = MattingNetwork()
    with torch.no_grad():  # logits are the first of the maps
        network.project_seg.conv.weight.copy_(torch.eye(16)[:1, :, None, None])
        network.project_seg.conv.bias.zero_()
    passes = Passes(network, None, Phase("s", "segmentation"))
    sample = {"hidden": logits.expand(-1, 16, -1, -1), "mask": mask}
    loss = passes("segmentation", sample, 1.0)["segmentation"]
    assert loss.item() == pytest.approx(hand)


def test_map_error() -> None:
    target = torch.randn(4, 3, 16, 16)
    assert map_error(target, target).item() == 0
    flat = target.mean((0, 2, 3), keepdim=True).expand_as(target)
    assert map_error(flat, target).item() == pytest.approx(1, abs=0.02)
    # A channel's unit does not matter.
    scale = torch.tensor([1.0, 3.0, 0.5]).view(1, 3, 1, 1)
    noisy = target + 0.1 * torch.randn_like(target)
    one, other = map_error(noisy, target), map_error(noisy * scale, target * scale)
    assert one.item() == pytest.approx(other.item(), rel=0.15)


def test_losses_are_in_full_precision_under_autocast() -> None:
    x, true = torch.rand(1, 1, 1, 64, 64), torch.rand(1, 1, 1, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pyramid_loss(x, true), pyramid_loss(x, true).float())
        inside = pyramid_loss(x, true)
    assert inside.item() == pyramid_loss(x, true).item()
