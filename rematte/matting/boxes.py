"""Finds boxes around people in alpha, pads them, and joins those that are near."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rematte.matting.parts import connected

# Left, top, right and bottom [pixels].
Box = tuple[int, int, int, int]

ALPHA, SURE = 0.1, 0.5  # alpha above which a person may be there, and surely is
_CELL, _LEAST = 8, 24  # side of the squares that are connected, and fewest sure pixels
_SHARE = 0.25  # least number of sure pixels, as a share of those above ALPHA
_PADDING, _LEAST_PADDING = 0.12, 24  # around a box: share of its sides, and [pixels]


def find_boxes(alpha: NDArray[np.float32]) -> list[Box]:
    """Find the boxes around connected parts of alpha, (h, w) in [0, 1].

    Parts with few pixels above `SURE` are taken for noise or things and left out.
    """
    height, width = alpha.shape
    rows, columns = -(-height // _CELL), -(-width // _CELL)
    padded = np.zeros((rows * _CELL, columns * _CELL), np.float32)
    padded[:height, :width] = alpha
    squares = padded.reshape(rows, _CELL, columns, _CELL)
    some = (squares > ALPHA).sum((1, 3))
    sure = (squares > SURE).sum((1, 3))
    boxes = []
    labels, count = connected(some > 0)
    for number in range(1, count + 1):
        part = labels == number
        if sure[part].sum() < max(_LEAST, _SHARE * some[part].sum()):
            continue
        ys, xs = np.nonzero(part)
        top, start = int(ys.min()) * _CELL, int(xs.min()) * _CELL
        ends = (int(ys.max()) + 1) * _CELL, (int(xs.max()) + 1) * _CELL
        inside = alpha[top : ends[0], start : ends[1]] > ALPHA
        down, across = (np.flatnonzero(inside.any(n)) for n in (1, 0))
        last = start + int(across[-1]) + 1, top + int(down[-1]) + 1
        boxes.append((start + int(across[0]), top + int(down[0]), *last))
    return boxes


def near(one: Box, other: Box, share: float) -> bool:
    """Whether the gap of two boxes is within a share of the taller one's height."""
    gap = share * max(one[3] - one[1], other[3] - other[1])
    return all(
        one[axis] - gap <= other[axis + 2] and other[axis] - gap <= one[axis + 2]
        for axis in (0, 1)
    )


def contains(outer: Box, inner: Box) -> bool:
    """Whether a box lies within another."""
    return union(outer, inner) == outer


def area(box: Box) -> int:
    """Return the area of a box [pixels]."""
    return (box[2] - box[0]) * (box[3] - box[1])


def union(one: Box, *others: Box) -> Box:
    """Return the smallest box that holds some boxes."""
    lefts, tops, rights, bottoms = zip(one, *others, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def join(boxes: Sequence[Box], share: float = 0) -> list[Box]:
    """Join boxes that are near one another, until none are."""
    joined: list[Box] = []
    for box in boxes:
        while beside := [each for each in joined if near(box, each, share)]:
            for each in beside:
                joined.remove(each)
                box = union(box, each)
        joined.append(box)
    return joined


def pad(box: Box, frame: tuple[int, int]) -> Box:
    """Enlarge a box by how far alpha may reach beyond it, within the frame.

    `frame` is the width and height of the frame [pixels].
    """
    left, top, right, bottom = box
    x = max(_LEAST_PADDING, round(_PADDING * (right - left)))
    y = max(_LEAST_PADDING, round(_PADDING * (bottom - top)))
    return (
        max(0, left - x), max(0, top - y),
        min(frame[0], right + x), min(frame[1], bottom + y),
    )  # fmt: skip


def centre(
    box: Box, size: tuple[int, int], step: int, frame: tuple[int, int]
) -> tuple[int, int]:
    """Return the left and top edge of a window around a box, on a grid of cells.

    The box is smaller than the window by a cell or more. `size` and `frame` are width
    and height of the window and of the frame, `step` is the side of a cell [pixels].
    """
    corner = []
    for axis, side in enumerate(size):
        first = (box[axis] + box[axis + 2] - side) / 2
        # Within the frame where possible, but always around the box.
        first = min(max(first, 0), max(0, frame[axis] - side))
        cell = math.floor(first / step)
        if cell * step + side < box[axis + 2]:
            cell += 1
        corner.append(cell * step)
    return corner[0], corner[1]
