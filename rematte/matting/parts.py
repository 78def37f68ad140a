"""Connected parts of small pictures, and the shades of their colours."""

import zlib
from base64 import b64decode, b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rematte.video.frame import Pixels

Labels = NDArray[np.int32]

_SIDE = 192  # longer side of the small copy [pixels]
# The largest areas, as shares of the other's, of a part that belongs to another one
# beside it: above or below it, and elsewhere.
_LIMB, TINY = 0.1, 0.02
_SHADES = 6  # levels of each colour channel in histograms


def small_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and height of the small copy of a frame [pixels]."""
    scale = min(1.0, _SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def connected(there: NDArray[np.bool_]) -> tuple[Labels, int]:
    """Number the connected parts of an array (h, w) from 1, and count them."""
    labels = np.zeros(there.shape, np.int32)
    same = [0]  # the part that each part has been joined to

    def root(part: int) -> int:
        while same[part] != part:
            part = same[part]
        return part

    above: list[tuple[int, int, int]] = []
    for row, line in enumerate(there):
        ends = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]])))
        runs = []
        for begin, end in zip(ends[::2], ends[1::2], strict=True):
            touched = {root(p) for b, e, p in above if b <= end and begin <= e}
            part = min(touched) if touched else len(same)
            if not touched:
                same.append(part)
            for other in touched:
                same[other] = part
            labels[row, begin:end] = part
            runs.append((int(begin), int(end), part))
        above = runs
    roots = np.array([root(part) for part in range(len(same))])
    found, numbers = np.unique(roots, return_inverse=True)
    return numbers.astype(np.int32)[labels], len(found) - 1


def spread(labels: Labels, reach: int) -> Labels:
    """Let labels grow evenly into unlabelled pixels, up to a distance [pixels]."""
    labels = labels.copy()
    for _ in range(reach):
        empty = labels == 0
        if not empty.any() or empty.all():
            break
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            moved = np.roll(labels, step, axis)
            edge: list[Any] = [slice(None), slice(None)]
            edge[axis] = 0 if step == 1 else -1
            moved[tuple(edge)] = 0
            labels = np.where(empty & (labels == 0), moved, labels)
    return labels


def centres(labels: Labels) -> dict[int, NDArray[np.float64]]:
    """Return the centre of each part, as row and column, by number."""
    return {
        int(number): np.argwhere(labels == number).mean(0)
        for number in np.unique(labels[labels > 0])
    }


def pack_labels(labels: Labels) -> list[Any]:
    """Describe labels in JSON: height, width and compressed numbers."""
    data = zlib.compress(labels.astype("<i4").tobytes())
    return [*labels.shape, b64encode(data).decode()]


def unpack_labels(packed: list[Any]) -> Labels:
    """Restore labels that `pack_labels` described."""
    height, width, text = packed
    numbers = np.frombuffer(zlib.decompress(b64decode(text)), "<i4")
    return numbers.astype(np.int32).reshape(height, width)


def find_shades(pixels: Pixels) -> Labels:
    """Return the index of each pixel's shade in a histogram, (h, w)."""
    steps = pixels.astype(np.int32) * _SHADES // 256
    return (steps[..., 0] * _SHADES + steps[..., 1]) * _SHADES + steps[..., 2]


def histogram(shades: Labels) -> NDArray[np.float64]:
    """Return the share of each shade among some pixels."""
    counts = np.bincount(shades, minlength=_SHADES**3).astype(np.float64)
    return counts / max(1, shades.size)


def likeness(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the overlap of two histograms, in [0, 1]."""
    return float(np.minimum(one, other).sum())


def smooth(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over squares of 3x3 pixels."""
    for axis in (0, 1):
        width = [(1, 1) if axis == n else (0, 0) for n in (0, 1)]
        padded = np.pad(scores, width, mode="edge")
        first, middle, last = (
            padded.take(range(n, n + scores.shape[axis]), axis) for n in range(3)
        )
        scores = (first + middle + last) / 3
    return scores


def owners_of(before: Labels, least: int) -> set[int]:
    """Return the labels that cover a tenth of some pixels, or `least` of them."""
    numbers, counts = np.unique(before[before > 0], return_counts=True)
    enough = max(1.0, min(least, 0.1 * before.size))
    return {int(n) for n, c in zip(numbers, counts, strict=True) if c >= enough}


def apart(part: NDArray[np.bool_], other: NDArray[np.bool_], reach: int) -> bool:
    """Whether a part lies farther than `reach` [pixels] to the side of another one."""
    columns, others = (np.flatnonzero(each.any(0)) for each in (part, other))
    return bool(columns[0] - others[-1] > reach or others[0] - columns[-1] > reach)


def find_body(
    limb: NDArray[np.bool_],
    parts: Labels,
    sizes: NDArray[np.int_],
    shades: Labels,
    reach: int,
) -> int:
    """Find the much larger part that a new one, such as a foot, belongs to.

    It lies beside the new one, at most `reach` [pixels] away: above or below it, unless
    that is tiny. The result is its number in `parts`, or 0; `sizes` are the areas of
    all parts [pixels].
    """
    rows, columns = np.nonzero(limb)
    top, left = max(0, rows.min() - reach), max(0, columns.min() - reach)
    near = parts[top : rows.max() + reach + 1, left : columns.max() + reach + 1]
    column = slice(columns.min(), columns.max() + 1)
    bodies = [
        int(part)
        for part in np.unique(near[near > 0])
        if len(rows)
        < sizes[part] * (_LIMB if (parts[:, column] == part).any() else TINY)
    ]
    colours = histogram(shades[limb])
    return max(
        bodies,
        key=lambda part: likeness(histogram(shades[parts == part]), colours),
        default=0,
    )
