"""Opens the input of a conversion, and finds the frames that are asked for."""

from bisect import bisect_left, bisect_right
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from rematte.errors import InputError
from rematte.options import Options
from rematte.video.opening import Limits
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader


def open_reader(
    source: str | Path,
    options: Options,
    start: Fraction | None = None,
    end: Fraction | None = None,
    size: tuple[int, int] | None = None,
) -> VideoReader:
    """Open an input as the options say, from one time to another [s].

    Frames are stretched to `size`, width and height [pixels], if given; else the
    options decide.
    """
    how = ReadOptions(
        size=size or options.input_resize,
        fit=options.fit if options.input_resize and not size else "stretch",
        start=start, end=end, frame_rate=options.rate, hold_gaps=True,
        ignore_errors=options.ignore_errors, threads=options.num_workers,
        hwaccel=options.hwaccel, audio=options.audio, input_alpha=options.input_alpha,
        limits=Limits(options.max_pixels, options.allow_lists),
        deinterlace=options.deinterlace or "auto",
    )  # fmt: skip
    reader, top = VideoReader(source, how), options.top_rate
    rate = max(reader.info.rate, reader.average_rate)
    if top is None or reader.images or rate <= top:
        return reader
    reader.close()
    return VideoReader(source, replace(how, frame_rate=top))


def frames_within(
    reader: VideoReader, options: Options
) -> tuple[list[Fraction], int, int]:
    """Find the frames of a source that are asked for.

    Returns:
        The time of each frame of the source [s], the index of the first one that is
        asked for, and that of the first one after these.

    Raises:
        InputError: If there is no such frame, or the source does not say its times.
    """
    since, until = options.span
    times = reader.times()
    # A frame is shown until the next, the last as long as usual.
    ends = [*times[1:], *(shown + 1 / reader.info.rate for shown in times[-1:])]
    begin = 0 if since is None else bisect_right(ends, since)
    stop = len(times) if until is None else bisect_left(times, until)
    if options.limit is not None:
        stop = min(stop, begin + options.limit)
    if begin >= stop:
        raise no_frame(reader, options)
    return times, begin, stop


def no_frame(
    reader: VideoReader, options: Options, segment: Fraction | None = None
) -> InputError:
    """Make the error for a source without frames between `start` and `end`.

    If `segment` is given, the error is that of the segment that starts then [s].
    """
    if segment is not None:
        return InputError(
            f"{reader.path}: no frame of the segment that starts at "
            f"{float(segment):.3f} s can be decoded; leave out resume and workers "
            "(--resume, --workers)"
        )
    return InputError(
        f"{reader.path}: no frame between {options.start or 0} and "
        f"{options.end or 'its end'}; choose another start (--start)"
    )
