"""Losses of matting and segmentation, as pure functions of tensors.

Source:
    Lin, Yang, Saleemi, Sengupta, Robust High-Resolution Video Matting with Temporal
    Guidance, 2021 (arXiv 2108.11515), section 4.2.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 5


def _smooth(x: Tensor, gain: float = 1.0) -> Tensor:
    """Filter (N, C, H, W) with the 5x5 binomial kernel, reflecting at borders."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=x.device, dtype=x.dtype)
    kernel = (torch.outer(row, row) * (gain / 256)).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), "reflect"), kernel, groups=x.shape[1])


def laplacian_pyramid(x: Tensor, levels: int = LEVELS) -> list[Tensor]:
    """Compute the Laplacian pyramid of a picture, from fine to coarse.

    Odd sizes lose their last row or column at each level, and levels of less than four
    pixels are left out.

    Args:
        x: (N, C, H, W).
        levels: The maximum number of levels.

    Source:
        Burt and Adelson, The Laplacian Pyramid as a Compact Image Code, 1983.
    """
    pyramid: list[Tensor] = []
    while len(pyramid) < levels and min(x.shape[-2:]) >= 4:
        x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
        smaller = _smooth(x)[..., ::2, ::2]
        spread = x.new_zeros(x.shape)
        spread[..., ::2, ::2] = smaller
        pyramid.append(x - _smooth(spread, gain=4))
        x = smaller
    return pyramid


def pyramid_loss(alpha: Tensor, true: Tensor) -> Tensor:
    """Return the L1 of Laplacian pyramids: sum over s = 0..4 of 2^s / 5 |L_s - L*_s|.

    Args:
        alpha: (B, T, 1, H, W).
        true: The truth, of the same shape.

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
    """Return the mean squared error of changes between frames; 0 for single frames.

    Args:
        x: (B, T, C, H, W).
        true: The truth, of the same shape.
    """
    if x.shape[1] < 2:
        return x.new_zeros(())
    return F.mse_loss(x.diff(dim=1), true.diff(dim=1))


def alpha_terms(alpha: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Return the unweighted terms of alpha: l1, pyramid, temporal.

    Args:
        alpha: (B, T, 1, H, W).
        true: The truth, of the same shape.
    """
    return {
        "l1": F.l1_loss(alpha, true),
        "pyramid": pyramid_loss(alpha, true),
        "temporal": temporal_loss(alpha, true),
    }


def matting_loss(
    foreground: Tensor, alpha: Tensor, true_foreground: Tensor, true_alpha: Tensor
) -> dict[str, Tensor]:
    """Return the terms whose sum is the matting loss.

    Alpha: L1 + pyramid + 5 temporal. Foreground, where the true alpha is above 0: L1 +
    5 temporal; the mean is over all pixels, so that much background weighs little.

    Args:
        foreground: (B, T, 3, H, W).
        alpha: (B, T, 1, H, W).
        true_foreground: The true foreground, (B, T, 3, H, W).
        true_alpha: The true alpha, (B, T, 1, H, W).
    """
    terms = alpha_terms(alpha, true_alpha)
    seen = true_alpha > 0
    foreground, true_foreground = foreground * seen, true_foreground * seen
    return {
        "alpha_l1": terms["l1"],
        "alpha_pyramid": terms["pyramid"],
        "alpha_temporal": 5 * terms["temporal"],
        "foreground_l1": F.l1_loss(foreground, true_foreground),
        "foreground_temporal": 5 * temporal_loss(foreground, true_foreground),
    }


def segmentation_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the binary cross entropy.

    Args:
        logits: (B, T, 1, H, W).
        mask: True mask of the same shape, in [0, 1].
    """
    return F.binary_cross_entropy_with_logits(logits, mask)


def map_error(x: Tensor, target: Tensor) -> Tensor:
    """Return the squared error over the target's variance, averaged over channels.

    1 is what the target's mean would give, 0 is equality. Channels that hardly vary
    count as if they had a hundredth of the average variance.

    Args:
        x: (N, C, H, W).
        target: The teacher's map, of the same shape.
    """
    x, target = x.float(), target.float()
    return ((x - target).square() * channel_weights(target)).mean()


def channel_weights(target: Tensor) -> Tensor:
    """Return 1 over the variance of each channel, (C, 1, 1), as in `map_error`."""
    variance = target.var((0, 2, 3), correction=0)
    return 1 / (variance + 0.01 * variance.mean() + 1e-8).view(-1, 1, 1)
