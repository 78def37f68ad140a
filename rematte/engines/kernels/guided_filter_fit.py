"""Fits the guided filter at the small size on a CPU, after the projection.

What `network.parts.CoarseHead` does in some twenty passes over memory happens here a
row at a time, in float32. This module needs no torch.

Source:
    Wu et al., Fast End-to-End Trainable Guided Filter, 2018 (arXiv 1803.05619); He and
    Sun, Fast Guided Filter, 2015.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from rematte.video.parallel_rows import run_rows

Floats = NDArray[np.float32]


class Weights(NamedTuple):
    """The weights of projection and fit in float32, with batch norm folded away.

    Attributes:
        project: From hidden features to foreground residual and alpha, (4, 16 + 1); the
            last column is the bias, here and below.
        box: Each channel's 3x3 mean, (4, 9); (0, 9) without the guided filter.
        layers: The convolutions that make slopes of covariance, variance and hidden
            features: (16, 24 + 1), (16, 16 + 1), (4, 16 + 1). Where each is (0, 1),
            slopes are covariance over variance.
    """

    project: Floats
    box: Floats
    layers: tuple[Floats, Floats, Floats]


def fit(weights: Weights, picture: Floats, hidden: NDArray[Any], maps: Floats) -> None:
    """Make the maps of `network.parts.Coarse` of a picture and its hidden features.

    Args:
        weights: The network's weights.
        picture: (h, w, 3) in [0, 1], contiguous like the others.
        hidden: (16, h, w), float32, or the bits of bfloat16 in a type of 16 bits.
        maps: Where to write slopes and intercepts, (8, h, w); without the guided
            filter, foreground residual and alpha, (4, h, w).
    """
    rows = len(picture)
    bits = hidden.view(np.uint16 if hidden.itemsize == 2 else np.uint32)
    run_rows(
        _fit, rows, picture.reshape(rows, -1), bits,
        weights.project, weights.box, *weights.layers, maps,
    )  # fmt: skip


# Loops of one statement over whole rows, since those become vector code. Rows have a
# pixel of zeros at both ends, as the convolutions have.


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _mix(rows: Any, weights: Any, first: int, out: Any) -> None:
    """Add weighted rows to each row of `out`, by weights from a column on.

    Four by four, so that each value read is used four times; all numbers of rows are
    multiples of four. Weights are read before the innermost loop: for all the compiler
    knows, what that writes may overlap them.
    """
    width = out.shape[1]
    for o in range(0, len(out), 4):
        e, f, g, h = out[o], out[o + 1], out[o + 2], out[o + 3]
        u, v, w, z = weights[o], weights[o + 1], weights[o + 2], weights[o + 3]
        for k in range(0, len(rows), 4):
            a, b, c, d = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
            n = first + k
            u0, u1, u2, u3 = u[n], u[n + 1], u[n + 2], u[n + 3]
            v0, v1, v2, v3 = v[n], v[n + 1], v[n + 2], v[n + 3]
            w0, w1, w2, w3 = w[n], w[n + 1], w[n + 2], w[n + 3]
            z0, z1, z2, z3 = z[n], z[n + 1], z[n + 2], z[n + 3]
            for x in range(width):
                i, j, p, q = a[x], b[x], c[x], d[x]
                e[x] += u0 * i + u1 * j + u2 * p + u3 * q
                f[x] += v0 * i + v1 * j + v2 * p + v3 * q
                g[x] += w0 * i + w1 * j + w2 * p + w3 * q
                h[x] += z0 * i + z1 * j + z2 * p + z3 * q


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _set_bias(weights: Any, out: Any) -> None:
    for o in range(len(out)):
        out[o, :] = weights[o, weights.shape[1] - 1]


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _positive(rows: Any) -> None:
    zero = np.float32(0)
    for o in range(len(rows)):
        row = rows[o]
        for x in range(len(row)):
            row[x] = max(row[x], zero)


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _mean(above: Any, at: Any, below: Any, box: Any, out: Any) -> None:
    """A 3x3 convolution of one channel."""
    a, b, c, d, e, f, g, h, i = box
    for x in range(len(out) - 2):
        out[x + 1] = (
            a * above[x] + b * above[x + 1] + c * above[x + 2]
            + d * at[x] + e * at[x + 1] + f * at[x + 2]
            + g * below[x] + h * below[x + 1] + i * below[x + 2]
        )  # fmt: skip


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _read(row: Any, planes: Any) -> None:
    """Read picture and gray to a row per channel; `row` is flat."""
    r, g, b, gray = planes[0], planes[1], planes[2], planes[3]
    for x in range(len(r) - 2):
        r[x + 1] = row[3 * x]
        g[x + 1] = row[3 * x + 1]
        b[x + 1] = row[3 * x + 2]
    for x in range(1, len(r) - 1):
        gray[x] = (r[x] + g[x] + b[x]) / np.float32(3)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _project(hidden: Any, y: int, project: Any, features: Any, coarse: Any) -> None:
    """Read the features of a row and project them."""
    last, bits = features.shape[1] - 1, features.view(np.uint32)
    # A bfloat16 is the upper half of a float32.
    shift = np.uint32(16 if hidden.itemsize == 2 else 0)
    for c in range(len(features)):
        row, to = hidden[c, y], bits[c]
        for x in range(last - 1):
            to[x + 1] = np.uint32(row[x]) << shift
    _set_bias(project, coarse)
    _mix(features, project, 0, coarse)
    coarse[:, 0] = 0
    coarse[:, last] = 0


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _multiply(planes: Any) -> None:
    """Make x * y and x * x of x and y, four rows each."""
    for c in range(4):
        x, y, xy, xx = planes[c], planes[4 + c], planes[8 + c], planes[12 + c]
        for i in range(len(x)):
            xy[i] = x[i] * y[i]
        for i in range(len(x)):
            xx[i] = x[i] * x[i]


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _moments(means: Any, found: Any) -> None:
    """Make covariance and variance of the means of x, y, xy and xx, four rows each."""
    for c in range(4):
        x, y, xy, xx = means[c], means[4 + c], means[8 + c], means[12 + c]
        cov, var = found[c], found[4 + c]
        for i in range(len(x)):
            cov[i] = xy[i] - x[i] * y[i]
        for i in range(len(x)):
            var[i] = xx[i] - x[i] * x[i]


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _predict(
    found: Any, features: Any, first: Any, second: Any, third: Any, one: Any, two: Any,
    slopes: Any,
) -> None:  # fmt: skip
    """Make the slopes of the deep guided filter, or of the fast one."""
    if len(first):
        _set_bias(first, one)
        _mix(found, first, 0, one)
        _mix(features, first, len(found), one)
        _positive(one)
        _set_bias(second, two)
        _mix(one, second, 0, two)
        _positive(two)
        _set_bias(third, slopes)
        _mix(two, third, 0, slopes)
    else:
        for c in range(4):
            for x in range(slopes.shape[1]):
                slopes[c, x] = found[c, x] / (found[4 + c, x] + np.float32(1e-5))


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _write(slopes: Any, means: Any, y: int, out: Any) -> None:
    for c in range(4):
        a, mean_x, mean_y = slopes[c], means[c], means[4 + c]
        to_a, to_b = out[c, y], out[4 + c, y]
        for x in range(len(to_a)):
            to_a[x] = a[x + 1]
            to_b[x] = mean_y[x + 1] - a[x + 1] * mean_x[x + 1]


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _fit(
    begin: int, end: int, picture: Any, hidden: Any, project: Any, box: Any,
    first: Any, second: Any, third: Any, out: Any,
) -> None:  # fmt: skip
    """Make the rows `begin` to `end` of `fit`."""
    height, width = len(picture), out.shape[2] + 2
    # Of three rows: picture x, coarse result y, x * y and x * x; hidden features.
    planes = np.zeros((3, 16, width), np.float32)
    features = np.zeros((3, 16, width), np.float32)
    means = np.zeros((16, width), np.float32)
    found = np.zeros((8, width), np.float32)
    one, two = np.empty((16, width), np.float32), np.empty((16, width), np.float32)
    slopes = np.empty((4, width), np.float32)
    if not len(box):
        for y in range(begin, end):
            _project(hidden, y, project, features[0], slopes)
            out[:, y] = slopes[:, 1 : width - 1]
        return
    for below in range(begin - 1, end + 1):
        if 0 <= below < height:
            now = planes[below % 3]
            _read(picture[below], now)
            _project(hidden, below, project, features[below % 3], now[4:8])
            _multiply(now)
        else:
            planes[below % 3] = 0
        y = below - 1
        if y < begin:
            continue
        for c in range(16):
            _mean(
                planes[(y - 1) % 3, c], planes[y % 3, c], planes[below % 3, c],
                box[c % 4], means[c],
            )  # fmt: skip
        _moments(means, found)
        _predict(found, features[y % 3], first, second, third, one, two, slopes)
        _write(slopes, means, y, out)
