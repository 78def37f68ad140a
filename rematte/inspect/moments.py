"""Samples a source: a few frames at evenly spaced moments, and those around them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from rematte.conversion.effects import check_options
from rematte.conversion.look import choose_regions
from rematte.conversion.outputs import Output
from rematte.conversion.source import frames_within, open_reader
from rematte.engines.engine import Engine
from rematte.matting.loop import run
from rematte.matting.matte import Matted
from rematte.matting.region import Regions
from rematte.options import Options
from rematte.video.frame import Frame, VideoInfo
from rematte.video.tone import displayed

# Frames that the network sees before one that counts. The paper sees errors settle
# within 15; of that, most is gone after 10.
LEAD = 10
# By default a moment in so many seconds, and in so many frames; how many there are.
_PERIOD, _FRAMES, _FEWEST, _MOST = 8.0, 200, 4, 24


@dataclass(frozen=True)
class Timeline:
    """The frames of a file that are asked for."""

    info: VideoInfo  # properties of the file
    times: Sequence[Fraction]  # when each of its frames is shown [s]
    begin: int  # index of the first frame that is asked for
    stop: int  # index of the first one after those
    notes: list[str]  # sentences on what differs from the source

    def span(self, begin: int, stop: int) -> tuple[Fraction, Fraction | None]:
        """Return when some frames begin and end [s]; the last one has no end."""
        end = self.times[stop] if stop < len(self.times) else None
        return self.times[begin], end

    @property
    def count(self) -> int:
        """The number of frames that are asked for."""
        return self.stop - self.begin

    @property
    def seconds(self) -> float:
        """The time for which they are shown [s]."""
        begin, end = self.span(self.begin, self.stop)
        last = self.times[-1] + 1 / self.info.rate
        return float((last if end is None else end) - begin)

    def __str__(self) -> str:
        size = f"{self.info.width}x{self.info.height}"
        return f"{size}, {self.count} frames, {self.seconds:.1f} s"

    def as_json(self) -> dict[str, Any]:
        """Give the figures as types that JSON has."""
        return {
            "width": self.info.width,
            "height": self.info.height,
            "frames": self.count,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Moment:
    """Some frames that count, and those around them."""

    frames: list[Frame]  # the frames that count, in order
    # The frames before them; near the beginning mirrored in time, so that there are
    # always as many.
    before: list[Frame]
    after: list[Frame]  # those after them, the last one first, for a pass backwards


def read_timeline(
    path: Path, options: Options, outputs: Sequence[Output] = ()
) -> Timeline:
    """Find the frames of a source that are asked for; nothing is decoded for it.

    The options are checked for the outputs that are made of it.

    Raises:
        InputError: If it cannot be read, or no frame is asked for.
        ValueError: If an option has no effect here.
    """
    with open_reader(path, options) as reader:
        notes = check_options(options, reader, outputs, False)
        times, begin, stop = frames_within(reader, options)
        return Timeline(reader.info, times, begin, stop, [*reader.notes, *notes])


def how_many(timeline: Timeline, number: int | None, every: float | None) -> int:
    """Choose how many moments: `number`, one in `every` seconds, or the usual number.

    Raises:
        ValueError: If what is given is not above 0.
    """
    if number is not None and number < 1:
        raise ValueError(f"frames (--frames) must be 1 or more, got {number}")
    if every is not None and not every > 0:
        raise ValueError(f"every (--every) must be above 0 seconds, got {every}")
    if every is not None:
        return max(1, round(timeline.seconds / every))
    usual = min(timeline.seconds / _PERIOD, timeline.count / _FRAMES)
    return number or min(max(round(usual), _FEWEST), _MOST)


def spread(timeline: Timeline, number: int, length: int) -> list[int]:
    """Choose evenly spaced runs of frames that do not overlap, by their first index.

    Where there are too few frames, the runs are fewer, or have less than `length`.
    """
    count = timeline.count
    length = min(length, count)
    number = max(1, min(number, count // length))
    last = timeline.stop - length
    middles = ((2 * i + 1) * count // (2 * number) for i in range(number))
    return [
        min(max(timeline.begin + middle - length // 2, timeline.begin), last)
        for middle in middles
    ]


def read_moment(
    path: Path, options: Options, timeline: Timeline, first: int, length: int, *,
    lead: int = LEAD, trail: int = 0, size: tuple[int, int] | None = None,
) -> Moment | None:  # fmt: skip
    """Read `length` frames of a source from index `first` on, and those around them.

    `lead` frames are needed before them and `trail` after them. All have the options'
    size, unless `size` is given: width and height [pixels].

    Returns:
        None where the file has fewer frames than it states.

    Raises:
        InputError: If they cannot be read.
    """
    low = max(timeline.begin, first - lead)
    high = min(timeline.stop, first + length + trail)
    with open_reader(path, options, *timeline.span(low, high), size) as reader:
        frames = list(islice(displayed(reader, reader.info.colour), high - low))
    place = first - low
    if len(frames) <= place:
        return None
    stop = min(place + length, len(frames))
    return Moment(
        frames[place:stop],
        [frames[_fold(i, len(frames))] for i in range(place - lead, place)],
        [frames[_fold(i, len(frames))] for i in range(stop + trail - 1, stop - 1, -1)],
    )


def _fold(index: int, count: int) -> int:
    """Mirror an index at the first and the last of some items."""
    period = max(1, 2 * (count - 1))
    index %= period
    return min(index, period - index)


def find_windows(
    model: Any, path: Path, options: Options, info: VideoInfo, progress: bool
) -> Regions | None:
    """Find the windows in which a conversion would look; None for whole frames.

    Raises:
        InputError: If the source cannot be read.
        ValueError: If a region that was given does not lie within the frame.
    """
    regions = choose_regions(model, path, options, info, progress)
    if regions is None or not any(region.windows for region in regions.regions):
        return None
    return regions


def matte_last(
    engine: Engine, ratio: float, lead: Sequence[Frame], frames: Sequence[Frame],
    regions: Regions | None = None,
) -> Iterator[Matted]:  # fmt: skip
    """Matte frames after a lead-in, whose own mattes are left out."""
    seen = [*lead, *frames]
    mattes = run(engine, seen, downsample_ratio=ratio, regions=regions)
    return islice(mattes, len(lead), None)
