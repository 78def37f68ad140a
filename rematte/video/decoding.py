"""Decodes the packets of a video's picture, past damage if that is allowed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from rematte.errors import InputError
from rematte.video.clock import Clock
from rematte.video.fields import deinterlace
from rematte.video.notes import CONCEALED, add_note
from rematte.video.opening import read_packets
from rematte.video.read_options import ReadOptions
from rematte.video.transparency import alpha_decoder


def is_reordered(stream: VideoStream) -> bool:
    """Whether frames are decoded in another order than shown, without stated times.

    AVI states only when packets come; frames are shown at these times in turn.
    """
    kind = stream.container.format.name
    return kind == "avi" and bool(stream.codec_context.has_b_frames)


def repeats(packet: Any) -> bool:
    """Whether a packet is empty and repeats the frame before.

    Source:
        Theora I Specification, section 7.11: an empty packet has no coded blocks.
    """
    return not packet.size and packet.pts is not None


@dataclass
class Decoder:
    """Decodes one pass over a video, from its container's current position.

    `notes` are those of `VideoSource`; `found` receives damage by its time in the file
    [s], as `VideoReader.damaged` describes it.
    """

    path: Path
    container: InputContainer
    stream: VideoStream
    clock: Clock
    options: ReadOptions
    notes: list[str]
    found: dict[Fraction, str]
    # Times of frames that are being decoded; only of reordered ones.
    _times: list[int] = field(default_factory=list, init=False)
    _last: av.VideoFrame | None = field(default=None, init=False)

    def pictures(self) -> Iterator[av.VideoFrame]:
        """Yield decoded frames in order, deinterlaced."""
        return deinterlace(
            self._decode(),
            self.stream.codec_context,
            self.options.deinterlace,
            partial(add_note, self.notes),
        )

    def _decode(self) -> Iterator[av.VideoFrame]:
        count, expected = 0, self.clock.picture
        usual = 1 / (self.stream.guessed_rate or Fraction(25))
        demuxed = read_packets(self.container, self.stream, notes=self.notes)
        packets = self.clock.packets(demuxed)
        reordered, decoder = is_reordered(self.stream), self._choose_decoder()
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if reordered and packet.size and packet.dts is not None:
                    self._times.append(packet.dts)
                if packet.is_corrupt:
                    self._record_damage(packet, expected)
                frames = self._frames(decoder, packet)
            except av.error.FFmpegError as error:
                if self.options.ignore_errors:
                    # Threads raise late, but in order: the next frame is lost.
                    self.found[expected] = ""
                    expected += usual
                    del self._times[:1]
                    continue
                where = f"after {count} frames" if count else "from its beginning"
                raise InputError(
                    f"{self.path}: damaged {where} ({error.strerror}); "
                    "copy the file again, or pass ignore_errors (--ignore-errors) to "
                    "continue past the damage"
                ) from error
            for frame in frames:
                count += 1
                frame.pts = self._times.pop(0) if self._times else frame.pts
                if frame.pts is not None and frame.time_base:
                    expected = frame.pts * frame.time_base
                if frame.is_corrupt:
                    self.found[expected] = CONCEALED
                expected += usual
                self._last = frame
                yield frame

    def _choose_decoder(self) -> Any:
        name = alpha_decoder(self.stream) if self.options.needs_alpha else None
        return av.CodecContext.create(name, "r") if name else self.stream.codec_context

    def _frames(self, decoder: Any, packet: Any) -> list[av.VideoFrame]:
        if not repeats(packet):
            decoded: list[av.VideoFrame] = decoder.decode(packet)
            return decoded
        if self._last is None:
            return []
        self._last.pts = packet.pts  # whoever took the frame has read its time
        return [self._last]

    def _record_damage(self, packet: Any, expected: Fraction) -> None:
        """Record a packet that lacks parts according to the file itself."""
        at = expected if packet.pts is None else packet.pts * packet.time_base
        if any(abs(at - jump) < 1 for jump in self.clock.jumps):
            return  # where recordings are joined, FFmpeg takes the edit for a loss
        self.found[at] = CONCEALED
