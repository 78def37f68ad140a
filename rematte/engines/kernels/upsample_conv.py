"""On a CPU, convolutions of maps doubled in size that never make the doubled maps.

The decoder doubles its maps, joins them with others and convolves all of it, 3x3. The
share of the doubled maps takes a fourth of the arithmetic where they are still small:
the nine weights are applied there, as a convolution of 1x1 with nine times the outputs.
What it gives is doubled, moved by a pixel and summed here, in float32: the same but for
rounding, at the edges too. Knows no torch.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from rematte.video.parallel_rows import run_rows

Floats = NDArray[np.float32]

# By how much rows above, at and below a small row count for each of its two rows, as
# bilinear doubling has it: above for weights 0 and 1 of a column, at for 0, 1 and 2,
# below for 1 and 2.
_FIRST = np.array([0.75, 0.25, 0.25, 0.75, 0.75, 0, 0.25], np.float32)
_SECOND = np.array([0.25, 0, 0.75, 0.75, 0.25, 0.25, 0.75], np.float32)
_NEAR, _FAR = np.float32(0.75), np.float32(0.25)


def scales(picture: Floats) -> list[Floats]:
    """Average 2x2 pixels three times over, at odd edges those that there are.

    Args:
        picture: (B, h, w, 3), contiguous.

    Returns:
        The picture itself, and at 1/2, 1/4 and 1/8, sides rounded up.
    """
    made = [picture]
    for _ in range(3):
        batch, *size, _ = made[-1].shape
        half = np.empty((batch, *((side + 1) // 2 for side in size), 3), np.float32)
        made.append(half)
    for each in zip(*made, strict=True):
        run_rows(_halves, len(each[-1]), *each)
    return made


def convolve_doubled(
    products: NDArray[Any],
    picture: Floats,
    weights: Floats,
    least: float,
    out: NDArray[Any],
) -> None:
    """Convolve doubled maps and a picture, 3x3 with zeros around.

    Args:
        products: The small maps times each weight, (B, ceil(h / 2), ceil(w / 2),
            9 * C): by row of the weights, then column, then output. float32, or the
            bits of bfloat16 in a type of 16 bits. Contiguous like the others.
        picture: (B, h, w, 3).
        weights: Those of the picture by row, column and channel, and what is added,
            (3 * 3 * 3 + 1, C).
        least: Results are at least this.
        out: Where to write, (B, h, w, C), of the type of `products`.
    """
    batch, rows, _, channels = out.shape
    small = products.shape[1]
    bits = np.uint16 if out.itemsize == 2 else np.uint32
    for each in zip(
        products.view(bits).reshape(batch, small, -1), picture.reshape(batch, rows, -1),
        out.view(bits).reshape(batch, rows, -1), strict=True,
    ):  # fmt: skip
        run_rows(
            _convolve, small, *each[:2], weights.ravel(), np.float32(least),
            (0,) * channels, each[2],
        )  # fmt: skip


# A pixel's channels are as many as a tuple has items: so the compiler knows the number,
# and makes vector code of the inner loops. Rows are flat, pixel after pixel.


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _halves(
    begin: int, end: int, picture: Any, half: Any, fourth: Any, eighth: Any
) -> None:
    """All three at once: a row of the smallest needs but its own rows of the others."""
    _halve(4 * begin, min(4 * end, len(half)), picture, half)
    _halve(2 * begin, min(2 * end, len(fourth)), half, fourth)
    _halve(begin, end, fourth, eighth)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _halve(begin: int, end: int, picture: Any, out: Any) -> None:
    height, width = picture.shape[:2]
    for y in range(begin, end):
        above, below = picture[2 * y], picture[min(2 * y + 1, height - 1)]
        for x in range(width // 2):
            for c in range(3):
                out[y, x, c] = np.float32(0.25) * (
                    above[2 * x, c] + above[2 * x + 1, c]
                    + below[2 * x, c] + below[2 * x + 1, c]
                )  # fmt: skip
        if width % 2:
            for c in range(3):
                both = above[width - 1, c] + below[width - 1, c]
                out[y, width // 2, c] = np.float32(0.5) * both


@numba.njit(nogil=True, inline="always")  # type: ignore[misc, unused-ignore]
def _float(bits: Any, shift: Any) -> Any:
    return np.uint32(np.uint32(bits) << shift).view(np.float32)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _write(bits: Any, row: Any) -> None:
    """Round to the nearest bfloat16, to an even one where two are."""
    half, one, shift = np.uint32(0x7FFF), np.uint32(1), np.uint32(16)
    if row.itemsize == 2:
        for x in range(len(row)):
            row[x] = (bits[x] + half + ((bits[x] >> shift) & one)) >> shift
    else:
        for x in range(len(row)):
            row[x] = bits[x]


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _down(
    above: Any, at: Any, below: Any, first: Any, second: Any, lanes: tuple[int, ...],
    upper: Any, lower: Any,
) -> None:  # fmt: skip
    """Double and sum down columns; what is for each column of weights stays apart.

    Both of a small row's rows at once, since they are made of the same values.
    """
    a0, a1, b0, b1, b2, c1, c2 = first
    d0, d1, e0, e1, e2, f1, f2 = second
    group = 3 * len(lanes)
    # A bfloat16 is the upper half of a float32.
    shift = np.uint32(16 if at.itemsize == 2 else 0)
    for x in range(len(upper) // group):
        n, to = 3 * group * x, group * x
        for i in range(group):
            p = _float(above[n + i], shift)
            q = _float(above[n + group + i], shift)
            r = _float(at[n + i], shift)
            s = _float(at[n + group + i], shift)
            t = _float(at[n + 2 * group + i], shift)
            u = _float(below[n + group + i], shift)
            v = _float(below[n + 2 * group + i], shift)
            upper[to + i] = a0 * p + b0 * r + a1 * q + b1 * s + c1 * u + b2 * t + c2 * v
            lower[to + i] = d0 * p + e0 * r + d1 * q + e1 * s + f1 * u + e2 * t + f2 * v


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _across(
    left: Any, at: Any, right: Any, added: Any, lanes: tuple[int, ...], out: Any
) -> None:
    """Double and sum along a row."""
    count = len(lanes)
    for x in range(len(out) // (2 * count)):
        a, to = 3 * count * x, 2 * count * x
        b, c = a + count, a + 2 * count
        for i in range(count):
            out[to + i] = (
                added[i]
                + (_NEAR * left[a + i] + _FAR * at[a + i])
                + (_FAR * left[b + i] + _NEAR * at[b + i])
                + (_NEAR * at[c + i] + _FAR * right[c + i])
            )
        for i in range(count):
            out[to + count + i] = (
                added[i]
                + (_FAR * left[a + i] + _NEAR * at[a + i])
                + (_NEAR * at[b + i] + _FAR * right[b + i])
                + (_FAR * at[c + i] + _NEAR * right[c + i])
            )


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _add_picture(
    above: Any, at: Any, below: Any, weights: Any, least: Any, lanes: tuple[int, ...],
    out: Any,
) -> None:  # fmt: skip
    """Add the picture's convolution; its rows have a pixel more at both ends."""
    count = len(lanes)
    if count % 16 == 0:
        _add_by_two(above, at, below, weights, least, lanes, out)
        return
    for x in range(len(out) // count):
        for i in range(count):
            y = out[count * x + i]
            for k in range(9):
                y += (
                    above[3 * x + k] * weights[k * count + i]
                    + at[3 * x + k] * weights[(9 + k) * count + i]
                    + below[3 * x + k] * weights[(18 + k) * count + i]
                )
            out[count * x + i] = max(y, least)


@numba.njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[misc, unused-ignore]
def _add_by_two(
    above: Any, at: Any, below: Any, weights: Any, least: Any, lanes: tuple[int, ...],
    out: Any,
) -> None:  # fmt: skip
    """The same for two pixels at a time, so that each weight read is used twice.

    Sixteen outputs at a time, which fill a vector.
    """
    count = len(lanes)
    even = len(out) // count // 2 * 2  # as it is, but so this becomes vector code
    for first in range(0, count, 16):
        for x in range(0, even, 2):
            n, to = 3 * x, count * x + first
            for i in range(16):
                y, z = out[to + i], out[to + count + i]
                # A row after the other, each sum a chain: that makes it one
                # multiply-add for each weight.
                for k in range(9):
                    weight = weights[k * count + first + i]
                    y += above[n + k] * weight
                    z += above[n + k + 3] * weight
                for k in range(9):
                    weight = weights[(9 + k) * count + first + i]
                    y += at[n + k] * weight
                    z += at[n + k + 3] * weight
                for k in range(9):
                    weight = weights[(18 + k) * count + first + i]
                    y += below[n + k] * weight
                    z += below[n + k + 3] * weight
                out[to + i] = max(y, least)
                out[to + count + i] = max(z, least)


@numba.njit(nogil=True, cache=True)  # type: ignore[misc, unused-ignore]
def _convolve(
    begin: int, end: int, products: Any, picture: Any, weights: Any, least: Any,
    lanes: tuple[int, ...], out: Any,
) -> None:  # fmt: skip
    """What small rows `begin` to `end` give of `convolve_doubled`."""
    count, group = len(lanes), 3 * len(lanes)
    height, width = len(out), out.shape[1] // count
    bottom, small = len(products) - 1, products.shape[1] // (3 * group)
    # Twice the small width, though an odd picture is a pixel narrower.
    pictures = np.zeros((3, 3 * (2 * small + 2)), np.float32)
    made = np.empty(2 * small * count, np.float32)
    # Of both rows; the outer columns stand twice.
    both = np.empty((2, (small + 2) * group), np.float32)
    shares = np.empty((2, 7), np.float32)
    added = weights[27 * count :]
    for row in range(begin, end):
        shares[0], shares[1] = _FIRST, _SECOND
        # Around the doubled picture are zeros.
        if row == 0:
            shares[0, 0] = shares[0, 2] = 0
        if row == bottom:
            shares[(height - 1) % 2, 4] = shares[(height - 1) % 2, 6] = 0
        _down(
            products[max(row - 1, 0)], products[row], products[min(row + 1, bottom)],
            shares[0], shares[1], lanes,
            both[0, group : (small + 1) * group], both[1, group : (small + 1) * group],
        )  # fmt: skip
        for y in range(2 * row, min(2 * row + 2, height)):
            columns = both[y % 2]
            last = columns[small * group :]
            columns[:group] = columns[group : 2 * group]
            columns[(small + 1) * group :] = last[:group]
            _across(columns, columns[group:], columns[2 * group :], added, lanes, made)
            near, far = (_NEAR, _FAR) if width % 2 else (_FAR, _NEAR)
            for i in range(count):
                made[i] -= columns[group + i]
                beyond = near * last[2 * count + i] + far * last[group + 2 * count + i]
                made[(width - 1) * count + i] -= beyond
            for k in range(3):
                if 0 <= y + k - 1 < height:
                    pictures[k, 3 : 3 * (width + 1)] = picture[y + k - 1]
                else:
                    pictures[k] = 0
            _add_picture(
                pictures[0], pictures[1], pictures[2], weights, least, lanes, made
            )
            _write(made.view(np.uint32), out[y])
