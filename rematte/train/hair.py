"""Draws hair of known alpha behind and over the heads of cut-outs.

Masks and teachers are smooth where hair has strands, so that a network learns strands
from drawn ones. They are thinner than a pixel, and each has its own path, width,
transparency and colour, which is taken from the head.
"""

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from rematte.train.augment import Floats, straight

_HEIGHT = 448  # pixels; smaller cut-outs are enlarged, so that strands are fine
_FINE = 2  # strands are drawn at this multiple of it
_POINTS = 16  # of a strand's path
_HEAD = 0.13  # of a standing person's height


def add_hair(fgr: Tensor, pha: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """Add hair to a cut-out of one person: straight colour (3, H, W) and alpha.

    The result is larger, or is the input if no head is found because the upper end of
    the person is wide or cropped by the border.
    """
    head = _find_head(pha[0] > 0.5)
    if head is None:
        return fgr, pha
    scale = max(1.0, _HEIGHT / pha.shape[-2])
    both = torch.cat([fgr * pha, pha])[None]
    both = F.interpolate(both, scale_factor=scale, mode="bicubic", antialias=True)[0]
    reach = scale * head[2]
    margin = int(0.15 * reach)
    both = F.pad(both.clamp(0, 1), (margin, margin, margin, 0))
    middle = np.array(head[:2]) * scale + margin
    colours = _colours(both, middle, reach)
    if not len(colours):
        return fgr, pha
    behind, over = (
        _strands(both.shape[1:], middle, reach, colours, rng, most)
        for most in (2500, 250)
    )
    # Premultiplied, from back to front: strands, the person, some strands before them.
    both = both + behind * (1 - both[3:])
    both = over + both * (1 - over[3:])
    alpha = both[3:].clamp(0, 1)
    return straight(both[:3], alpha), alpha


def _find_head(inside: Tensor) -> tuple[float, float, float] | None:
    """Return the middle of a head (column, row) and the person's height [pixels]."""
    rows = inside.any(1).nonzero()[:, 0]
    if len(rows) < 32 or rows[0] < 1:
        return None
    top, reach = int(rows[0]), len(rows)
    band = inside[top : top + max(2, int(_HEAD * reach))]
    columns = band.any(0).nonzero()[:, 0]
    widest = inside.sum(1).amax()
    width = int(columns[-1] - columns[0]) + 1
    if width > 0.8 * widest or width > 0.35 * reach:
        return None
    return float(columns.float().mean()), top + 0.4 * len(band), float(reach)


def _colours(both: Tensor, middle: Floats, reach: float) -> Floats:
    """Return colours of the upper part of a head, (N, 3)."""
    x, y = middle
    half, up = 0.035 * reach, 0.055 * reach
    rows = slice(max(0, int(y - up)), max(1, int(y - 0.2 * up)))
    part = both[:, rows, max(0, int(x - half)) : int(x + half) + 1]
    return part[:3, part[3] > 0.95].T.double().numpy()


def _strands(
    size: torch.Size, middle: Floats, reach: float, colours: Floats, rng: Generator,
    most: int,
) -> Tensor:  # fmt: skip
    """Draw strands that grow out of a head, (4, H, W), premultiplied."""
    large = (size[1] * _FINE, size[0] * _FINE)
    drawn = [Image.new("L", large), Image.new("RGB", large)]
    pens = [ImageDraw.Draw(picture) for picture in drawn]
    length = rng.uniform(0.015, 0.12)  # of the height, beyond the head
    curl, fall = rng.uniform(0, 1.5), rng.uniform(0, 1)
    thick, spread = rng.uniform(0.5, 1.5) * _FINE, rng.uniform(0.1, 0.7)
    along = np.linspace(0, 1, _POINTS)
    for _ in range(int(np.exp(rng.uniform(np.log(most / 20), np.log(most))))):
        root = rng.uniform(-1.15 * np.pi, 0.15 * np.pi)
        begin = middle + 0.8 * reach * _HEAD * np.array(
            [0.38 * np.cos(root), 0.5 * np.sin(root)]
        ) * rng.uniform(0.6, 1.0)  # fmt: skip
        turn = root + rng.normal(0, spread) + rng.normal(0, curl) * along
        step = np.stack([np.cos(turn), np.sin(turn)], 1)
        step[:, 1] += fall * rng.uniform(0, 2) * along
        step *= reach * length * rng.gamma(3, 1 / 3) / _POINTS
        path = [tuple(point) for point in _FINE * (begin + step.cumsum(0))]
        colour = colours[rng.integers(len(colours))] * rng.uniform(0.8, 1.25)
        shade = tuple(int(255 * c) for c in colour.clip(0, 1))
        opacity = int(255 * rng.uniform(0.35, 1))
        width = thick * rng.uniform(0.5, 1.5)
        for first, tip in ((0, 1.0), (_POINTS // 2, 0.6)):  # a strand becomes thinner
            piece = path[first : first + _POINTS // 2 + 1]
            wide = max(1, round(tip * width))
            pens[0].line(piece, opacity, wide)
            pens[1].line(piece, shade, wide + 2)  # so that no edge is mixed with black
    small = [x.resize((size[1], size[0]), Image.Resampling.BOX) for x in drawn]
    alpha, colour = (torch.from_numpy(np.array(x)).float() / 255 for x in small)
    return torch.cat([alpha * colour.movedim(-1, 0), alpha[None]])
