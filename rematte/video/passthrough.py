"""Carries a source's sound, subtitles, chapters and tags over to an output.

Packets are copied as they are; sound is encoded anew only where the container cannot
hold its codec. The source is opened a second time for this, so that it can be read
at the pace at which the picture is written, in constant memory.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from rematte.video.opening import DEFAULT_LIMITS, Limits, open_input

# What players of the container expect, where its sound must be encoded anew.
_SOUND = {"webm": ("libopus", 48000), "mp4": ("aac", None), "mov": ("aac", None)}

# The arrangements of speakers that Opus knows, for one to eight of them.
_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")

# FFmpeg writes these itself, or they would be untrue of the new file.
_OWN_TAGS = {
    *("major_brand", "minor_version", "compatible_brands", "encoder", "rotate"),
    *("DURATION", "ENCODER", "BPS", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES"),
}


class SideStreams:
    """Everything of a source but its picture, on the way into an output.

    Args:
        source: The file to take it from.
        output: Where it goes; not yet started.
        start: What is at this time [s] of the source comes at 0 in the output.
        end: Leave out what comes after this time [s], or None.
        sound: Whether to take the sound.
        limits: What the source may ask for.

    Attributes:
        notes: What could not be carried over unchanged, in words.
    """

    def __init__(
        self,
        source: Path,
        output: OutputContainer,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
        sound: bool = True,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.notes: list[str] = []
        self._output = output
        self._start, self._end = start, end
        self._input = open_input(source, limits=limits)
        self._copied: dict[int, Stream] = {}
        self._encoded: dict[int, tuple[Any, Any]] = {}
        self._before: dict[int, int] = {}
        self._last: dict[int, int] = {}
        kinds = ("audio",) * sound + ("subtitle", "attachment")
        for stream in self._input.streams:
            if stream.type in kinds:
                self._take(stream)
        _copy_tags(self._input.metadata, output.metadata)
        if start == 0:
            output.set_chapters(_chapters_before(end, self._input.chapters()))
        self._packets = self._read()
        self._next = next(self._packets, None)

    def _take(self, stream: Stream) -> None:
        if stream.type == "attachment":
            self._attach(stream)
            return
        name = stream.codec_context.name if stream.codec_context else "unknown"
        container = self._output.format.name
        if _can_hold(self._output, name):
            copy = self._output.add_stream_from_template(stream)
            copy.time_base = stream.time_base
            self._copied[stream.index] = copy
        elif stream.type == "audio" and container in _SOUND:
            encoder, rate = _SOUND[container]
            source: Any = stream.codec_context
            layout = _layout(source.layout, encoder)
            copy = encoded = cast(Any, self._output).add_stream(
                encoder, rate=rate or source.sample_rate, layout=layout
            )
            self._encoded[stream.index] = (
                copy,
                av.AudioResampler(
                    format=encoded.codec_context.format,
                    layout=layout,
                    rate=rate or source.sample_rate,
                ),
            )
            self.notes.append(
                f"sound encoded anew as {encoder}: {container} cannot hold {name}"
            )
        else:
            self.notes.append(
                f"{stream.type} stream {stream.index} ({name}) left out: "
                f"{container} cannot hold it"
            )
            return
        _copy_tags(stream.metadata, copy.metadata)
        copy.disposition = stream.disposition

    def _attach(self, stream: Any) -> None:
        name = stream.metadata.get("filename", f"attachment{stream.index}")
        if self._output.format.name == "matroska" and stream.mimetype:
            self._output.add_attachment(name, stream.mimetype, stream.data)
        else:
            self.notes.append(f"attachment {name} left out")

    def _read(self) -> "Iterator[Packet[Stream]]":
        wanted = [*self._copied, *self._encoded]
        if not wanted:
            return
        container: InputContainer = self._input
        if self._start:
            container.seek(int(self._start * av.time_base))
        for packet in container.demux([container.streams[i] for i in wanted]):
            if packet.dts is None:  # the end of a stream
                continue
            time = _time(packet)
            # The run-up of sound comes before 0, so 0 means from the beginning.
            if self._start and time < self._start:
                continue
            if self._end is not None and time >= self._end:
                continue
            yield packet

    def forward(self, until: Fraction | None) -> None:
        """Write what comes before a time.

        Args:
            until: Time in the source [s]; None writes all that is left.
        """
        while self._next is not None and (until is None or _time(self._next) < until):
            self._write(self._next)
            self._next = next(self._packets, None)

    def finish(self, until: Fraction | None) -> None:
        """Write what comes before a time (None: all), and release the source."""
        self.forward(until)
        for stream, resampler in self._encoded.values():
            for frame in resampler.resample(None):
                self._output.mux(stream.encode(frame))
            self._output.mux(stream.encode(None))
        self.close()

    def _write(self, packet: "Packet[Any]") -> None:
        shift = round(self._start / packet.time_base)
        index = packet.stream.index
        if index in self._encoded:
            stream, resampler = self._encoded[index]
            for frame in self._decode(packet):
                if frame.pts is not None:
                    frame.pts -= shift
                for piece in resampler.resample(frame):
                    self._output.mux(stream.encode(piece))
            return
        if packet.stream.type == "audio" and packet.pts is not None:
            # Without a length, the last packet would be cut off in .mov.
            gap = packet.pts - self._before.get(index, packet.pts)
            packet.duration = packet.duration or gap
            self._before[index] = packet.pts
        if packet.pts is not None:
            packet.pts -= shift
        if packet.dts is not None:
            packet.dts -= shift
        if packet.stream.type == "audio":
            self._let_grow(packet)
        packet.stream = self._copied[index]
        self._output.mux_one(packet)

    def _let_grow(self, packet: "Packet[Any]") -> None:
        """No decoding time twice or back, as where clips of a list meet.

        Muxers refuse that.
        """
        if packet.dts is None or packet.pts is None:
            return
        index = packet.stream.index
        packet.dts = max(packet.dts, self._last.get(index, packet.dts - 1) + 1)
        packet.pts = max(packet.pts, packet.dts)
        self._last[index] = packet.dts

    def _decode(self, packet: "Packet[Any]") -> list[Any]:
        try:
            return list(packet.decode())
        except av.error.FFmpegError:
            note = f"sound stream {packet.stream.index} is damaged in places: left out"
            if note not in self.notes:
                self.notes.append(note)
            return []

    def close(self) -> None:
        """Release the source."""
        self._input.close()


def _layout(source: av.AudioLayout, encoder: str) -> str:
    """The arrangement of speakers to encode; a source may not say its own."""
    unsaid = source.name.endswith(" channels")
    if unsaid or (encoder == "libopus" and source.name not in _LAYOUTS):
        known = source.nb_channels <= len(_LAYOUTS)
        return _LAYOUTS[source.nb_channels - 1] if known else "stereo"
    return source.name


def _can_hold(output: OutputContainer, codec: str) -> bool:
    """Whether a stream can be copied; FFmpeg promises some and then fails."""
    container = output.format.name
    if container == "mov" and codec in ("flac", "opus", "libopus", "truehd"):
        return False
    if container == "mp4" and codec.startswith("pcm_"):
        return False
    return codec in output.supported_codecs


def _chapters_before(end: Fraction | None, chapters: list[Any]) -> list[Any]:
    """The chapters that begin before a time [s]; the last is cut to it."""
    kept = []
    for chapter in chapters:
        base = chapter["time_base"]
        if end is not None and base:
            if chapter["start"] * base >= end:
                continue
            chapter = {**chapter, "end": min(chapter["end"], int(end / base))}
        kept.append(chapter)
    return kept


def _time(packet: "Packet[Any]") -> Fraction:
    ticks = packet.pts if packet.pts is not None else packet.dts or 0
    return ticks * packet.time_base


def _copy_tags(source: dict[str, str], target: dict[str, str]) -> None:
    for key, value in source.items():
        if key.split("-")[0] not in _OWN_TAGS and not key.startswith("_STATISTICS"):
            target[key] = value
