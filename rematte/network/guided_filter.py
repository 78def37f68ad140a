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
    """
    size = frame.shape[-2:]
    a = F.interpolate(a, size, mode="bilinear", align_corners=False)
    b = F.interpolate(b, size, mode="bilinear", align_corners=False)
    # One fused step: at 4K every full-size map takes 133 MB.
    return torch.addcmul(b, a, _with_gray(frame))


def shrink(frames: Tensor, ratio: float) -> Tensor:
    """Sample frames (N, 3, H, W) at a ratio in (0, 2]; sides are rounded down."""
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


class GuidedFilter(nn.Module):
    """Fits the local linear model of a guided filter at the downsampled size."""

    def __init__(self, box_filter: nn.Module) -> None:
        super().__init__()
        self.box_filter = box_filter

    def slopes(self, cov: Tensor, var: Tensor, hidden: Tensor) -> Tensor:
        """Return slopes for covariances and variances, (N, 4, h, w) all."""
        raise NotImplementedError

    def forward(
        self, picture: Tensor, coarse: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fit the model.

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
        a = self.slopes(cov, var, hidden)
        return a, mean_y - a * mean_x


class DeepGuidedFilter(GuidedFilter):
    """A guided filter whose slopes are predicted by three 1x1 convolutions."""

    def __init__(self, hidden: int) -> None:
        # Stored in the checkpoints and trainable, though it starts as a mean.
        box_filter = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        nn.init.constant_(box_filter.weight, 1 / 9)
        super().__init__(box_filter)
        self.conv = nn.Sequential(
            nn.Conv2d(8 + hidden, 16, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 16, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 4, 1),
        )

    def slopes(self, cov: Tensor, var: Tensor, hidden: Tensor) -> Tensor:
        """Predict the slopes."""
        y: Tensor = self.conv(torch.cat([cov, var, hidden], 1))
        return y


class FastGuidedFilter(GuidedFilter):
    """A guided filter of radius 1 with nothing to train."""

    def __init__(self, hidden: int) -> None:
        super().__init__(nn.AvgPool2d(3, 1, padding=1))

    def slopes(self, cov: Tensor, var: Tensor, hidden: Tensor) -> Tensor:
        """Compute the slopes."""
        return cov / (var + 1e-5)
