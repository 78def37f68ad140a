"""The fit of the guided filter in compiled loops, against the network's own."""

import numpy as np
import pytest
import torch
from fakes import formula_network

from rematte.engines.head import Head
from rematte.network.parts import CoarseHead


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (37, 50)])
@pytest.mark.parametrize("refiner", ["deep_guided_filter", "fast_guided_filter"])
@pytest.mark.parametrize("refined", [True, False])
def test_the_fit_is_the_networks(
    size: tuple[int, int], refiner: str, refined: bool
) -> None:
    network = formula_network("mobilenetv3", refiner)
    picture, hidden = torch.rand(1, 3, *size), torch.rand(1, 16, *size)
    fit = Head(network)
    pixels = picture[0].movedim(0, -1).contiguous().numpy()
    # The decoder's are rounded to bfloat16, or not.
    rounded = hidden[0].bfloat16()
    maps = fit(pixels, rounded.float().numpy(), refined)
    again = fit(pixels, rounded.view(torch.int16).numpy(), refined)
    assert np.array_equal(maps, again)
    head = CoarseHead(network, refined)
    with torch.no_grad():
        expected = head.double()(picture.double(), rounded[None].double())[0].numpy()
    scale = np.abs(expected).max()
    # The fast one divides by differences of nearly equal numbers, in float32.
    bound = 1e-4 if refined and refiner == "fast_guided_filter" else 1e-5
    assert np.abs(maps - expected).max() < bound * scale
