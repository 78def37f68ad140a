"""The one-pass full resolution equals the network's own, within rounding."""

import numpy as np
import pytest
import torch

from rematte.engines.kernels.guided_filter import Floats, render, shrink
from rematte.engines.tensors import composite
from rematte.network import guided_filter as network
from rematte.video.frame import Pixels

SIZES = [
    *((48, 64, 0.25), (45, 63, 1 / 3), (24, 32, 0.5), (54, 97, 0.375)),
    *((1, 1, 1.0), (33, 35, 0.6), (40, 64, 1.0)),
]
GREEN = (120, 255, 155)


def drawn(height: int, width: int, wide: bool) -> Pixels:
    dtype = np.uint16 if wide else np.uint8
    most = int(np.iinfo(dtype).max)
    rng = np.random.default_rng(1)
    return rng.integers(0, most + 1, (height, width, 3), dtype)


def some_maps(height: int, width: int, ratio: float) -> Floats:
    """Such that alpha and foreground are clamped at both ends here and there."""
    size = 4 if ratio == 1 else 8, int(height * ratio), int(width * ratio)
    return np.random.default_rng(2).normal(0.3, 0.7, size).astype(np.float32)


def plain(pixels: Pixels, maps: Floats) -> tuple[torch.Tensor, torch.Tensor]:
    """Foreground and alpha (3 or 1, H, W), as the network makes them."""
    src = torch.from_numpy(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max)
    src = src.movedim(-1, 0)[None]
    small = torch.from_numpy(maps)[None]
    fine = small
    if len(maps) == 8:
        fine = network.refine(src, small[:, :4], small[:, 4:])
    return (src + fine[:, :3]).clamp(0, 1)[0], fine[0, 3:].clamp(0, 1)


@pytest.mark.parametrize(("height", "width", "ratio"), SIZES)
@pytest.mark.parametrize("wide_in", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_pixels_are_those_of_the_network(
    height: int, width: int, ratio: float, wide_in: bool, wide: bool
) -> None:
    pixels, maps = drawn(height, width, wide_in), some_maps(height, width, ratio)
    fgr, pha = plain(pixels, maps)
    most = 65535 if wide else 255
    behind = drawn(height, width, wide)
    back = torch.from_numpy(behind.astype(np.float32)).movedim(-1, 0) / most
    wanted = {
        "alpha": pha,
        "foreground": fgr,
        "composite": composite(fgr, pha, back),
        "cutout": torch.cat([fgr, pha]),
    }
    for kind, tensor in wanted.items():
        found = render(pixels, maps, kind, wide, behind)  # type: ignore[arg-type]
        true = tensor.movedim(0, -1).numpy().astype(np.float64) * most
        if kind == "cutout":  # what no one can see is black
            true[..., :3] *= found[..., 3:] > 0
        # Rounded to the nearest code; floats of 24 bits add a little at 16 bits.
        assert np.abs(found - true).max() <= (1 if wide else 0.51)
        assert found.dtype == (np.uint16 if wide else np.uint8)


def test_one_colour_behind_is_like_a_picture_of_it() -> None:
    pixels, maps = drawn(48, 64, False), some_maps(48, 64, 0.25)
    colour = np.array([[GREEN]], np.uint8)
    picture = np.broadcast_to(colour, (48, 64, 3)).copy()
    found = [render(pixels, maps, "composite", False, b) for b in (colour, picture)]
    assert np.array_equal(*found)


@pytest.mark.parametrize(("height", "width", "ratio"), SIZES)
@pytest.mark.parametrize("wide", [False, True])
def test_the_picture_is_that_of_the_network(
    height: int, width: int, ratio: float, wide: bool
) -> None:
    pixels = drawn(height, width, wide)
    src = torch.from_numpy(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max)
    true = network.shrink(src.movedim(-1, 0)[None], ratio)[0].movedim(0, -1)
    assert np.abs(shrink(pixels, ratio) - true.numpy()).max() < 1e-5
