"""Core and garbage mattes: masks of what is always or never cut out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rematte.video.frame import Frame, Pixels
from rematte.video.mask_spec import MaskSpec, Point
from rematte.video.opening import Limits
from rematte.video.pixels import resize, with_depth
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

_FINE = 4  # lines sampled in each row of pixels, for smooth edges


class Masks:
    """Several masks, combined by their largest value at each pixel.

    `rate` is that of masks that are sequences of images [frames/s]. Raises `InputError`
    if a file cannot be read.
    """

    def __init__(
        self, specs: Sequence[MaskSpec], limits: Limits, rate: Fraction
    ) -> None:
        self._masks = [
            (spec, _MaskFile(spec.file, limits, rate) if spec.file else _Shape(spec))
            for spec in specs
        ]

    def at(self, frame: Frame) -> NDArray[np.float32] | None:
        """Return the mask of a frame, (H, W) in [0, 1]; None if none applies then."""
        found = [
            mask.at(frame.time, *frame.pixels.shape[:2])
            for spec, mask in self._masks
            if spec.holds(frame.time)
        ]
        return np.maximum.reduce(found, dtype=np.float32) if found else None

    @property
    def timed(self) -> bool:
        """Whether the masks change with time."""
        return any(
            mask.moves or spec.since > 0 or spec.until is not None
            for spec, mask in self._masks
        )


class _Shape:
    """A mask that is a polygon."""

    def __init__(self, spec: MaskSpec) -> None:
        self._spec, self.moves = spec, len(spec.keys) > 1
        self._drawn: tuple[object, NDArray[np.float32]] = (), np.empty(0, np.float32)

    def at(self, time: Fraction, height: int, width: int) -> NDArray[np.float32]:
        """Draw the shape, unless it is the same as in the last frame."""
        corners = self._spec.corners(time)
        # Read once: another thread may put one of another size there.
        wanted, (known, drawn) = (corners, height, width), self._drawn
        if known != wanted:
            drawn = draw(corners, height, width)
            self._drawn = wanted, drawn
        return drawn


class _MaskFile:
    """A mask from a picture, or from a video that runs in sync with the source.

    After the video's end, its last frame is used.
    """

    def __init__(self, path: Path, limits: Limits, rate: Fraction) -> None:
        how = ReadOptions(limits=limits, hold_gaps=True, input_alpha="multiply")
        reader = VideoReader(path, how)
        if reader.images and not reader.info.still:
            reader.close()
            reader = VideoReader(path, replace(how, frame_rate=rate))
        self._frames: Iterator[Frame] = iter(reader)
        self._now = next(self._frames)
        self._following = next(self._frames, None)
        self._first = self._now.time
        self._made: NDArray[np.float32] | None = None

    @property
    def moves(self) -> bool:
        """Whether it has more frames."""
        return self._following is not None

    def at(self, time: Fraction, height: int, width: int) -> NDArray[np.float32]:
        """Return the mask at a time of the source [s], (height, width) in [0, 1]."""
        while self._following and time >= self._following.time - self._first:
            self._now, self._made = self._following, None
            self._following = next(self._frames, None)
        made = self._made  # another thread may put one of another size there
        if made is None or made.shape != (height, width):
            made = self._made = _light(self._now, height, width)
        return made


def _light(frame: Frame, height: int, width: int) -> NDArray[np.float32]:
    """Return the mean of a picture's colours times alpha, (height, width) in [0, 1]."""
    pixels = with_depth(frame.pixels, True)
    gray: Pixels = pixels.mean(2, keepdims=True, dtype=np.float32).astype(np.uint16)
    light: NDArray[np.float32] = resize(gray, width, height)[..., 0].astype(np.float32)
    light /= np.float32(65535)
    if frame.alpha is not None:
        alpha = resize(with_depth(frame.alpha, True), width, height)
        light *= alpha[..., 0] / np.float32(65535)
    return light


def draw(corners: Sequence[Point], height: int, width: int) -> NDArray[np.float32]:
    """Draw a polygon with smooth edges, (height, width) in [0, 1].

    If its sides cross, the even-odd rule decides what is inside. Corners are x and y
    [pixels]; (0, 0) is the picture's top left.
    """
    x, y = np.array(corners).T
    to_x, to_y = np.roll(x, -1), np.roll(y, -1)
    lines = (np.arange(height * _FINE) + 0.5) / _FINE
    meets = (np.minimum(y, to_y) <= lines[:, None]) & (
        lines[:, None] < np.maximum(y, to_y)
    )
    slope = (to_x - x) / np.where(to_y == y, 1, to_y - y)
    crossed = np.where(meets, x + (lines[:, None] - y) * slope, width)
    crossed = np.sort(np.clip(crossed, 0, width), axis=1)
    # How much coverage changes from each pixel to the next one in its row.
    steps = np.zeros((height, width + 2))
    rows = np.arange(len(lines)) // _FINE
    for side in range(crossed.shape[1] // 2 * 2):
        inward = 1 - 2 * (side % 2)
        column = crossed[:, side].astype(int)
        beyond = crossed[:, side] - column
        np.add.at(steps, (rows, column), inward * (1 - beyond) / _FINE)
        np.add.at(steps, (rows, column + 1), inward * beyond / _FINE)
    covered: NDArray[np.float64] = steps.cumsum(1)[:, :width]
    return covered.clip(0, 1).astype(np.float32)
