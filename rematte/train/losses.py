"""Losses of matting, as pure functions of tensors.

Source:
    Lin, Yang, Saleemi, Sengupta, Robust High-Resolution Video Matting with Temporal
    Guidance, 2021 (arXiv 2108.11515), section 4.2.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from rematte.train.extras import Terms

LEVELS = 5
Factors = tuple[int, int, int, int, int]
# Factors of L1, pyramid and temporal loss of alpha, L1 and temporal loss of foreground.
PUBLISHED = (1, 1, 5, 1, 5)
DISTILLED = (5, 2, 5, 3, 5)  # with which the bundled weights were made


def _smooth(x: Tensor, gain: float = 1.0) -> Tensor:
    """Filter (N, C, H, W) with the 5x5 binomial kernel, reflecting at borders."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=x.device, dtype=x.dtype)
    kernel = (torch.outer(row, row) * (gain / 256)).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), "reflect"), kernel, groups=x.shape[1])


def laplacian_pyramid(x: Tensor) -> list[Tensor]:
    """Compute the Laplacian pyramid of (N, C, H, W), from fine to coarse.

    Odd sizes lose their last row or column at each level, and levels of less than four
    pixels are left out.

    Source:
        Burt and Adelson, The Laplacian Pyramid as a Compact Image Code, 1983.
    """
    pyramid: list[Tensor] = []
    while len(pyramid) < LEVELS and min(x.shape[-2:]) >= 4:
        x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
        smaller = _smooth(x)[..., ::2, ::2]
        spread = x.new_zeros(x.shape)
        spread[..., ::2, ::2] = smaller
        pyramid.append(x - _smooth(spread, gain=4))
        x = smaller
    return pyramid


def pyramid_loss(alpha: Tensor, true: Tensor) -> Tensor:
    """Return the L1 of Laplacian pyramids: sum over s = 0..4 of 2^s / 5 |L_s - L*_s|.

    Both are (B, T, 1, H, W).

    Source:
        Hou and Liu, Context-Aware Image Matting, 2019; the division by 5 is the
        paper's, section 4.2.
    """
    # Autocast would run these convolutions, and so the loss, in half precision.
    with torch.autocast(alpha.device.type, enabled=False):
        error = (alpha.float() - true.float()).flatten(0, 1)  # the pyramid is linear
        total = error.new_zeros(())
        for level, difference in enumerate(laplacian_pyramid(error)):
            total = total + 2**level / LEVELS * difference.abs().mean()
    return total


def temporal_loss(x: Tensor, true: Tensor) -> Tensor:
    """Return the mean squared error of changes between frames; 0 for single frames."""
    several = x.shape[1] > 1
    return F.mse_loss(x.diff(dim=1), true.diff(dim=1)) if several else x.new_zeros(())


def output_terms(
    fgr: Tensor, pha: Tensor, true_fgr: Tensor, true_pha: Tensor, factors: Factors
) -> Terms:
    """Return the terms of foreground and alpha, (B, T, C, H, W) each, whose sum counts.

    `factors` are `PUBLISHED` or `DISTILLED`.
    """
    return {
        "alpha_l1": factors[0] * F.l1_loss(pha, true_pha),
        "alpha_pyramid": factors[1] * pyramid_loss(pha, true_pha),
        "alpha_temporal": factors[2] * temporal_loss(pha, true_pha),
        "foreground_l1": factors[3] * F.l1_loss(fgr, true_fgr),
        "foreground_temporal": factors[4] * temporal_loss(fgr, true_fgr),
    }


def matting_loss(fgr: Tensor, pha: Tensor, true_fgr: Tensor, true_pha: Tensor) -> Terms:
    """Return the published terms; the foreground counts where the true alpha is not 0.

    The mean is over all pixels, so that much background weighs little.
    """
    seen = true_pha > 0
    return output_terms(fgr * seen, pha, true_fgr * seen, true_pha, PUBLISHED)


def map_error(x: Tensor, target: Tensor, seen: Tensor | float = 1.0) -> Tensor:
    """Return the squared error over the target's variance, averaged over channels.

    1 is what the target's mean would give, 0 is equality. Channels that hardly vary
    count as if they had a hundredth of the average variance. Both maps are
    (N, C, H, W); `seen` is how much each pixel counts.
    """
    x, target = x.float(), target.float()
    variance = target.var((0, 2, 3), correction=0)
    weights = 1 / (variance + 0.01 * variance.mean() + 1e-8).view(-1, 1, 1)
    return ((x - target).square() * weights * seen).mean()
