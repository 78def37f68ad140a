"""Tracks of an output besides its picture: copied packets and encoded sound.

A muxer reports some errors only with a later packet of another stream, so everything is
first written to a trial container that holds this stream alone.
"""

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.container import OutputContainer

# The encoder and sample rate [Hz] that players of a container expect.
_SOUND = {
    "webm": ("libopus", 48000),
    "mp4": ("aac", None),
    "mov": ("aac", None),
    "matroska": ("flac", None),
    "nut": ("pcm_s24le", None),
}

# Opus's layouts by the number of speakers.
_LAYOUTS = dict(
    enumerate(("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"), 1)
)


class Trial:
    """A container with one stream whose content is discarded.

    It has the format of `output`. `template` is the stream to copy; without it, the
    caller adds a stream to `container`.

    Attributes:
        container: The container.
        failed: Whether the muxer refuses the stream.
        written: Number of accepted packets.
        refused: Number of refused packets.
    """

    def __init__(self, output: OutputContainer, template: Any = None) -> None:
        self.container: Any = av.open(os.devnull, "w", format=output.format.name)
        self.failed, self.written, self.refused = False, 0, 0
        if template is not None:
            try:
                self._stream = self.container.add_stream_from_template(template)
                self.container.start_encoding()
            except (av.error.FFmpegError, ValueError):
                self.failed = True

    def accepts(self, packet: Any) -> bool:
        """Write a packet without changing it, and return whether it was accepted."""
        before = packet.stream, packet.pts, packet.dts, packet.duration
        base = packet.time_base
        try:
            packet.stream = self._stream
            self.container.mux_one(packet)
            self.written += 1
        except av.error.FFmpegError:
            self.refused += 1
            return False
        finally:
            packet.time_base = base
            packet.stream, packet.pts, packet.dts, packet.duration = before
        return True

    def ends(self) -> bool:
        """Complete the file, and return whether everything succeeded."""
        with suppress(av.error.FFmpegError):
            self.container.close()
            return not self.failed
        return False


class _Track:
    """A stream of an output, whose packets get times that its muxer accepts.

    Attributes:
        stream: The stream.
        damaged: Times of skipped damaged packets, as in the file [s].
    """

    def __init__(self, output: OutputContainer, stream: Any) -> None:
        self.stream = stream
        self.damaged: list[Fraction] = []
        self._output = output
        self._last: int | None = None
        flags: Any = output.format.flags
        same = flags & av.format.Flags.ts_nonstrict.value
        self._step = 0 if same or stream.type == "subtitle" else 1

    @property
    def empty(self) -> bool:
        """Whether no packet has been written."""
        return self._last is None

    def _set_times(self, packet: Any, shift: Fraction) -> None:
        """Set a packet's times in the unit of the output so that they increase.

        Muxers require this. Times may not increase where recordings were joined, or
        after rounding to a coarser unit.
        """
        self._output.start_encoding()  # the unit is final only then
        base, unit = packet.time_base, self.stream.time_base
        presented = packet.pts if packet.pts is not None else packet.dts or 0
        decoded = packet.dts if packet.dts is not None else presented
        packet.dts = _nearest((decoded * base - shift) / unit)
        packet.pts = _nearest((presented * base - shift) / unit)
        packet.duration = _nearest((packet.duration or 0) * base / unit)
        packet.time_base = unit
        if self._last is not None:
            packet.dts = max(packet.dts, self._last + self._step)
        packet.pts = max(packet.pts, packet.dts)
        self._last = packet.dts


def _nearest(ticks: Fraction) -> int:
    """Round halves away from 0, as Matroska's muxer rounds the encoder's delay."""
    return int(ticks + Fraction(1 if ticks > 0 else -1, 2))


class Copied(_Track):
    """A stream whose packets are copied unchanged.

    Sound is also decoded to find damaged packets. The output must not have started.
    """

    def __init__(self, output: OutputContainer, template: Any) -> None:
        super().__init__(output, output.add_stream_from_template(template))
        self._check = template.type == "audio" and not speakers(template)[1]
        self.stream.time_base = template.time_base
        self._trial = Trial(output, template)
        self._before: int | None = None

    def write(self, packet: Any, shift: Fraction) -> None:
        """Write a packet of the source, where `shift` is 0 in the output [s]."""
        time = (packet.pts or 0) * packet.time_base
        if packet.is_corrupt or (self._check and not _decodes(packet)):
            self.damaged.append(time)
            return
        if packet.stream.type == "audio" and packet.pts is not None:
            # Without a duration, the last packet would be cut off in .mov.
            gap = packet.pts - (packet.pts if self._before is None else self._before)
            self._before = packet.pts
            packet.duration = packet.duration or gap
        last = self._last
        self._set_times(packet, shift)
        if self._trial.accepts(packet):
            packet.stream = self.stream
            self._output.mux_one(packet)
        else:
            self._last = last
            self.damaged.append(time)

    def finish(self) -> None:
        """Complete the trial; there is nothing more to write."""
        self._trial.ends()


def _decodes(packet: Any) -> bool:
    try:
        packet.decode()
    except (av.error.InvalidDataError, av.error.PermissionError):
        return False  # some decoders return -1, which is read as "not permitted"
    except av.error.FFmpegError:  # incomplete decoders do not report damage
        return True
    return True


class Encoded(_Track):
    """Sound that is decoded and encoded again; the output must not have started.

    Attributes:
        encoder: FFmpeg's name of the encoder.
    """

    def __init__(
        self, output: OutputContainer, template: Any, encoder: str, rate: int,
        layout: str,
    ) -> None:  # fmt: skip
        add = cast(Any, output).add_stream
        super().__init__(output, add(encoder, rate=rate, layout=layout))
        self.encoder = encoder
        self._rate, self._layout = rate, layout
        self._resampler: Any = None
        self._kind: Any = None

    @classmethod
    def make(cls, output: OutputContainer, template: Any) -> "Encoded | None":
        """Choose an encoder for sound; None if the container has none for it."""
        source = template.codec_context
        if output.format.name not in _SOUND or not source.sample_rate:
            return None
        encoder, rate = _SOUND[output.format.name]
        rates = av.Codec(encoder, "w").audio_rates or [source.sample_rate]
        rate = rate or min(rates, key=lambda each: abs(each - source.sample_rate))
        layout = _layout(source.layout, encoder)
        trial = Trial(output)
        try:
            cls(trial.container, template, encoder, rate, layout)
            trial.container.start_encoding()
        except (av.error.FFmpegError, ValueError):
            return None
        finally:
            trial.ends()
        return cls(output, template, encoder, rate, layout)

    def write(self, packet: Any, shift: Fraction) -> None:
        """Write a packet of the source, with the arguments of `Copied.write`."""
        encoded: list[Any] = []
        try:
            if packet.is_corrupt:
                raise av.error.InvalidDataError(0, "marked as damaged")
            for frame in packet.decode():
                if frame.pts is not None:
                    frame.pts -= _nearest(shift / frame.time_base)
                    frame = _after_zero(frame)
                encoded += self._encode(frame) if frame else []
        except av.error.FFmpegError:
            self.damaged.append((packet.pts or 0) * packet.time_base)
        self._mux(encoded)

    def _encode(self, frame: Any) -> list[Any]:
        encoded = []
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if kind != self._kind:  # may change within a broadcast
            encoded += self._resampled(None)
            self._kind = kind
            self._resampler = av.AudioResampler(
                format=self.stream.codec_context.format,
                layout=self._layout,
                rate=self._rate,
            )
        return encoded + self._resampled(frame)

    def _resampled(self, frame: Any) -> list[Any]:
        """Encode a frame, or with None the samples that the resampler holds back."""
        pieces = self._resampler.resample(frame) if self._resampler else ()
        return [packet for piece in pieces for packet in self.stream.encode(piece)]

    def finish(self) -> None:
        """Flush the encoder."""
        if self._resampler is not None:
            self._mux([*self._resampled(None), *self.stream.encode(None)])

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._set_times(packet, Fraction(0))
            packet.stream = self.stream
            self._output.mux_one(packet)


def _after_zero(frame: Any) -> Any:
    """Return the samples of a frame from time 0 on; None if there are none."""
    early = -round(frame.pts * frame.time_base * frame.sample_rate)
    if early <= 0:
        return frame
    if early >= frame.samples:
        return None
    samples, layout = frame.to_ndarray(), frame.layout
    each = 1 if frame.format.is_planar else layout.nb_channels
    left = np.ascontiguousarray(samples[:, early * each :])
    part: Any = av.AudioFrame.from_ndarray(left, frame.format.name, layout.name)
    part.sample_rate, part.time_base, part.pts = frame.sample_rate, frame.time_base, 0
    return part


def speakers(stream: Any) -> tuple[str, str]:
    """Return the layout of a sound's speakers, or their number and unusual order.

    PyAV 18.1 frees an unusual order twice, with the layout and with its source, which
    crashes the process. So this layout is never released, and such sound must not be
    decoded before `make_usual`.
    """
    layout = stream.codec_context.layout
    name, unusual, order = layout.name.partition(" channels (")
    if unusual:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))
    return name, order.rstrip(")")


def make_usual(stream: Any) -> str | None:
    """Decode sound with an unusual order of speakers in the usual one.

    The result is a note on the unusual order, or None if the order is usual.
    """
    name, order = speakers(stream)
    if not order:
        return None
    usual = _LAYOUTS.get(int(name), f"{name} channels")
    stream.codec_context.layout = usual
    return f"its speakers {order} are taken for {usual}"


def _layout(source: av.AudioLayout, encoder: str) -> str:
    """Return the layout of speakers to encode, since a source may not state one."""
    unstated = source.name.endswith(" channels")
    if unstated or (encoder == "libopus" and source.name not in _LAYOUTS.values()):
        return _LAYOUTS.get(source.nb_channels, "stereo")
    return source.name
