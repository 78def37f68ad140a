"""The checks of a finished file, frame by frame and as a whole."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rematte.inspect import figures
from rematte.inspect.moments import Timeline
from rematte.video.frame import (
    RANGE_LIMITED,
    UNSPECIFIED,
    Colour,
    Frame,
    Pixels,
    VideoInfo,
)
from rematte.video.numbering import describe_runs
from rematte.video.pixels import resize, with_depth
from rematte.video.sheet import shrunk_size

BLACK = 2  # the brightest level that passes for 0
VISIBLE = 0.001  # share of hidden pixels that may be brighter
_SIDE = 512  # longer side of the maps that holes are looked for in [pixels]
_COLOURED = 8  # mean spread of the channels of a gray picture, at most [levels]

# Names of the code points of ITU-T H.273 that files of people have.
_NAMES = {0: "RGB", 1: "BT.709", 5: "BT.601", 6: "BT.601", 9: "BT.2020", 12: "P3"}
_CURVES = {1: "BT.709", 6: "BT.601", 13: "sRGB", 14: "BT.2020", 16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Check:
    """One thing that was checked, whether it is as it should be, and what was found."""

    name: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Seen:
    """The measurements of one frame of the file."""

    time: Fraction  # when it is shown [s]
    end: Fraction  # when it ends [s]
    transparent: bool  # whether it has an alpha channel
    coverage: float  # share of the picture that alpha covers
    holes: float  # share of the person that is see-through and enclosed
    least: int  # the smallest alpha, of 255
    most: int  # the largest
    colour: float  # mean spread of the channels [8-bit levels]
    hidden: float  # share of the pixels of alpha 0 that are not black
    detail: float  # mean difference of neighbouring pixels of alpha 0 [8-bit levels]


def measure(frame: Frame, gray: bool) -> Seen:
    """Measure a frame of a cut-out, or of a gray matte."""
    pixels = with_depth(frame.pixels, False)
    colours = pixels[..., :3]
    transparent = pixels.shape[2] == 4
    if gray and not transparent:
        alpha = (colours.sum(2, dtype=np.uint16) // 3).astype(np.uint8)
    elif transparent:
        alpha = pixels[..., 3]
    else:
        alpha = np.full(pixels.shape[:2], 255, np.uint8)
    small = shrunk_size(alpha.shape[1], alpha.shape[0], _SIDE)
    coarse = resize(alpha[..., None], *small)[..., 0] / np.float32(255)
    under = alpha == 0
    count = int(under.sum()) if transparent else 0
    hidden = int((under & (colours.max(2) > BLACK)).sum()) / count if count else 0.0
    return Seen(
        frame.time, frame.time + frame.duration, transparent, float(alpha.mean()) / 255,
        figures.holes(coarse), int(alpha.min()), int(alpha.max()),
        float(np.ptp(colours, axis=2).mean()) if gray else 0.0, hidden,
        _detail(colours, under) if hidden > VISIBLE else 0.0,
    )  # fmt: skip


def _detail(colours: Pixels, where: NDArray[np.bool_]) -> float:
    """Return the mean difference of neighbouring pixels in a place [levels]."""
    steps = np.abs(np.diff(colours.astype(np.int16), axis=1)).max(2)
    both = where[:, 1:] & where[:, :-1]
    return float(steps[both].mean()) if both.any() else 0.0


def alpha_checks(seen: Sequence[Seen], gray: bool) -> Iterator[Check]:
    """Check that alpha is there, is alpha, and has its whole range."""
    count = sum(each.transparent for each in seen)
    if gray and not count:
        worst = max(seen, key=lambda each: each.colour)
        ok = worst.colour <= _COLOURED
        text = f"a colour picture at {float(worst.time):.3f} s: no alpha matte"
        yield Check("gray", ok, "all frames are gray" if ok else text)
    else:
        ok, text = count == len(seen), f"in {count} of {len(seen)} frames only"
        yield Check("alpha channel", ok, "in every frame" if ok else text)
    least, most = min(e.least for e in seen), max(e.most for e in seen)
    ok, text = True, f"from {least} to {most} of 255"
    if least == 255:
        ok, text = False, "opaque everywhere: nothing was cut out"
    elif most == 0:
        text = "0 everywhere: no people found"
    elif 12 <= least <= 20 and 228 <= most <= 240:
        ok, text = False, f"{text}: limited range that is read as full range"
    yield Check("alpha", ok, text)


def number_checks(labels: Sequence[tuple[str, int | None]]) -> Iterator[Check]:
    """Check that no number of a sequence of images is missing."""
    numbers = [number for _, number in labels if number is not None]
    if not numbers:
        return
    missing = sorted({*range(min(numbers), max(numbers))} - {*numbers})
    text = f"{min(numbers)} to {max(numbers)}"
    if missing:
        text += f", without {describe_runs(missing)}"
    yield Check("numbers", not missing, text)


def source_checks(
    times: Sequence[Fraction], info: VideoInfo, timeline: Timeline, images: bool
) -> Iterator[Check]:
    """Check size, frames and times [s] of a file against its source.

    With `images` it is an image or a folder of images, which have no times.
    """
    size, wanted = f"{info.width}x{info.height}", timeline.info
    other = f"{wanted.width}x{wanted.height}"
    text = f"{size}, as the source" if size == other else f"{size}, the source {other}"
    yield Check("size", size == other, text)
    shown = timeline.times[timeline.begin : timeline.stop]
    missing, extra, off = match_times(times, shown)
    if images:
        missing, extra = [], []
    problems = [
        f"{name} {describe_runs(numbers)} (at {float(at[numbers[0]]):.3f} s)"
        for name, numbers, at in (("missing:", missing, shown), ("more:", extra, times))
        if numbers
    ]
    same = len(times) == len(shown)
    text = f"{len(times)}, " + (
        "as the source" if same else f"the source has {len(shown)}"
    )
    yield Check("frames", same and not problems, "; ".join([text, *problems]))
    if images:
        return
    unit = max(info.time_base, wanted.time_base, Fraction(1, 1000))
    text = f"within {float(off) * 1000:.2g} ms of the source's"
    yield Check("times", off <= unit, text)


def match_times(
    times: Sequence[Fraction], wanted: Sequence[Fraction]
) -> tuple[list[int], list[int], Fraction]:
    """Find frames that are missing, or more than there should be.

    They are shown at `times` [s], and should be shown at the `wanted` ones, perhaps by
    another clock, which begins at another time.

    Returns:
        Indices of missing ones in `wanted`, of additional ones in `times`, and the
        largest difference [s] of the others.
    """
    near = min((b - a for a, b in pairwise(wanted)), default=Fraction(1)) / 2
    # A file without sound that comes before the picture begins with the picture.
    offsets = dict.fromkeys((Fraction(0), wanted[0] - times[0], wanted[-1] - times[-1]))

    def distance(time: Fraction, others: Sequence[Fraction]) -> Fraction | None:
        """Return how far the first of `others` that is near is from a time [s]."""
        place = bisect_left(others, time - near)
        there = place < len(others) and others[place] <= time + near
        return abs(others[place] - time) if there else None

    found = []
    for offset in offsets:
        have = [time + offset for time in times]
        offs = [distance(time, have) for time in wanted]
        missing = [index for index, off in enumerate(offs) if off is None]
        extra = [n for n, time in enumerate(have) if distance(time, wanted) is None]
        most = max((off for off in offs if off is not None), default=Fraction(0))
        found.append((missing, extra, most))
    return min(found, key=lambda item: (len(item[0]) + len(item[1]), item[2]))


def colour_check(colour: Colour, source: Colour | None, gray: bool) -> Check:
    """Check what a file says about its colours, against the source if there is one."""
    text = _describe(colour)
    if gray or source is None or not source.sdr or not colour.sdr:
        return Check("colours", True, text)
    # Some decoders do not pass on what the file states.
    stated = UNSPECIFIED not in (colour.primaries, source.primaries)
    same = colour.primaries == source.primaries or not stated
    if not same:
        text += f"; the source: {_describe(source)}"
    return Check("colours", same, text)


def _describe(colour: Colour) -> str:
    words = [
        f"matrix {_NAMES.get(colour.matrix, colour.matrix)}",
        "limited range" if colour.range == RANGE_LIMITED else "full range",
    ]
    if colour.primaries != UNSPECIFIED:
        words.append(f"primaries {_NAMES.get(colour.primaries, colour.primaries)}")
    if colour.transfer != UNSPECIFIED:
        words.append(f"curve {_CURVES.get(colour.transfer, colour.transfer)}")
    return ", ".join(words)
