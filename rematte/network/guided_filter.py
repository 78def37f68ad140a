"""The guided filter: samples the frame, fits a linear model there, and applies it.

Source:
    He and Sun, Fast Guided Filter, 2015; Wu et al., Fast End-to-End Trainable Guided
    Filter, 2018 (arXiv 1803.05619).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _with_gray(picture: Tensor) -> Tensor:
    """Append the mean of RGB as a fourth channel."""
    return torch.cat([picture, picture.mean(1, keepdim=True)], 1)


def refine(frame: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Apply a guided filter's local linear model to the full-size frame.

    Args:
        frame: (N, 3, H, W) RGB in [0, 1].
        a: Slopes at the downsampled size, (N, 4, h, w).
        b: Intercepts, (N, 4, h, w).

    Returns:
        (N, 4, H, W): foreground residual and alpha, neither clamped.

    Source:
        He and Sun, Fast Guided Filter, 2015.
    """
    size = frame.shape[-2:]
    a = F.interpolate(a, size, mode="bilinear", align_corners=False)
    b = F.interpolate(b, size, mode="bilinear", align_corners=False)
    # One fused step: at 4K every full-size map takes 133 MB.
    return torch.addcmul(b, a, _with_gray(frame))


def shrink(frames: Tensor, ratio: float) -> Tensor:
    """Sample frames at the size of the coarse pass.

    Args:
        frames: (N, 3, H, W).
        ratio: In (0, 2].

    Returns:
        (N, 3, h, w), h and w rounded down.
    """
    if ratio == 1:
        return frames
    # By factor, not by size: the published networks sample with the step 1/ratio also
    # where ratio * size is not a whole number.
    return F.interpolate(
        frames,
        scale_factor=ratio,
        mode="bilinear",
        align_corners=False,
        recompute_scale_factor=False,
    )


class DeepGuidedFilter(nn.Module):
    """A guided filter whose slopes are predicted by three 1x1 convolutions.

    Source:
        Wu et al., Fast End-to-End Trainable Guided Filter, 2018 (arXiv 1803.05619).
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        # Stored in the checkpoints and trainable, though it starts as a mean.
        self.box_filter = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        nn.init.constant_(self.box_filter.weight, 1 / 9)
        self.conv = nn.Sequential(
            nn.Conv2d(8 + hidden, 16, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 16, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 4, 1),
        )

    def forward(
        self, picture: Tensor, coarse: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fit the local linear model at the downsampled size.

        Args:
            picture: (N, 3, h, w) in [0, 1].
            coarse: Foreground residual and alpha, (N, 4, h, w).
            hidden: The decoder's features, (N, 16, h, w).

        Returns:
            Slopes and intercepts, (N, 4, h, w) each, for `refine`.
        """
        x = _with_gray(picture)
        mean_x = self.box_filter(x)
        mean_y = self.box_filter(coarse)
        cov = self.box_filter(x * coarse) - mean_x * mean_y
        var = self.box_filter(x * x) - mean_x * mean_x
        a = self.conv(torch.cat([cov, var, hidden], 1))
        return a, mean_y - a * mean_x


class FastGuidedFilter(nn.Module):
    """A guided filter of radius 1 with nothing to train.

    Source:
        He and Sun, Fast Guided Filter, 2015.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()

    def forward(
        self, picture: Tensor, coarse: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fit the local linear model; arguments as in `DeepGuidedFilter`."""
        x = _with_gray(picture)
        mean_x = F.avg_pool2d(x, 3, 1, padding=1)
        mean_y = F.avg_pool2d(coarse, 3, 1, padding=1)
        cov = F.avg_pool2d(x * coarse, 3, 1, padding=1) - mean_x * mean_y
        var = F.avg_pool2d(x * x, 3, 1, padding=1) - mean_x * mean_x
        a = cov / (var + 1e-5)
        return a, mean_y - a * mean_x
