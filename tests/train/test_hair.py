"""Drawn hair: alpha and colours of strands are known exactly."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rematte.train.hair import add_hair

HAIR = torch.tensor([0.3, 0.2, 0.1])


def person() -> tuple[Tensor, Tensor]:
    """A head of hair over wide shoulders, and alpha."""
    rows, columns = torch.meshgrid(
        torch.arange(200.0), torch.arange(120.0), indexing="ij"
    )
    head = (rows - 40) ** 2 + (columns - 60) ** 2 < 14**2
    body = (rows > 52) & ((columns - 60).abs() < 35)
    pha = (head | body)[None].float()
    colour = torch.where(rows < 52, 0.0, 1.0)[None]
    return (1 - colour) * HAIR[:, None, None] + colour * 0.9, pha


@pytest.mark.parametrize("seed", range(4))
def test_strands_lie_around_the_head_in_its_colour(seed: int) -> None:
    fgr, pha = person()
    colour, alpha = add_hair(fgr, pha, np.random.default_rng(seed))
    assert alpha.shape[1] > pha.shape[1]
    scale = 448 / 200
    margin = alpha.shape[1] - 448
    own = F.pad(
        F.interpolate(pha[None], scale_factor=scale)[0], (margin, margin, margin, 0)
    )
    own = F.max_pool2d(own, 5, 1, 2)
    strands = (alpha - own).clamp(min=0)
    assert strands.sum() > 20
    assert ((strands > 0.02) & (strands < 0.98)).any()
    assert strands[:, margin + int(scale * 120) :].max() < 0.02  # none at the waist
    shade = colour[:, (strands > 0.3)[0]] / HAIR[:, None]
    assert (shade.amax(0) - shade.amin(0)).max() < 0.15  # lighter or darker, one hue
    assert 0.7 < shade.mean() < 1.3


def test_alpha_is_that_of_the_person_or_more() -> None:
    fgr, pha = person()
    _, alpha = add_hair(fgr, pha, np.random.default_rng(0))
    margin = alpha.shape[1] - 448
    inside = alpha[:, margin + 150 : -20, margin + 80 : -margin - 80]
    assert inside.min() > 0.99


def test_who_shows_no_head_stays_as_they_are() -> None:
    fgr, pha = person()
    cut = fgr[:, 40:], pha[:, 40:]  # by the upper border of the picture
    for before, after in zip(
        cut, add_hair(*cut, np.random.default_rng(0)), strict=True
    ):
        assert after is before
