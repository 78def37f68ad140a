"""Reads the frames of a video file with their exact times."""

import itertools
import math
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from operator import sub
from pathlib import Path
from typing import Any, TypeVar

import av
from av.codec.hwaccel import HWAccel
from av.format import Flags

from rematte.errors import InputError
from rematte.video.clock import LONG_STEP, read_clock
from rematte.video.colour import frame_colour, frame_depth, lost_metadata, to_rgb
from rematte.video.decoding import decode, is_reordered, repeats
from rematte.video.fields import deinterlace
from rematte.video.fitting import Upright, place
from rematte.video.frame import Frame, LazyFrame, VideoInfo
from rematte.video.notes import CONCEALED, add_note
from rematte.video.opening import (
    describe_missing,
    open_input,
    read_packets,
    video_stream,
)
from rematte.video.read_options import ReadOptions
from rematte.video.scene_cuts import sketch
from rematte.video.timecode import Timecode, find_timecode
from rematte.video.transparency import note_ignored_alpha, source_alpha

T = TypeVar("T")
# An item, the time at which it is shown [s], and its duration [s].
Shown = tuple[T, Fraction, Fraction]

# The names of stream types in notes.
_TRACKS = {
    "audio": "sound",
    "subtitle": "subtitles",
    "video": "other pictures",
    "data": "data",
    "attachment": "attachments",
}


class VideoSource:
    """The frames of a video file, in order; attributes are those of `VideoReader`.

    Raises:
        InputError: If the file cannot be read.
    """

    def __init__(self, path: Path, options: ReadOptions, notes: list[str]) -> None:
        self._path, self._options, self._notes = path, options, notes
        self._found: dict[Fraction, str] = {}
        self._closed = False
        self._open()
        opened = path, self._container, self._stream
        self.clock = read_clock(*opened, options.audio, options.limits)
        self._pictures = self._decode()
        first = next(self._pictures, None)
        if first is None:
            raise InputError(
                f"{path}: the video stream has no frames; the file may be cut off: "
                "copy it again"
            )
        self._pictures = itertools.chain([first], self._pictures)
        self.info = self._read_info(first)
        notes += self.clock.notes()
        if options.hwaccel and not self._stream.codec_context.is_hwaccel:
            notes.append(
                f"hwaccel {options.hwaccel} cannot be used for this video on this "
                "machine; the processor decoded it"
            )

    def close(self) -> None:
        """Release the file, its decoder and their threads."""
        self._container.close()
        # The generator of frames holds the decoder.
        self._pictures = iter(())
        self._closed = True

    @property
    def damaged(self) -> dict[float, str]:
        """See `VideoReader`; what is concealed counts between `start` and `end`."""
        start, end = self._options.start or 0, self._options.end
        damage = [(at - self.clock.origin, how) for at, how in self._found.items()]
        return {
            float(time): how
            for time, how in damage
            if how != CONCEALED or (start <= time and (end is None or time < end))
        }

    def times(self) -> list[Fraction]:
        """Return when each frame is shown [s], without decoding if packets have times.

        Raises:
            InputError: If some frames have no times.
        """
        options = self._options
        if not self._timed:  # then frames are counted, and packets may differ
            options = replace(
                options, size=None, start=None, end=None, deinterlace="off",
                alpha=False, input_alpha=None, audio=True,
            )  # fmt: skip
            with closing(VideoSource(self._path, options, [])) as again:
                return [time for _, time, _ in again._shown()]
        ticks = array("q")
        reordered = is_reordered(self._stream)
        with (
            open_input(self._path, limits=options.limits) as container,
            suppress(av.error.FFmpegError),
        ):
            stream = video_stream(container, self._path, options.limits)
            for packet in self.clock.packets(read_packets(container, stream)):
                if (packet.size or repeats(packet)) and not packet.is_discard:
                    shown = packet.dts if reordered else packet.pts
                    if shown is None:
                        raise InputError(
                            f"{self._path}: some of its frames have no times; put them "
                            "into a container that has: ffmpeg -i IN -c copy OUT.mkv"
                        )
                    ticks.append(shown)
        shown_at = (tick * self._time_base for tick in sorted(set(ticks)))
        clock = self.clock
        times = [time - clock.origin for time in shown_at if time >= clock.picture]
        if not self._target:
            return times
        ends = [*times[1:], *(time + self._usual for time in times[-1:])]
        frames = zip(times, times, map(sub, ends, times), strict=True)
        return [time for _, time, _ in at_rate(frames, self.info.rate)]

    def frames(self) -> Iterator[Frame]:
        """Read the frames from `start` to `end`."""
        has_alpha = self._options.input_alpha == "multiply"
        for shown in self._wanted():
            self._note_size(shown[0], shown[1])
            yield self._convert(shown, self._options.size, has_alpha)

    def lazy_frames(self) -> Iterator[LazyFrame]:
        """Decode the frames from `start` to `end`, and convert each on request."""
        for shown in self._wanted():
            convert = partial(self._convert, shown)
            yield LazyFrame(shown[1], convert, partial(sketch, shown[0]))

    def _convert(
        self, shown: Shown[av.VideoFrame], size: tuple[int, int] | None,
        has_alpha: bool = False,
    ) -> Frame:  # fmt: skip
        """Convert a decoded picture, which may differ in size from the first one."""
        info, options, upright = self.info, self._options, self._upright
        picture, time, duration = shown
        coded = picture.width, picture.height
        outer = size or (info.width, info.height)
        inner = upright.scaled_size(coded, outer, options.fit if size else "stretch")
        scaled = inner if coded != inner else None
        pixels = to_rgb(picture, info.colour, info.depth, scaled, options.alpha)
        alpha = None
        if has_alpha:
            alpha = source_alpha(picture, info.depth, scaled, upright, self._notes)
        return place(Frame(upright.apply(pixels), time, duration, alpha=alpha), outer)

    def _wanted(self) -> Iterator[Shown[av.VideoFrame]]:
        """Decode the pictures from `start` to `end`."""
        if self._closed:
            raise InputError(f"{self._path}: the reader is closed")
        start, end = self._options.start, self._options.end
        if missing := describe_missing(self._stream, self._path):
            if not self._options.ignore_errors:
                raise InputError(
                    f"{self._path}: {missing}; copy the file again, or pass "
                    "ignore_errors (--ignore-errors) to convert what is there"
                )
            add_note(self._notes, f"the file is {missing}")
        if start and self._timed:
            # Converting needs the frame before, and so does deinterlacing.
            back = 1 / self.info.rate if self._target else 0
            self._seek(max(Fraction(0), start - back - self._usual))
        shown = self._shown()
        if self._target:
            shown = at_rate(shown, self.info.rate)
        for picture, time, duration in shown:
            if end is not None and time >= end:
                return
            if start is None or time + duration > start:
                yield picture, time, duration

    # What is known before reading

    def _open(self) -> None:
        options = self._options
        hardware = HWAccel(options.hwaccel) if options.hwaccel else None
        self._container = open_input(self._path, hardware, options.limits)
        self._stream = video_stream(self._container, self._path, options.limits)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Decode one pass from the current position, deinterlaced."""
        pictures = decode(
            self._path, self._container, self._stream, self.clock, self._options,
            self._notes, self._found,
        )  # fmt: skip
        mode, note = self._options.deinterlace, partial(add_note, self._notes)
        return deinterlace(pictures, self._stream.codec_context, mode, note)

    def _read_info(self, first: av.VideoFrame) -> VideoInfo:
        """Describe the video; its first frame says more than the container."""
        stream, size = self._stream, self._options.size
        base = first.time_base or stream.time_base or Fraction(1)
        self.clock = self.clock.starting((first.pts or 0) * base)
        self._notes += lost_metadata(first)
        note_ignored_alpha(first, self._options.input_alpha, self._notes, stream)
        self._coded = first.width, first.height
        self._upright = Upright(first, stream.sample_aspect_ratio)
        width, height = size or self._upright.size(first.width, first.height)
        rate, time_base = self._choose_times(first)
        return VideoInfo(
            width, height, rate=rate, time_base=time_base, colour=frame_colour(first),
            depth=frame_depth(first),
            sample_aspect_ratio=self._upright.pixel_aspect(size, self._options.fit),
            frames=self._estimate_frames(), timecode=self._read_timecode(first),
            other_tracks=self._other_tracks(),
        )  # fmt: skip

    def _choose_times(self, first: av.VideoFrame) -> tuple[Fraction, Fraction]:
        """Decide where times come from; gives the rate and the unit of all times."""
        stream = self._stream
        base = self._time_base = Fraction(stream.time_base or Fraction(1, 90000))
        length = (first.duration or 0) * (first.time_base or base)
        # A header may count fields, and the average is 25 where there are no times.
        stated = [Fraction(r) for r in (stream.guessed_rate, stream.average_rate) if r]
        near = [rate for rate in stated if abs(rate * length - 1) < Fraction(1, 10)]
        rates = [*near, *stated, 1 / length if length else Fraction(30)]
        # Some files claim thousands; encoders refuse frames shorter than a unit.
        rate = min(rates[0], 1 / base)
        kind, wanted = stream.container.format, self._options.frame_rate
        # FFmpeg then makes up times from the rate of 25 that it assumes.
        flag: Any = Flags.no_timestamps
        untimed = kind.flags & flag.value or kind.name.endswith("_pipe")
        self._timed = not untimed and first.pts is not None
        self._target = wanted if self._timed else None
        average = Fraction(stream.average_rate or 0)
        if not (self._timed and average and average < 1 / base):
            average = rate  # raw DV claims a frame a unit
        self._even = wanted if wanted == rate == average else None
        if self._target and not self._even:
            self._notes.append(
                f"converted by time from {float(average):.6g} to "
                f"{float(self._target):.6g} frames/s: frames are dropped or repeated"
            )
        self._usual, self.average_rate = 1 / rate, average
        if self._timed and wanted is None:
            return rate, base
        rate = self.average_rate = wanted or rate
        if not self._timed:
            self._usual = 1 / rate
        # Half a frame is the length of a field, by which some frames are longer.
        return rate, Fraction(1, 2 * rate.numerator)

    def _estimate_frames(self) -> int | None:
        stream, options = self._stream, self._options
        frames = self.clock.frames or stream.frames
        whole = options.start is None and options.end is None
        if whole and frames and not self._target:
            return frames
        if self.clock.frames:
            end = self.clock.frames / self.average_rate
        elif stream.duration and stream.time_base:
            end = stream.duration * stream.time_base
        elif self._container.duration:
            end = Fraction(self._container.duration, av.time_base)
        else:
            return None
        end = end if options.end is None else min(end, options.end)
        return max(0, round((end - (options.start or 0)) * self.average_rate))

    def _read_timecode(self, first: av.VideoFrame) -> Timecode | None:
        """Find the timecode in tags of the video, the file, a track or the frame."""
        streams = self._container.streams
        text = find_timecode([self._stream, self._container, *streams.data, first])
        if text is None:
            return None
        # A video that is converted counts at its own rate up to here.
        rate = 1 / self._usual
        found = Timecode.parse(text, rate, self._time(first) or Fraction(0))
        if found is None:
            self._notes.append(
                f"timecode {text} is left out: frames cannot be counted like that at "
                f"{float(rate):.6g} frames/s"
            )
        elif self._target:
            return found.converted(self._target)
        return found

    def _other_tracks(self) -> tuple[str, ...]:
        """Name what the file holds besides its picture, as far as it is wanted."""
        types = {
            stream.type
            for stream in self._container.streams
            if stream.index != self._stream.index
            # Chapters and timecode are tracks of MP4.
            and not (stream.type == "data" and stream.name == "bin_data")
            and "timecode" not in stream.metadata
        } - (set() if self._options.audio else {"audio"})
        chapters = ("chapters",) if self._container.chapters() else ()
        return *(name for kind, name in _TRACKS.items() if kind in types), *chapters

    # Frames and their times

    def _time(self, picture: av.VideoFrame) -> Fraction | None:
        """Return when a picture is shown [s], if the file states it."""
        if picture.pts is None or not self._timed:
            return None
        unit = picture.time_base or self._time_base
        return picture.pts * unit - self.clock.origin

    def _shown(self) -> Iterator[Shown[av.VideoFrame]]:
        """Yield decoded pictures, with the time [s] and the length [s] of display."""
        base, usual = self._time_base, self._usual
        last: Shown[av.VideoFrame] | None = None
        for picture in self._pictures:
            length = (picture.duration or 0) * (picture.time_base or base)
            if not self._timed and self._options.frame_rate is not None:
                length = usual
            time = self._time(picture)
            if time is None:
                time = Fraction(0) if last is None else last[1] + last[2]
            if last is not None:
                # Muxers refuse times that do not grow, which broken files have.
                time = max(time, last[1] + base)
                self._note_steps(last[1], time)
                # A frame is shown until the next; not all containers state a length.
                yield last[0], last[1], time - last[1]
            last = picture, time, length or usual
        if last is not None:
            yield last

    def _note_steps(self, since: Fraction, until: Fraction) -> None:
        """Note a long hole, or a conversion that the header's rates did not show."""
        length, rate = until - since, self._even
        if length > LONG_STEP:
            add_note(
                self._notes,
                f"there is no picture from {float(since):.3f} to {float(until):.3f} s: "
                "the frame before is shown until then",
            )
        if self._target and rate and abs(length * rate - 1) > Fraction(1, 2):
            add_note(
                self._notes,
                f"converted by time to {float(rate):.6g} frames/s from uneven times: "
                "frames are dropped or repeated",
            )

    def _note_size(self, picture: av.VideoFrame, time: Fraction) -> None:
        """Note where the video changes its size for the first time."""
        first, coded = self._coded, (picture.width, picture.height)
        if coded != first and not any("changes its size" in n for n in self._notes):
            self._notes.append(
                f"the picture changes its size at {float(time):.3f} s from "
                f"{first[0]}x{first[1]} to {coded[0]}x{coded[1]}: it is scaled to the "
                "first size"
            )

    def _seek(self, time: Fraction) -> None:
        """Continue with a frame that is shown at or before a time [s].

        Few containers can tell which key frame that is; some seek too far.
        """
        # Positions in the file do not follow from times, or times from positions.
        if self.clock.jumps or is_reordered(self._stream):
            return
        origin, back = self.clock.origin, Fraction(0)
        while time > back:
            # Decoding fails where the position is not that of a key frame.
            with suppress(av.error.FFmpegError, InputError):
                at = int((time - back + origin) / self._time_base)
                self._container.seek(at, stream=self._stream)
                self._pictures = self._decode()
                first = next(self._pictures, None)
                if (
                    first
                    and first.pts is not None
                    and first.pts * self._time_base <= time + origin
                ):
                    self._pictures = itertools.chain([first], self._pictures)
                    return
            back = 2 * back or Fraction(1)
        self.close()
        self._closed = False
        self._open()
        self._pictures = self._decode()


def at_rate(shown: Iterable[Shown[T]], rate: Fraction) -> Iterator[Shown[T]]:
    """Leave frames out or repeat them, to get a constant rate.

    The new times are multiples of 1 / `rate`, whatever the first time is, so that a
    part of a video gets the same frames as the whole. Each frame shows what the source
    shows in the middle of its duration, so small errors in the source's times do not
    matter. The given frames follow each other without gaps.
    """
    step, half = 1 / rate, Fraction(1, 2)
    count, alone = 0, None
    for thing, time, duration in shown:
        # The first frame whose middle is not before a time.
        first = math.ceil(time * rate - half)
        past = math.ceil((time + duration) * rate - half)
        for number in range(first, past):
            yield thing, number * step, step
            count += 1
        alone = thing, first * step, step
    if alone is not None and not count:  # the whole clip is shorter than half a frame
        yield alone
