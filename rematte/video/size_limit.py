"""Keeps a video within a number of bytes, by encoding it again if it is larger.

Meanwhile the frames are saved losslessly in a hidden file beside the output, so the
network runs only once. Quality is lowered first; if that is not enough, frames are
dropped.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, log2
from pathlib import Path

from rematte.errors import OutputError
from rematte.video.base_writer import Writer
from rematte.video.encoding import Encoding
from rematte.video.frame import Frame, VideoInfo
from rematte.video.opening import open_input
from rematte.video.spare import Spare
from rematte.video.writer import FileWriter

PASSES = 3
# The share of the limit that the second and the third pass aim at.
_AIMS = (0.9, 0.8)
_FEWEST = 4  # frames per second that must be left, to show movement


@dataclass(frozen=True)
class _Pass:
    """One pass: the encoding, the share of frames that are kept, and the bytes made."""

    encoding: Encoding
    share: float = 1.0
    size: int = 0


class LimitedWriter(Writer):
    """Writes a video of at most `limit` bytes.

    `make` opens a writer of the output with an encoding, and `encoding` is that of the
    first pass.
    """

    def __init__(
        self, make: Callable[[Encoding], FileWriter], encoding: Encoding,
        info: VideoInfo, path: Path, limit: int,
    ) -> None:  # fmt: skip
        super().__init__(path, encoding)
        self._make, self._info, self._limit = make, info, limit
        self._encoding, self._writer = encoding, make(encoding)
        self.notes = self._writer.notes
        self._spare = Spare(path, info)
        self._completed = False

    def write(self, frame: Frame) -> None:
        """Encode a frame, and save it to be encoded again."""
        self._writer.write(frame)
        self._spare.write(frame)

    def complete(self, end: Fraction | None = None) -> None:
        """Complete the file, in as many passes as it takes.

        Raises:
            OutputError: If it is still too large after the last pass.
        """
        if self._completed:
            return
        wanted, tried = _Pass(self._encoding), list[_Pass]()
        while True:
            self._writer.complete(end)
            size = self._writer.temporary.stat().st_size
            tried.append(replace(wanted, size=size))
            if size <= self._limit:
                break
            if len(tried) == PASSES:
                raise self._too_large(tried, f"{PASSES} passes were made")
            wanted = self._next(tried)
            self._writer.discard()
            self._writer = self._make(wanted.encoding)
            self.notes = self._writer.notes
            for frame in self._chosen(wanted.share):
                self._writer.write(frame)
        self._spare.drop()
        self._completed = True
        if len(tried) > 1:
            self.notes.append(self._describe(tried))

    def _chosen(self, share: float) -> Iterator[Frame]:
        """Yield an even share of the frames; each is shown until the next one."""
        frames = self._spare.frames
        later = range(1, len(frames))
        kept = [n for n in later if int(n * share) > int((n - 1) * share)]
        ends = [frames[n].time for n in kept] + [frames[-1].time + frames[-1].duration]
        until = dict(zip((0, *kept), ends, strict=True))
        for index, frame in enumerate(self._spare.read()):
            if index in until:
                yield replace(frame, duration=until[index] - frame.time)

    def _next(self, tried: list[_Pass]) -> _Pass:
        last, beside = tried[-1], _bytes_beside(self._writer.temporary)
        aim = _AIMS[len(tried) - 1] * self._limit - beside
        if aim <= 0:
            raise self._too_large(tried, f"the sound alone has {beside:,}")
        encoding, factor = last.encoding, aim / max(1, last.size - beside)
        crf = encoding.crf
        if encoding.mbps is not None:
            encoding = replace(encoding, mbps=encoding.mbps * factor)
            # An encoder that missed the bit rate once may miss it again: then frames
            # are left out, too.
            factor = factor if len(tried) > 1 else 1
        elif crf is not None and encoding.codec.coarser:
            usual, most = encoding.codec.coarser
            halving = _measured_halving(tried, usual)
            if halving < 2 * usual:  # else coarser quality hardly saves bytes
                wanted = max(crf, min(most, ceil(crf - log2(factor) * halving)))
                factor *= 2 ** ((wanted - crf) / halving)
                encoding = replace(encoding, crf=wanted)
        share = last.share * min(1.0, factor)
        if share * self._info.rate < _FEWEST:
            raise self._too_large(
                tried, f"it would keep fewer than {_FEWEST} frames a second"
            )
        return _Pass(encoding, share)

    def _too_large(self, tried: list[_Pass], why: str) -> OutputError:
        return OutputError(
            f"{self.path} has {tried[-1].size:,} bytes, max_bytes (--max-bytes) allows "
            f"{self._limit:,}, and {why}; convert a shorter part (--start, --end), a "
            "smaller size (--resize) or, if there is any, without sound (--no-audio)"
        )

    def _describe(self, tried: list[_Pass]) -> str:
        first, last = tried[0], tried[-1]
        parts = [f"{first.size:,} bytes became {last.size:,} in pass {len(tried)}"]
        if last.encoding.crf != first.encoding.crf:
            parts.append(f"CRF {first.encoding.crf} became {last.encoding.crf}")
        if last.encoding.mbps != first.encoding.mbps:
            parts.append(f"the bit rate is {last.encoding.mbps:.3g} Mbit/s")
        if last.share < 1:
            parts.append(
                f"{last.share:.0%} of the frames are left "
                f"({float(last.share * self._info.rate):.3g} a second)"
            )
        return ", ".join(parts)

    def keep_partial(self) -> Path | None:
        """Keep what the first pass has encoded."""
        self._spare.drop()
        return self._writer.keep_partial()

    def discard(self) -> None:
        """Remove the file and the saved frames."""
        self._spare.drop()
        self._writer.discard()


def _measured_halving(tried: list[_Pass], usual: float) -> float:
    """Return the CRF step that halves the bytes, measured in two passes if possible."""
    one, two = tried[-2:] if len(tried) > 1 else (tried[0], tried[0])
    before, after = one.encoding.crf, two.encoding.crf
    if before is None or after is None or after <= before or one.share != two.share:
        return usual
    halvings = log2(one.size / two.size) if two.size < one.size else 0.0
    return min(4 * usual, (after - before) / max(halvings, 0.1))


def _bytes_beside(file: Path) -> int:
    """Count the bytes of a file's sound and other tracks."""
    with open_input(file) as container:
        others = [stream for stream in container.streams if stream.type != "video"]
        if not others:
            return 0
        return sum(packet.size for packet in container.demux(others))
