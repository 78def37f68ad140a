"""Joins segments that are encoded already, by copying their packets."""

from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from rematte.errors import OutputError
from rematte.video.opening import open_input


def _packets_of(segment: Path) -> Iterator[Any]:
    """Yield the packets of a file's picture in decoding order."""
    with open_input(segment) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.pts is not None:  # None marks the end
                yield packet


def _display_order(segment: Path) -> list[int]:
    """Return the positions in display of a file's frames, in decoding order."""
    times = [packet.pts for packet in _packets_of(segment)]
    positions = {pts: position for position, pts in enumerate(sorted(times))}
    return [positions[pts] for pts in times]


def reorder_depth(segment: Path) -> int:
    """Return the most frames by which decoding runs ahead of display."""
    return max(index - n for index, n in enumerate(_display_order(segment)))


class Timing:
    """Gives the packets of segments their times in the joined file.

    `time_base` is its unit [s], `depth` the largest `reorder_depth` of all segments.
    """

    def __init__(self, time_base: Fraction, depth: int) -> None:
        self._base, self._depth = time_base, depth
        self._decoded: deque[int] = deque()  # after each segment as many as `depth`

    def retime(
        self, segment: Path, ticks: Sequence[int], durations: Sequence[Fraction]
    ) -> Iterator[tuple[Any, int]]:
        """Yield the packets of the next segment with new times, and their frames.

        Frames are indices in the order of display. In that order, `ticks` say when each
        is shown, in units of the time base, and `durations` for how long [s].

        Raises:
            OutputError: If the segment has another number of frames.
        """
        order = _display_order(segment)
        if len(order) != len(ticks):
            raise OutputError(
                f"{segment} has {len(order)} frames instead of {len(ticks)}; delete "
                "it to have it made again"
            )
        if not self._decoded:  # decoding starts before the first frame is shown
            self._decoded.extend(_lead_in(ticks, self._depth))
        self._decoded.extend(ticks)
        for packet, index in zip(_packets_of(segment), order, strict=True):
            packet.time_base, packet.pts = self._base, ticks[index]
            packet.dts = self._decoded.popleft()
            packet.duration = round(durations[index] / self._base)
            yield packet, index


def _lead_in(ticks: Sequence[int], depth: int) -> list[int]:
    """Return decoding times before the first frame, as encoders choose them."""
    if len(ticks) <= depth:
        return [ticks[0] - n for n in range(depth, 0, -1)]
    return [tick - (ticks[depth] - ticks[0]) for tick in ticks[:depth]]
