"""Metrics of a matte against the true one, as pure functions of numpy arrays.

Unless stated otherwise, `pred` and `true` are alpha in [0, 1], both of the same
arbitrary shape; different shapes are a `ValueError`. `gradient` and `connectivity` need
scipy, which the extra `evaluate` installs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

_SIGMA, _CUT = 1.4, 1e-2  # sigma of the gradient's Gaussian [pixels]; its cut-off
_NEAR = 0.15  # smaller distances do not reduce the connectivity


def _ndimage() -> Any:
    try:
        from scipy import ndimage
    except ImportError as error:
        raise ImportError(
            "grad and conn need scipy; pip install rematte[evaluate], or leave them "
            "out with --metrics mad mse dtssd fgr_mse iou"
        ) from error
    return ndimage


def mad(pred: Array, true: Array) -> float:
    """Return the mean absolute difference of alpha, times 1e3.

    Source:
        Rhemann et al., A Perceptually Motivated Online Benchmark for Image Matting,
        2009 (as a sum, "SAD"); scaled as in Lin et al. 2021 (arXiv 2108.11515).
    """
    return float(np.abs(_difference(pred, true)).mean() * 1e3)


def mse(pred: Array, true: Array) -> float:
    """Return the mean squared difference of alpha, times 1e3.

    Source:
        Lin et al. 2021 (arXiv 2108.11515) for the scale.
    """
    return float(np.square(_difference(pred, true)).mean() * 1e3)


def sad(pred: Array, true: Array) -> float:
    """Return the sum of absolute differences of alpha, over 1000.

    Source:
        Rhemann et al. 2009.
    """
    return float(np.abs(_difference(pred, true)).sum() / 1000)


def gradient(pred: Array, true: Array, normalise: bool = False) -> float:
    """Return the squared differences of gradient magnitudes, summed, over 1000.

    Maps are (H, W). Gradients come from first-order Gaussian derivative filters: sigma
    1.4, cut where the Gaussian falls to 1e-2 (9x9 taps), scaled to a sum of squares of
    1; pixels at the edge are repeated beyond it. `normalise` stretches both maps to the
    range 0 to 1 first, as the published figures of RobustVideoMatting do.

    Source:
        Rhemann et al. 2009, section 4.
    """
    _difference(pred, true)
    pair = [_stretch(pred), _stretch(true)] if normalise else [pred, true]
    magnitudes = [_gradient_magnitude(np.asarray(alpha, float)) for alpha in pair]
    return float(np.square(magnitudes[0] - magnitudes[1]).sum() / 1000)


def _stretch(alpha: Array) -> Array:
    least, most = float(alpha.min()), float(alpha.max())
    return (alpha - least) / (most - least) if most > least else alpha * 0


def _gradient_magnitude(alpha: Array) -> Array:
    ndimage = _ndimage()
    peak = 1 / (np.sqrt(2 * np.pi) * _SIGMA)
    reach = int(np.ceil(_SIGMA * np.sqrt(-2 * np.log(_CUT / peak))))
    steps = np.arange(-reach, reach + 1)
    smooth = np.exp(-(steps**2) / (2 * _SIGMA**2))
    slope = steps * smooth
    # The 9x9 filter is the product of the two, and so is its sum of squares.
    smooth, slope = (taps / np.sqrt((taps**2).sum()) for taps in (smooth, slope))

    def along(axis: int) -> Array:
        out = ndimage.correlate1d(alpha, slope, axis, mode="nearest")
        across: Array = ndimage.correlate1d(out, smooth, 1 - axis, mode="nearest")
        return across

    return np.hypot(along(0), along(1))


def connectivity(pred: Array, true: Array) -> float:
    """Return the differences in the connectivity of pixels, summed, over 1000.

    At each threshold 0, 0.1 ... 1 the body is the largest 4-connected region that
    reaches the threshold in both maps, (H, W). A pixel's level is the last threshold up
    to which it is in all bodies. Where its alpha exceeds that by 0.15 or more, the
    difference is subtracted from its connectivity of 1.

    Source:
        Rhemann et al. 2009, section 4, with theta 0.15 and p 1.
    """
    _difference(pred, true)
    ndimage = _ndimage()
    both = np.minimum(pred, true)
    level = np.ones(both.shape)
    held = np.ones(both.shape, bool)
    for step in range(1, 11):
        labels, count = ndimage.label(both >= step / 10)
        sizes = np.bincount(labels.ravel(), minlength=2)[1:]
        body = labels == 1 + int(sizes.argmax()) if count else np.zeros_like(held)
        level[held & ~body] = (step - 1) / 10
        held &= body
    loss = []
    for alpha in (pred, true):
        distance = np.asarray(alpha, float) - level
        loss.append(np.where(distance >= _NEAR, distance, 0))
    return float(np.abs(loss[0] - loss[1]).sum() / 1000)


def dtssd(pred: Array, true: Array) -> float:
    """Return the difference in how alpha changes between frames, times 1e2.

    The root of the mean squared difference between the changes of both maps, for each
    pair of neighbouring frames; then the mean over pairs. Maps are (T, H, W).

    Raises:
        ValueError: If there are fewer than two frames, or the shapes differ.

    Source:
        Erofeev et al., Perceptually Motivated Benchmark for Video Matting, 2015.
    """
    error = _difference(pred, true)
    if error.ndim != 3 or len(error) < 2:
        raise ValueError(
            f"dtSSD needs (T, H, W) with two frames or more, got {list(error.shape)}"
        )
    change = np.diff(error, axis=0)
    return float(np.sqrt(np.square(change).mean((1, 2))).mean() * 1e2)


def foreground_mse(pred: Array, true: Array, alpha: Array) -> float | None:
    """Return the mean squared difference of foregrounds where alpha > 0, times 1e3.

    Arguments are those of `foreground_mad`.

    Source:
        Lin et al. 2021, section 5.1.
    """
    seen = _seen_difference(pred, true, alpha)
    return float(np.square(seen).mean() * 1e3) if len(seen) else None


def foreground_mad(pred: Array, true: Array, alpha: Array) -> float | None:
    """Return the mean absolute difference of foregrounds where alpha > 0, times 1e3.

    `pred` and `true` are straight RGB in [0, 1], (..., H, W, 3), and `alpha` is the
    true one, (..., H, W). The result is None if that is 0 everywhere.
    """
    seen = _seen_difference(pred, true, alpha)
    return float(np.abs(seen).mean() * 1e3) if len(seen) else None


def _seen_difference(pred: Array, true: Array, alpha: Array) -> Array:
    error = _difference(pred, true)
    if alpha.shape != error.shape[:-1]:
        raise ValueError(
            f"true alpha must be {list(error.shape[:-1])}, got {list(alpha.shape)}"
        )
    seen: Array = error[alpha > 0]
    return seen


def iou(pred: Array, true: Array, threshold: float = 0.5) -> float | None:
    """Return the intersection over union of the masks above a threshold in [0, 1).

    It is in [0, 1], or None if both masks are empty.

    Source:
        Jaccard, The Distribution of the Flora in the Alpine Zone, 1912.
    """
    _difference(pred, true)
    left, right = pred > threshold, true > threshold
    union = int((left | right).sum())
    return int((left & right).sum()) / union if union else None


def _difference(pred: Array, true: Array) -> Array:
    if pred.shape != true.shape or not pred.size:
        raise ValueError(
            f"both maps must have one shape and a pixel at least, got "
            f"{list(pred.shape)} and {list(true.shape)}; resize one of them"
        )
    # Float32 would lose digits in sums over millions of pixels.
    error: Array = np.subtract(pred, true, dtype=np.float64)
    return error
