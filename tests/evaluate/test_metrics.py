"""Every metric on values worked out by hand."""

import numpy as np
import pytest

from rematte.evaluate import metrics


def row(*values: float) -> np.ndarray:
    return np.array([values], float)


def test_mad_and_mse() -> None:
    pair = np.array([[0, 0.5], [1, 1]]), np.array([[0, 1.0], [1, 0]])
    assert metrics.mad(*pair) == pytest.approx((0.5 + 1) / 4 * 1000)
    assert metrics.mse(*pair) == pytest.approx((0.25 + 1) / 4 * 1000)


def test_gradient_of_a_point() -> None:
    """Both filters have a sum of squares of 1, so a point gives a^2 + a^2."""
    point = np.zeros((21, 21))
    point[10, 10] = 0.5
    flat = np.zeros_like(point)
    assert metrics.gradient(point, flat) == pytest.approx(2 * 0.25 / 1000)
    assert metrics.gradient(flat, point) == pytest.approx(2 * 0.25 / 1000)
    assert metrics.gradient(point, flat, normalise=True) == pytest.approx(2 / 1000)


def test_gradient_of_an_edge() -> None:
    """A step sums up the taps on its far side; 9 taps, so it is felt 4 pixels away."""
    gauss = [np.exp(-(k**2) / (2 * 1.4**2)) for k in range(-4, 5)]
    slope = [k * g for k, g in zip(range(-4, 5), gauss, strict=True)]
    smooth = sum(gauss) / np.sqrt(sum(g * g for g in gauss))
    slope = [s / np.sqrt(sum(t * t for t in slope)) for s in slope]
    edge = np.zeros((3, 20))
    edge[:, 10:] = 1
    squares = [(smooth * sum(slope[8 - k :])) ** 2 for k in range(8)]
    expected = 3 * sum(squares) / 1000
    assert metrics.gradient(edge, np.zeros_like(edge)) == pytest.approx(expected)
    assert metrics.gradient(edge, edge.copy()) == 0


def test_normalised_gradient_ignores_contrast_and_flat_maps() -> None:
    ramp = np.tile(np.linspace(0.2, 0.6, 12), (5, 1))
    assert metrics.gradient(ramp, 2 * ramp - 0.4, normalise=True) == pytest.approx(0)
    flat = np.full((5, 12), 0.7)
    assert metrics.gradient(flat, np.zeros_like(flat), normalise=True) == 0


@pytest.mark.parametrize(
    ("pred", "true", "differences"),
    [
        # The gap cuts off two pixels in both maps alike; itself it is lost in one.
        (row(1, 1, 1, 0, 1, 1), row(1, 1, 1, 1, 1, 1), 1.0),
        # A bridge of 0.6: left of it the level is 0.6, in both; on it 0.4 is lost.
        (row(1, 0.6, 1, 1), row(1, 1, 1, 1), 0.4),
        # 0.1 is less than 0.15, so it is no loss.
        (row(1, 0.9, 1, 1), row(1, 1, 1, 1), 0.0),
        # Corners do not connect: the last pixel has level 0, and loses 1 and 0.9.
        (np.array([[1, 1, 0], [0, 0, 1]]), np.array([[1, 1, 0], [0, 0, 0.9]]), 0.1),
        # Nothing in common: each map loses all that it has.
        (row(1, 0), row(0, 1), 2.0),
        (row(0, 0), row(0, 0), 0.0),
    ],
)
def test_connectivity(pred: np.ndarray, true: np.ndarray, differences: float) -> None:
    expected = pytest.approx(differences / 1000)
    assert metrics.connectivity(pred, true) == expected
    assert metrics.connectivity(true, pred) == expected


def test_dtssd() -> None:
    true = np.full((3, 1, 1), 0.5)
    pred = true + np.array([0, 0.1, 0.3])[:, None, None]
    assert metrics.dtssd(pred, true) == pytest.approx((0.1 + 0.2) / 2 * 100)
    pair = np.stack([row(0, 0), row(0.3, 0.4)])
    expected = np.sqrt((0.09 + 0.16) / 2) * 100
    assert metrics.dtssd(pair, np.zeros_like(pair)) == pytest.approx(expected)


def test_a_constant_error_has_no_dtssd() -> None:
    true = np.random.default_rng(0).random((4, 5, 6)) / 2
    assert metrics.dtssd(true + 0.3, true) == pytest.approx(0)


def test_foreground_counts_where_there_is_one() -> None:
    true = np.zeros((1, 2, 3))
    pred = np.array([[[0.1, 0.2, 0.2], [1, 1, 1]]])
    found = metrics.foreground_mse(pred, true, row(0.01, 0))
    assert found == pytest.approx((0.01 + 0.04 + 0.04) / 3 * 1000)
    assert metrics.foreground_mse(pred, true, row(0, 0)) is None


def test_iou() -> None:
    assert metrics.iou(row(1, 0.6, 0.5, 0), row(0, 1, 1, 0)) == pytest.approx(1 / 3)
    assert metrics.iou(row(0.2, 1), row(0.2, 0), threshold=0.1) == 0.5
    assert metrics.iou(row(0.5, 0), row(0, 0)) is None


@pytest.mark.parametrize(
    "metric",
    [metrics.mad, metrics.mse, metrics.gradient, metrics.connectivity, metrics.iou],
)
def test_shapes_must_agree(metric: object) -> None:
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[3, 2\]"):
        metric(np.zeros((2, 3)), np.zeros((3, 2)))  # type: ignore[operator]


def test_dtssd_and_foreground_say_what_they_need() -> None:
    with pytest.raises(ValueError, match="two frames"):
        metrics.dtssd(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)))
    colour = np.zeros((1, 2, 3))
    with pytest.raises(ValueError, match="true alpha"):
        metrics.foreground_mse(colour, colour, row(1, 1, 1))


def test_sums_and_foreground_differences() -> None:
    pred, true = row(0.5, 0.25, 1, 0), row(0, 0, 1, 0)
    assert metrics.sad(pred, true) == pytest.approx(0.75e-3)
    colours = np.full((1, 4, 3), 0.2), np.full((1, 4, 3), 0.1)
    assert metrics.foreground_mad(*colours, true) == pytest.approx(100)
    assert metrics.foreground_mad(*colours, true * 0) is None
