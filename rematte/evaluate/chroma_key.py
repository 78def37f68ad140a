"""A colour-difference key for footage in front of a coloured screen.

It is called like the network, so the matting loop and the converter can run it. It
makes ground truth to measure mattes against, and knows no files.
"""

import torch
from torch import Tensor, nn

from rematte.evaluate import SCREENS

_LEAST = 0.1  # a screen's channel is above the other two by this, usually by 0.3


class ColourDifferenceKey(nn.Module):
    """Computes alpha from how far the screen's channel exceeds the other two.

    With d = G - max(R, B) (for a green screen), alpha is 1 - d / d of the screen,
    stretched so that `low` becomes 0 and `high` 1. The foreground is the picture
    without the screen's share, (C - (1 - alpha) S) / alpha, with its green limited to
    the larger of red and blue (despill).

    Alpha is exact where the foreground is gray. It is slightly wrong at soft edges of
    coloured things, and too low in green things, which no such key can distinguish
    from the screen.

    Args:
        screen: "green" or "blue".
        colour: The screen's RGB in [0, 1]; None takes the median of the clip's first
            frame, over pixels whose difference d is at least half its 99th percentile.
        low: Alpha up to this becomes 0; above 0 for an uneven or noisy screen.
        high: Alpha from this on becomes 1; below 1 for spill on the person.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        Smith and Blinn, Blue Screen Matting, 1996, section on Vlahos's formula; Vlahos,
        Comprehensive Electronic Compositing System, US patent 4,100,569, 1978
        (expired).
    """

    def __init__(
        self,
        screen: str = "green",
        colour: tuple[float, float, float] | None = None,
        low: float = 0.1,
        high: float = 0.9,
    ) -> None:
        super().__init__()
        if screen not in SCREENS:
            raise ValueError(f"screen must be green or blue, got {screen!r}")
        if not 0 <= low < high <= 1:
            raise ValueError(
                f"low and high must be 0 <= low < high <= 1, got {low} and {high}"
            )
        self._screen, self._channel = screen, SCREENS[screen]
        self._others = [i for i in range(3) if i != self._channel]
        self._colour = None if colour is None else torch.tensor(colour)
        self._low, self._high = low, high
        if self._colour is not None:
            self._check(self._difference(self._colour[:, None, None]))
        self.eval()

    def _difference(self, picture: Tensor) -> Tensor:
        """Return how far the screen's channel of (..., 3, H, W) exceeds the others."""
        others = picture[..., self._others, :, :].amax(-3)
        return picture[..., self._channel, :, :] - others

    def _check(self, stands_out: Tensor) -> None:
        if stands_out.max() < 0.05:
            raise self._no_screen(
                f"nowhere is {self._screen} above the other two by 0.05"
            )

    def _no_screen(self, why: str) -> ValueError:
        return ValueError(
            f"no {self._screen} screen: {why}; choose --screen green or blue, or give "
            "--screen-colour"
        )

    def _measure(self, frame: Tensor) -> Tensor:
        """Measure the screen's colour in a frame (3, H, W)."""
        stands_out = self._difference(frame)
        self._check(stands_out)
        # Sorting, since torch's quantile takes no more than 16 million values.
        ordered = stands_out.flatten().sort().values
        bright = ordered[int(0.99 * (len(ordered) - 1))]
        if bright < _LEAST:
            raise self._no_screen(
                f"in 99% of the first frame, {self._screen} is above the other two by "
                f"less than {_LEAST}, and alpha would be noise"
            )
        return frame[:, stands_out >= max(float(bright) / 2, 0.025)].median(1).values

    def forward(
        self,
        src: Tensor,
        r1: Tensor | None = None,
        r2: Tensor | None = None,
        r3: Tensor | None = None,
        r4: Tensor | None = None,
        downsample_ratio: float = 1.0,
    ) -> tuple[Tensor, ...]:
        """Key a chunk of frames (1, T, 3, H, W), RGB in [0, 1].

        `r1` is the screen's colour from the previous call, or None for the first. A key
        has no other state and works at full size, so that it uses no other argument.

        Returns:
            Foreground, alpha and four states, in the network's order.

        Raises:
            ValueError: If next to nothing in the first frame looks like the screen.
        """
        if r1 is None:
            r1 = self._measure(src[0, 0]) if self._colour is None else self._colour
        screen = r1.to(src)[:, None, None]
        alpha = 1 - self._difference(src) / self._difference(screen)
        alpha = ((alpha - self._low) / (self._high - self._low)).clamp(0, 1)
        pha = alpha.unsqueeze(-3)
        fgr = (src - (1 - pha) * screen) / pha.clamp(min=1e-3)
        most = fgr[..., self._others, :, :].amax(-3)
        fgr[..., self._channel, :, :].clamp_(max=most)
        none = src.new_zeros(1)
        return fgr.clamp(0, 1), pha, r1, none, none, none
