"""Copies a source's sound, subtitles, chapters and tags to an output.

Packets are copied unchanged; sound is encoded again only where the container cannot
hold its codec. The source is opened a second time for this and read at the pace at
which the picture is written, so memory stays constant.

No other track can stop the picture: what a container cannot hold is found before the
first frame is written, damaged packets are left out, and notes say so.
"""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from rematte.video.clock import Clock
from rematte.video.muxing import Copied, Encoded, Trial, make_usual, speakers
from rematte.video.notes import add_note
from rematte.video.opening import (
    Limits,
    open_input,
    read_packets,
    video_stream,
)

# FFmpeg writes these itself, or they would be wrong in the new file.
_OWN_TAGS = {
    *("major_brand", "minor_version", "compatible_brands", "encoder", "rotate"),
    *("DURATION", "ENCODER", "BPS", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES"),
    *("timecode", "TIMECODE"),  # of the picture, and counted from its first frame
}

# Streams are interleaved to within this [s]; a seek may land that much too late.
_SPREAD = 5
# PCM that can be cut at any sample.
_PCM = ("pcm_s", "pcm_u", "pcm_f", "pcm_mulaw", "pcm_alaw")
# MOV numbers languages, and FFmpeg knows only one of the two ISO 639-2 codes of each.
# It calls Swedish "sve".
_QUICKTIME = {
    "sqi": "alb", "hye": "arm", "eus": "baq", "mya": "bur", "zho": "chi", "cze": "ces",
    "nld": "dut", "fre": "fra", "kat": "geo", "deu": "ger", "ell": "gre", "isl": "ice",
    "mkd": "mac", "msa": "may", "fas": "per", "rum": "ron", "slo": "slk", "bod": "tib",
    "cym": "wel", "swe": "sve",
}  # fmt: skip
# How the names of codecs begin that FFmpeg promises to hold, and then fails. NUT has no
# field for the length of their blocks, so nothing could play them.
_REFUSED = {
    "mov": ("flac", "opus", "libopus", "truehd"),
    "mp4": ("pcm_",),
    "nut": ("adpcm_", "wma"),
}
# Sound whose first packets cannot be copied cannot be copied at all [packets].
_TRIED = 8


class SideStreams:
    """Copies all tracks of a source except its picture to an output.

    The output must not have started. Its time 0 is `start` [s] in the source, and
    everything after `end` [s] is left out. Both are times of the clock. `notes`
    receives sentences on what cannot be carried over unchanged.
    """

    def __init__(
        self, source: Path, output: OutputContainer, notes: list[str], start: Fraction,
        end: Fraction | None, sound: bool, limits: Limits, clock: Clock,
    ) -> None:  # fmt: skip
        self._source, self._output, self._notes = source, output, notes
        self._start, self._end = start, end
        self._limits, self._clock = limits, clock
        self._zero = clock.origin + start  # the file's time that is 0 in the output
        part = " between start and end" if start or end is not None else ""
        self._nothing = f"it has nothing{part}"
        self._tracks: dict[int, Copied | Encoded] = {}
        self._input = open_input(source, limits=limits)
        shown = video_stream(self._input, source, limits)
        streams = [each for each in self._input.streams if each.index != shown.index]
        self._take([each for each in streams if sound or each.type != "audio"])
        _copy_tags(self._input.metadata, output.metadata)
        output.set_chapters(self._chapters())
        self._packets = self._read(self._input, [*self._tracks])
        self._next = next(self._packets, None)

    # What is taken

    def _take(self, streams: list[Any]) -> None:
        held = [each for each in streams if _can_hold(self._output, each)]
        fits, empty = self._try(held)
        for stream in streams:
            if stream.type == "attachment":
                self._attach(stream)
                continue
            lacks = stream.index in empty
            track = None if lacks else self._make_track(stream, stream.index in fits)
            if track is None:
                self._leave_out(stream, self._nothing if lacks else None)
                continue
            self._tracks[stream.index] = track
            tags = track.stream.metadata
            _copy_tags(stream.metadata, tags)
            if self._output.format.name == "mov" and "language" in tags:
                tags["language"] = _QUICKTIME.get(tags["language"], tags["language"])
            track.stream.disposition = stream.disposition

    def _make_track(self, stream: Any, fits: bool) -> "Copied | Encoded | None":
        """Copy a stream that fits; else encode its sound again, if that is possible."""
        container = self._output.format.name
        if fits:
            order = speakers(stream)[1] if stream.type == "audio" else ""
            if order and container in ("matroska", "webm"):
                self._notes.append(
                    f"sound stream {stream.index}: the order of its speakers, {order}, "
                    f"is lost: {container} cannot state it"
                )
            return Copied(self._output, stream)
        if stream.type != "audio" or not stream.codec_context:
            return None
        if note := make_usual(stream):
            self._notes.append(f"sound stream {stream.index}: {note}")
        track = Encoded.make(self._output, stream)
        if track is not None:
            self._notes.append(
                f"sound encoded again as {track.encoder}: {container} cannot hold "
                f"{stream.codec_context.name}"
            )
        return track

    def _try(self, streams: list[Any]) -> tuple[set[int], set[int]]:
        """Find out which streams can be copied, before any work is done.

        A muxer refuses some only with their first packets or at the end of the file.

        Returns:
            Indices of streams that can be copied, and of sound without any packet.
        """
        trials = {each.index: Trial(self._output, each) for each in streams}
        sounds = {each.index for each in streams if each.type == "audio"}
        sounds -= {index for index, trial in trials.items() if trial.failed}
        with open_input(self._source, limits=self._limits) as container:
            for packet in self._read(container, [*sounds]):
                trial = trials[packet.stream.index]
                trial.accepts(packet)
                if trial.written or trial.refused == _TRIED:
                    sounds.discard(packet.stream.index)
                if not sounds:
                    break
        empty = {index for index in sounds if not trials[index].refused}
        complete = {index for index, trial in trials.items() if trial.ends()}
        return complete - sounds, empty

    def _leave_out(self, stream: Any, why: str | None = None) -> None:
        name = stream.codec_context.name if stream.codec_context else "unknown"
        why = why or f"{self._output.format.name} cannot hold it"
        if stream.type == "audio" and name != "unknown" and not stream.sample_rate:
            why = "its sample rate is not stated near the beginning of the file"
        elif stream.disposition & av.stream.Disposition.attached_pic:
            why = "it is a cover picture"
        elif stream.type == "video":
            name += f", {stream.width}x{stream.height}" if stream.codec_context else ""
            why = "one picture is converted"
        elif stream.type == "data":
            # Chapters and timecode are tracks of MP4, and are carried over as such.
            # FFmpeg calls other tracks "bin_data" too, as cameras' sensor data.
            count = len(self._input.chapters())
            chapters = stream.name == "bin_data" and stream.frames == count
            if chapters or "timecode" in stream.metadata:
                return
            name = stream.name or stream.metadata.get("handler_name") or name
            why = "data is not carried over"
        elif not stream.codec_context:
            why = "FFmpeg does not know its codec"
        self._notes.append(
            f"{stream.type} stream {stream.index} ({name}) left out: {why}"
        )

    def note_lost_languages(self, written: Path) -> None:
        """Note languages that a complete MOV lacks, since it numbers only some."""
        if self._output.format.name != "mov":
            return
        # It holds no track for those without packets.
        tracks = [track for track in self._tracks.values() if not track.empty]
        with open_input(written) as container:
            for stream, track in zip([*container.streams][1:], tracks, strict=False):
                language = track.stream.metadata.get("language", "und")
                if language != "und" and "language" not in stream.metadata:
                    self._notes.append(
                        f"{stream.type} stream {stream.index}: its language, "
                        f"{language}, is lost: mov has no number for it"
                    )

    def _attach(self, stream: Any) -> None:
        name = stream.metadata.get("filename", f"attachment{stream.index}")
        if self._output.format.name == "matroska" and stream.mimetype:
            self._output.add_attachment(name, stream.mimetype, stream.data)
        else:
            self._notes.append(f"attachment {name} left out")

    def _chapters(self) -> list[Any]:
        """Return the chapters that begin before the end, on the clock of the output."""
        kept = []
        for chapter in self._input.chapters():
            base = chapter["time_base"]
            if base:
                begin = max(chapter["start"] * base - self._zero, Fraction(0))
                until = end = chapter["end"] * base - self._zero
                if self._end is not None:
                    end = min(end, self._end - self._start)
                if end <= begin < until or (until <= 0 and self._start):
                    continue
                chapter |= {"start": int(begin / base), "end": int(end / base)}
            kept.append(chapter)
        return kept

    # Packets on their way

    def _read(
        self, container: InputContainer, wanted: list[int]
    ) -> "Iterator[Packet[Any]]":
        """Yield packets between start and end, and the packet of sound at the start."""
        if not wanted:
            return
        if self._start > _SPREAD and not self._clock.jumps:
            with suppress(av.error.FFmpegError):  # else it is read from the beginning
                container.seek(int((self._zero - _SPREAD) * av.time_base))
        streams = [container.streams[index] for index in wanted]
        try:
            for packet in self._clock.packets(read_packets(container, *streams)):
                if packet.dts is None and packet.pts is None:  # the end of a stream
                    continue
                if self._end is not None and self._time(packet) >= self._end + _SPREAD:
                    return
                if packet.stream.type == "audio" and self._start:
                    packet = _from(packet, self._zero)
                if self._is_between(packet):
                    yield packet
        except av.error.FFmpegError as error:
            add_note(self._notes, f"sound and subtitles end early ({error.strerror})")

    def _is_between(self, packet: "Packet[Any]") -> bool:
        """Whether a packet is taken; subtitles are cut to start and end."""
        time, base = self._time(packet), packet.time_base
        length = (packet.duration or 0) * base  # 0 where it is not stated
        stop = time + length
        # The run-up of sound comes before 0, so 0 means from the beginning.
        early = self._start and time < self._start and stop <= self._start
        if packet.stream.type == "audio":
            # Only an edit list can hide more than the packet that prepares a decoder,
            # or the delay that Matroska states, which FFmpeg 9 reads from edit lists.
            context, container = packet.stream.codec_context, self._output.format.name
            delay = Fraction(context.delay, context.sample_rate or 1)
            hides = container in ("mp4", "mov")
            hides |= container in ("matroska", "webm") and -time <= delay
            if 0 < length <= -stop and not self._start and not hides:
                return False
            # Of the last packet, more than half has to come before the end.
            return not early and (self._end is None or (time + stop) / 2 < self._end)
        if early or (self._end is not None and time >= self._end):
            return False
        if packet.pts is not None and packet.duration:
            begin = max(time, self._start) if self._start else time
            until = stop if self._end is None else min(stop, self._end)
            packet.pts += round((begin - time) / base)
            packet.dts = packet.pts  # from which MP4 takes the length of the one before
            packet.duration = round((until - begin) / base)
        return True

    def _time(self, packet: "Packet[Any]") -> Fraction:
        ticks = packet.pts if packet.pts is not None else packet.dts or 0
        return ticks * packet.time_base - self._clock.origin

    def forward(self, until: Fraction | None) -> None:
        """Write what comes before a time in the source [s]; None: all that is left."""
        while (packet := self._next) is not None:
            if until is not None and self._time(packet) >= until:
                return
            self._tracks[packet.stream.index].write(packet, self._zero)
            self._next = next(self._packets, None)

    def finish(self, until: Fraction | None) -> None:
        """Write what comes before a time (None: all), and release the source."""
        self.forward(until)
        for index, track in self._tracks.items():
            track.finish()
            lost = len(track.damaged)
            if track.empty:
                all_lost = f"none of its {lost} packets can be decoded"
                why = all_lost if lost else self._nothing
                self._leave_out(self._input.streams[index], why)
            elif lost:
                at = float(track.damaged[0] - self._clock.origin)
                self._notes.append(
                    f"sound stream {index} is damaged in places: left out "
                    f"{lost} packets, the first at {at:.3f} s"
                )
        self.close()

    def close(self) -> None:
        """Release the source."""
        self._input.close()


def _from(packet: "Packet[Any]", start: Fraction) -> "Packet[Any]":
    """Cut a packet of PCM, which may last seconds, at a time in the file [s]."""
    context = packet.stream.codec_context
    if not context.name.startswith(_PCM) or packet.pts is None or not packet.duration:
        return packet
    early = start - packet.pts * packet.time_base
    length = packet.duration * packet.time_base
    samples = round(length * context.sample_rate)
    if not 0 < early < length or packet.size % (samples or 1):
        return packet
    left_out = int(early * context.sample_rate)
    part: Packet[Any] = Packet(bytes(packet)[left_out * (packet.size // samples) :])
    part.stream, part.time_base = packet.stream, packet.time_base
    ticks = round(Fraction(left_out, context.sample_rate) / packet.time_base)
    part.pts = part.dts = packet.pts + ticks
    part.duration = packet.duration - ticks
    return part


def _can_hold(output: OutputContainer, stream: Any) -> bool:
    """Whether a stream may be copied, as far as its codec says."""
    if stream.type not in ("audio", "subtitle") or not stream.codec_context:
        return False
    codec = stream.codec_context.name
    refused = codec.startswith(_REFUSED.get(output.format.name, ()))
    return codec in output.supported_codecs and not refused


def _copy_tags(source: dict[str, str], target: dict[str, str]) -> None:
    for key, value in source.items():
        if key.split("-")[0] not in _OWN_TAGS and not key.startswith("_STATISTICS"):
            target[key] = value
