"""Applies the guided filter to full-size frames on a CPU, from pixels to pixels.

What the network's `refine`, clamping and compositing do to whole tensors happens here a
row at a time, so that nothing of full size is ever held in floats. This module needs no
torch.

Source:
    He and Sun, Fast Guided Filter, 2015, for the local linear model; Porter and Duff,
    Compositing Digital Images, 1984, for the operator "over".
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rematte.video.frame import Pixels
from rematte.video.parallel_rows import kernels, run_rows

Floats = NDArray[np.float32]
Kind = Literal["alpha", "foreground", "composite", "cutout"]
_KINDS: dict[Kind, int] = {"alpha": 0, "foreground": 1, "composite": 2, "cutout": 3}
_CHANNELS = {"alpha": 1, "foreground": 3, "composite": 3, "cutout": 4}


def render(
    pixels: Pixels,
    maps: Floats,
    kind: Kind,
    sixteen_bit: bool,
    behind: Pixels | None = None,
    own: Pixels | None = None,
) -> Pixels:
    """Apply the guided filter to a frame and make the pixels of one kind of output.

    Args:
        pixels: The frame, (H, W, 3), 8 or 16 bits.
        maps: What `network.parts.Coarse` gives: (8, h, w), or (4, H, W) without the
            guided filter.
        kind: See `Matted.pixels`.
        sixteen_bit: Whether the result has 16 bits.
        behind: The background of a composite, (H, W, 3) or (1, 1, 3), with as many bits
            as the result.
        own: The source's own alpha, (H, W, 1), with as many bits as the frame, or 8;
            where it is 0, nothing of the foreground is left.

    Returns:
        (H, W, C): 1, 3, 3 or 4 channels.
    """
    height, width = pixels.shape[:2]
    dtype = np.uint16 if sixteen_bit else np.uint8
    out = np.empty((height, width, _CHANNELS[kind]), dtype)
    if behind is None:
        behind = np.zeros((1, 1, 3), dtype)
    run_rows(
        kernels.render, height, _packed(pixels), np.ascontiguousarray(maps),
        _packed(behind), flat(own, pixels), out, _KINDS[kind],
    )  # fmt: skip
    return out


def flat(own: Pixels | None, pixels: Pixels) -> Pixels:
    """Return a source's own alpha, (H, W), its pixels' bits; (0, 0) if it has none."""
    if own is None:
        return np.empty((0, 0), pixels.dtype)
    if own.itemsize < pixels.itemsize:
        own = own.astype(np.uint16) * np.uint16(257)
    return own[..., 0]


def _packed(pixels: Pixels) -> Pixels:
    """Copy a picture unless the pixels of each row lie beside one another."""
    return pixels if pixels[:1].flags.c_contiguous else np.ascontiguousarray(pixels)


def shrink(pixels: Pixels, ratio: float) -> Floats:
    """Sample a frame at the size of the coarse pass, as the network's `shrink` does.

    The ratio is in (0, 2], and the result (h, w, 3) in [0, 1].
    """
    height, width = (int(side * ratio) for side in pixels.shape[:2])
    out = np.empty((height, width, 3), np.float32)
    run_rows(kernels.sample, height, _packed(pixels), out, 1 / ratio)
    return out
