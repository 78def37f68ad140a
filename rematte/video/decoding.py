"""Decodes the packets of a video's picture, past damage if that is allowed."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from rematte.errors import InputError
from rematte.video.clock import Clock
from rematte.video.notes import CONCEALED
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


def decode(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    clock: Clock,
    options: ReadOptions,
    notes: list[str],
    found: dict[Fraction, str],
) -> Iterator[av.VideoFrame]:
    """Decode one pass over a video, from its container's current position.

    `notes` are those of `VideoSource`; `found` receives damage by its time in the file
    [s], as `VideoReader.damaged` describes it.
    """
    count, expected = 0, clock.picture
    usual = 1 / (stream.guessed_rate or Fraction(25))
    packets = clock.packets(read_packets(container, stream, notes=notes))
    reordered = is_reordered(stream)
    times: list[int] = []  # of frames that are being decoded, if reordered
    last: av.VideoFrame | None = None
    name = alpha_decoder(stream) if options.needs_alpha else None
    decoder: Any = av.CodecContext.create(name, "r") if name else stream.codec_context
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            if reordered and packet.size and packet.dts is not None:
                times.append(packet.dts)
            if packet.is_corrupt:
                found.update(_damage(packet, expected, clock))
            frames = _again(last, packet) if repeats(packet) else decoder.decode(packet)
        except av.error.FFmpegError as error:
            if options.ignore_errors:
                # Threads raise late, but in order: the next frame is lost.
                found[expected] = ""
                expected += usual
                del times[:1]
                continue
            where = f"after {count} frames" if count else "from its beginning"
            raise InputError(
                f"{path}: damaged {where} ({error.strerror}); copy the file again, or "
                "pass ignore_errors (--ignore-errors) to continue past the damage"
            ) from error
        for frame in frames:
            count += 1
            frame.pts = times.pop(0) if times else frame.pts
            if frame.pts is not None and frame.time_base:
                expected = frame.pts * frame.time_base
            if frame.is_corrupt:
                found[expected] = CONCEALED
            expected += usual
            last = frame
            yield frame


def _again(last: av.VideoFrame | None, packet: Any) -> list[av.VideoFrame]:
    if last is None:
        return []
    last.pts = packet.pts  # whoever took the frame has read its time
    return [last]


def _damage(packet: Any, expected: Fraction, clock: Clock) -> dict[Fraction, str]:
    """Return when a packet is shown that lacks parts according to the file itself."""
    at = expected if packet.pts is None else packet.pts * packet.time_base
    # Where recordings are joined, FFmpeg takes the edit for a loss.
    joined = any(abs(at - jump) < 1 for jump in clock.jumps)
    return {} if joined else {at: CONCEALED}
