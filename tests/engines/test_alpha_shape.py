"""What reshaping alpha promises."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rematte.engines.kernels.alpha_shape import despill, feather, grow, set_levels

Array = NDArray[Any]


def square(size: int = 120, low: int = 40, high: int = 80) -> Array:
    alpha = np.zeros((size, size), np.float32)
    alpha[low:high, low:high] = 1
    return alpha


def disc(radius: float) -> Array:
    v, u = np.mgrid[:120, :120]
    values = np.clip(radius + 0.5 - np.hypot(v - 60, u - 60), 0, 1)
    return values.astype(np.float32)


@pytest.mark.parametrize("distance", [0.25, 0.5, 1, 2.75, 8])
@pytest.mark.parametrize("sign", [1, -1])
def test_growing_moves_edges_by_so_many_pixels(distance: float, sign: int) -> None:
    row = grow(square(), sign * distance)[60]
    assert row.sum() == pytest.approx(40 + sign * 2 * distance, abs=1e-4)
    assert np.array_equal(row, row[::-1])
    area = grow(disc(30), sign * distance).sum()
    assert area == pytest.approx(np.pi * (30 + sign * distance) ** 2, rel=0.02)


def test_shrinking_mirrors_growing() -> None:
    alpha = disc(25)
    np.testing.assert_allclose(grow(alpha, -1.5), 1 - grow(1 - alpha, 1.5))


@pytest.mark.parametrize("distance", [0.5, 1, 4, 20])
def test_feathering_is_symmetric(distance: float) -> None:
    alpha = np.zeros((100, 100), np.float32)
    alpha[:, 50:] = 1
    soft = feather(alpha, distance)
    np.testing.assert_allclose(soft, 1 - soft[:, ::-1], atol=1e-5)
    assert (np.diff(soft[0]) >= -1e-6).all()
    reach = int(np.ceil(distance))
    assert not soft[:, : 50 - reach].any()
    assert soft[:, 50 - reach].min() > 0
    # A person whom the picture's border cuts does not fade there.
    np.testing.assert_allclose(soft, np.broadcast_to(soft[:1], soft.shape), atol=1e-6)


def test_nothing_to_do_changes_nothing() -> None:
    alpha = disc(20)
    assert np.array_equal(grow(alpha, 0), alpha)
    assert np.array_equal(feather(alpha, 0), alpha)
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    back = np.round(set_levels(pixels, 0, 1) * 65535)
    assert np.array_equal(back, pixels)


def test_levels_are_stretched() -> None:
    pixels = np.array([[0, 6553, 13107, 32768, 52428, 60000, 65535]], np.uint16)
    levels = set_levels(pixels, 0.2, 0.8)
    np.testing.assert_allclose(levels, [[0, 0, 0, 0.5, 1, 1, 1]], atol=1e-4)


@pytest.mark.parametrize(("channel", "before", "after"), [
    (1, (10, 200, 60), (10, 60, 60)),
    (1, (90, 40, 60), (90, 40, 60)),
    (2, (10, 60, 200), (10, 60, 60)),
    (2, (10, 200, 60), (10, 200, 60)),
])  # fmt: skip
def test_a_backings_light_is_limited(channel: int, before: Any, after: Any) -> None:
    for kind in (np.uint8, np.uint16):
        pixels = np.array([[(*before, 7)]], kind)
        despill(pixels, channel)
        assert pixels.tolist() == [[[*after, 7]]]
