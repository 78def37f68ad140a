"""Reads the clock of a file: its start time and its jumps.

Every reader of a file uses the same `Clock`, so that picture, sound and subtitles stay
in sync, and 0 is when the first picture or sound is presented.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from rematte.video.opening import DEFAULT_LIMITS, Limits, open_input, read_packets

# Broadcast formats are cut and joined byte by byte, so that their clock may jump, and
# they may lose packets in transmission.
_BROADCAST = {"mpegts", "mpeg", "flv", "live_flv"}

# A longer step forward is a jump of the clock in a broadcast, otherwise a gap [s].
LONG_STEP = 10
# A shorter step back comes from a muxer's inaccurate times [s].
SHORT_STEP = Fraction(1, 10)


@dataclass(frozen=True)
class Run:
    """Packets of one stream whose times follow one another without a jump."""

    first: int  # index of its first packet among those of the stream
    count: int  # how many packets it has
    start: Fraction  # earliest time at which one of them is presented [s]
    end: Fraction  # time at which the last of them ends [s]
    back: bool = False  # whether the jump before it went back in time
    opens: int = 0  # index of its first packet among all packets of the file
    closes: int = 0  # index of its last packet among all packets of the file


@dataclass(frozen=True)
class Clock:
    """The clock of a file.

    Attributes:
        origin: Time in the file that is 0 [s].
        shifts: By stream index, pairs of a packet's index and the time [s] that is
            added from it on; empty if the clock never jumps.
        jumps: When the clock jumps [s], in the file's time without the jumps.
        sounds: Earliest time of the sound in the file [s]; None without sound.
        picture: Time of the first picture in the file [s]; packets before it cannot be
            decoded, as in a recording that starts between key frames.
        frames: Number of the picture's packets, if they were counted.
        unread: Number of bytes at the end of the file that cannot be read.
    """

    origin: Fraction = Fraction(0)
    shifts: Mapping[int, Sequence[tuple[int, Fraction]]] = field(default_factory=dict)
    jumps: Sequence[Fraction] = ()
    sounds: Fraction | None = None
    picture: Fraction = Fraction(0)
    frames: int | None = None
    unread: int = 0

    def starting(self, picture: Fraction) -> "Clock":
        """Return the clock that starts with the sound, or with `picture` [s]."""
        first = picture if self.sounds is None else min(picture, self.sounds)
        return replace(self, origin=first, picture=picture)

    def packets(self, packets: Iterable[Any]) -> Iterator[Any]:
        """Remove the jumps from the times of packets, read from the start of the file.

        Where two recordings overlap, their sound is used once.
        """
        if not self.shifts:
            yield from packets
            return
        counts = dict.fromkeys(self.shifts, 0)
        ends: dict[int, int] = {}
        for packet in packets:
            index = packet.stream.index
            if packet.size and index in counts:
                shifts, count = self.shifts[index], counts[index]
                shift = next(by for first, by in reversed(shifts) if first <= count)
                counts[index] += 1
                ticks = round(shift / packet.time_base)
                if packet.dts is not None:
                    packet.dts += ticks
                if packet.pts is not None:
                    packet.pts += ticks
                    length = packet.duration or 0
                    sound = packet.stream.type == "audio"
                    if sound and packet.pts + length / 2 < ends.get(index, packet.pts):
                        continue
                    ends[index] = packet.pts + length
            yield packet

    def notes(self) -> list[str]:
        """Return notes on differences from the file's times."""
        notes = []
        if self.jumps:
            where = [f"{float(at - self.origin):.3f} s" for at in self.jumps]
            more = f" and at {len(where) - 3} more times" if len(where) > 3 else ""
            notes.append(
                f"the file's clock jumps at {', '.join(where[:3])}{more}; picture and "
                "sound continue there without the jump"
            )
        if self.unread:
            notes.append(
                f"the last {self.unread} bytes of the file hold no picture or sound "
                "that can be read"
            )
        return notes


def read_clock(
    path: Path, container: InputContainer, picture: VideoStream, audio: bool,
    limits: Limits = DEFAULT_LIMITS,
) -> Clock:  # fmt: skip
    """Read an open file's clock without decoding; `Clock.starting` completes it.

    With `audio` the sound is used, which may start before the picture.
    """
    sounds = container.streams.audio if audio else ()
    known = [stream for stream in sounds if stream.codec_context is not None]
    if container.format.name in _BROADCAST and path.is_file():
        state = path.stat()
        runs, read = _read_runs(path, state.st_size, state.st_mtime_ns, limits)
        priming = {stream.index: _priming(stream) for stream in known}
        clock = undo_jumps(runs, picture.index, priming)
        # Transport overhead and padding are less than a tenth, or one pack.
        unread = state.st_size - read
        pack = 2048 if container.format.name == "mpeg" else 0
        lost = unread > max(state.st_size / 10, pack)
        return replace(clock, unread=unread if lost else 0)
    starts = [
        stream.start_time * stream.time_base + _priming(stream)
        for stream in known
        if stream.start_time is not None and stream.time_base
    ]
    return Clock(sounds=min(starts, default=None))


def _priming(stream: Any) -> Fraction:
    """Return the duration of a sound's priming samples, which are not heard [s].

    Decoders need them to start. MP4 and MOV state their number, and Matroska may
    (CodecDelay). FFmpeg then excludes them from the start time of the stream, except
    in Matroska if that lies before 0.

    Source:
        ISO/IEC 14496-3: an AAC frame of 1024 samples needs the overlap of the one
        before, so the first is not heard. RFC 7845, section 5.1: Opus states the
        number of its samples, at 48 kHz.
    """
    context = stream.codec_context
    samples, rate = context.delay, context.sample_rate
    if stream.container.format.name.startswith("mov") or not rate:
        return Fraction(0)
    if samples:
        samples *= (stream.start_time or 0) < 0
    elif context.name in ("aac", "aac_latm"):
        samples = 1024
    elif context.name in ("opus", "libopus") and context.extradata:
        samples, rate = int.from_bytes(context.extradata[10:12], "little"), 48000
    # In whole units, like the stated times.
    unit: Fraction = stream.time_base
    return math.floor(Fraction(samples, rate) / unit + Fraction(1, 2)) * unit


@lru_cache(16)
def _read_runs(
    path: Path, size: int, changed: int, limits: Limits
) -> tuple[dict[int, tuple[Run, ...]], int]:
    """Read the runs of all streams, and the offset at which the last packet ends.

    `size` and `changed` are only keys of the cache.
    """
    readers: dict[int, _RunReader] = {}
    end = 0
    with open_input(path, limits=limits) as container, suppress(av.error.FFmpegError):
        streams = [
            stream
            for stream in container.streams
            if stream.type in ("video", "audio", "subtitle") and stream.codec_context
        ]
        readers = {stream.index: _RunReader(stream) for stream in streams}
        for index, packet in enumerate(read_packets(container, *streams)):
            if packet.size:
                readers[packet.stream.index].read(packet, index)
                end = max(end, (packet.pos or 0) + packet.size)
    return {index: reader.runs() for index, reader in readers.items()}, end


class _RunReader:
    """Collects the runs of one stream, in its own units."""

    def __init__(self, stream: Any) -> None:
        self._base = stream.time_base
        rate = getattr(stream, "guessed_rate", None)
        self._usual = round(1 / rate / self._base) if rate else 0
        self._steps = -int(SHORT_STEP / self._base), int(LONG_STEP / self._base)
        self._last: int | None = None
        self._count = 0
        # The first packet's number, start, end, whether the jump goes back, and the
        # indices of the first and the last packet.
        self._found: list[list[Any]] = []

    def read(self, packet: Any, index: int) -> None:
        at = packet.dts if packet.dts is not None else packet.pts
        if at is not None:  # else the packet belongs to the run around it
            shown = packet.pts if packet.pts is not None else at
            end = shown + (packet.duration or self._usual)
            least, most = self._steps
            step = 0 if self._last is None else at - self._last
            if self._last is None or not least <= step <= most:
                first = self._count if self._found else 0
                self._found.append([first, shown, end, step < 0, index, index])
            run, self._last = self._found[-1], at
            run[1], run[2], run[5] = min(run[1], shown), max(run[2], end), index
        self._count += 1

    def runs(self) -> tuple[Run, ...]:
        ends = [*(run[0] for run in self._found[1:]), self._count]
        found = zip(self._found, ends, strict=False)
        return tuple(
            Run(first, after - first, start * self._base, end * self._base, *others)
            for (first, start, end, *others), after in found
        )


def undo_jumps(
    runs: Mapping[int, Sequence[Run]], picture: int, sounds: Mapping[int, Fraction]
) -> Clock:
    """Find the clock on which the picture of a file continues without a jump.

    `picture` is a stream's index. `runs`, and the duration of the priming of each sound
    that is used [s], are by stream index.
    """
    shown = runs.get(picture, ())
    others = {index: each for index, each in runs.items() if index != picture and each}
    parts = _join_holes(shown, [run for each in others.values() for run in each])
    if not parts:
        return Clock()
    moved, jumps = [Fraction(0)], []
    for before, after in pairwise(parts):
        moved.append(before.end + moved[-1] - after.start)
        jumps.append(after.start + moved[-1])
    shifts = {picture: [(run.first, by) for run, by in zip(parts, moved, strict=False)]}
    for index, each in others.items():
        shifts[index] = [
            (run.first, moved[part])
            for run, part in zip(each, _assign(each, parts), strict=True)
        ]
    heard = [
        others[index][0].start + shifts[index][0][1] + priming
        for index, priming in sounds.items()
        if index in others
    ]
    return Clock(
        shifts=shifts if jumps else {},
        jumps=jumps,
        sounds=min(heard, default=None),
        frames=sum(run.count for run in shown),
    )


def _join_holes(shown: Sequence[Run], others: Sequence[Run]) -> list[Run]:
    """Join parts of the picture if another stream continues between them."""
    parts = list(shown[:1])
    for run in shown[1:]:
        last = parts[-1]
        continues = not run.back and any(
            other.start <= last.end
            and other.end >= run.start
            and other.opens < run.opens
            and other.closes > last.closes
            for other in others
        )
        if continues:
            count = last.count + run.count
            parts[-1] = replace(last, count=count, end=run.end, closes=run.closes)
        else:
            parts.append(run)
    return parts


def _assign(runs: Sequence[Run], parts: Sequence[Run]) -> list[int]:
    """Find the part of the picture that each run of a stream belongs to.

    It is the nearest part by the file's own times, since a stream may be missing in a
    part, and never earlier than the part of the previous run.
    """

    def distance(run: Run, part: Run) -> Fraction:
        return max(part.start - run.end, run.start - part.end, Fraction(0))

    found: list[int] = []
    for run in runs:
        least = found[-1] + run.back if found else 0
        later = range(min(least, len(parts) - 1), len(parts))
        found.append(min(later, key=lambda n: distance(run, parts[n])))
    return found
