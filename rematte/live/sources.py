"""Sources of live pictures: cameras, streams, pipes, files.

A slow consumer gets the latest picture, and those in between are dropped, unless the
source must wait for the consumer. This module needs no torch.
"""

import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av

from rematte.errors import InputError
from rematte.video import fields
from rematte.video.clock import SHORT_STEP
from rematte.video.colour import frame_colour, to_rgb
from rematte.video.fitting import Upright
from rematte.video.frame import SDR, Frame, VideoInfo
from rematte.video.notes import add_note
from rematte.video.opening import read_packets
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.tone import as_sdr, between

TIME_BASE = Fraction(1, 90_000)  # unit of the times of live pictures [s]
_POLL_PERIOD = 0.2  # between checks of whether to stop [s]
_TIMEOUT = 10.0  # of opening and reading a stream [s]
# FFmpeg's device and the name of a camera, by system.
_CAMERAS = {
    "Linux": ("v4l2", "/dev/video{}"),
    "Darwin": ("avfoundation", "{}:none"),
    "Windows": ("dshow", "video={}"),
}


class Raw(NamedTuple):
    """The properties of raw RGB24 video in a pipe, which has no header."""

    size: tuple[int, int]  # width and height [pixels]
    rate: Fraction  # frames per second


class LiveSource:
    """Reads the pictures of a camera, a stream or a file as fast as they arrive.

    A source is "camera", "camera:1" or "camera:NAME"; a URL or device that FFmpeg
    opens; a file; a named pipe, or "-" for the standard input. With `pace` a file plays
    at its own speed, as a camera would. `info` has size, rate and colours of the
    pictures, and `notes` the differences from the source, in words.
    """

    def __init__(
        self,
        source: str,
        size: tuple[int, int] | None = None,
        pace: bool = True,
        deinterlace: str = "auto",
        raw: Raw | None = None,
    ) -> None:
        self._name, self._pace, self._raw = source, pace, raw
        self.notes: list[str] = []
        self.leaving = threading.Event()  # ends waiting for a file's next picture
        self._file: VideoReader | None = None
        if Path(source).is_file():
            self._file = VideoReader(
                source,
                ReadOptions(size=size, deinterlace=deinterlace, input_alpha="multiply"),
            )
            self._set_info(self._file.info)
            self.notes = self._file.notes
            self._note_sound(self._file.clock.sounds is not None)
            return
        self._container = _open(source, raw)
        self._note_sound(bool(self._container.streams.audio))
        try:
            stream = self._container.streams.video[0]
            packets = read_packets(self._container, stream)
            self._pictures = fields.deinterlace(
                (picture for packet in packets for picture in packet.decode()),
                stream.codec_context,
                deinterlace,
                partial(add_note, self.notes),
            )
            first = next(self._pictures)
        except (StopIteration, IndexError, av.error.FFmpegError) as error:
            raise InputError(
                f"{source}: no picture came; is it in use, or empty?"
            ) from error
        self._pictures = chain([first], self._pictures)
        self._coded = first.width, first.height
        width, height = self._size = size or self._coded
        rate = Fraction(stream.guessed_rate or stream.average_rate or 30)
        rate = rate if 1 <= rate <= 240 else Fraction(30)  # some claim thousands
        aspect = Upright(first, stream.sample_aspect_ratio).pixel_aspect(size)
        info = VideoInfo(width, height, rate, TIME_BASE, frame_colour(first))
        self._set_info(replace(info, sample_aspect_ratio=aspect))

    def _note_sound(self, there: bool) -> None:
        if there:
            note = f"{self._name}: live shows pictures alone, without the sound"
            add_note(self.notes, note)

    def _set_info(self, info: VideoInfo) -> None:
        self._colour = info.colour
        self._to_sdr = between(info.colour, SDR)
        self.info = replace(info, colour=as_sdr(info.colour))

    def __iter__(self) -> Iterator[Frame]:
        """Yield pictures in SDR, whose times count from the first.

        Those of a file have its alpha channel, if there is one.
        """
        start = time.monotonic()
        first: Fraction | None = None
        for frame in self._stream() if self._file is None else self._file:
            first = frame.time if first is None else first
            wait = start + float(frame.time - first) - time.monotonic()
            if self._file is not None and self._pace and wait > 0:
                self.leaving.wait(wait)
            pixels = self._to_sdr(frame.pixels) if self._to_sdr else frame.pixels
            duration = 1 / self.info.rate
            yield Frame(pixels, frame.time - first, duration, alpha=frame.alpha)

    def _stream(self) -> Iterator[Frame]:
        first: Fraction | None = None
        time_ = Fraction(0)
        depth = 8 if self._to_sdr is None else 16
        try:
            for count, picture in enumerate(self._pictures):
                before, time_ = time_, count / self.info.rate
                if picture.pts is not None and picture.time_base:
                    shown = picture.pts * picture.time_base
                    first = shown if first is None else first
                    if shown - first < before - SHORT_STEP:  # a sender that restarted
                        first = shown - before - 1 / self.info.rate
                        note = "the source's clock jumps back; pictures continue there"
                        add_note(self.notes, f"{self._name}: {note}")
                    time_ = shown - first
                pixels = to_rgb(picture, self._colour, depth, self._scaling(picture))
                yield Frame(pixels, time_, 1 / self.info.rate)
        except av.error.FFmpegError as error:
            why = _reason(error)
            if self._raw is not None:
                why = "within a picture; is --raw-input the size of the pictures?"
            raise InputError(f"{self._name}: broke off ({why})") from error

    def _scaling(self, picture: Any) -> tuple[int, int] | None:
        """Return the size that a picture is scaled to; None if it has that size."""
        coded = picture.width, picture.height
        if coded != self._coded:
            to = "{}x{}".format(*self._size)
            note = f"the picture changes its size; it is scaled to {to}"
            add_note(self.notes, f"{self._name}: {note}")
        return None if coded == self._size else self._size

    def close(self) -> None:
        """Release the camera, the connection or the file."""
        if self._file is not None:
            self._file.close()
        else:
            self._container.close()


def _open(source: str, raw: Raw | None) -> Any:
    kind, _, which = source.partition(":")
    try:
        how = {} if raw is None else _raw_options(raw)
        if source == "-":
            return av.open(_standard_input(), **how)
        if Path(source).exists():  # a pipe or a device; an absolute name is no address
            how = how if Path(source).is_fifo() else {}
            source = str(Path(source).absolute())
        if kind != "camera":
            return av.open(source, timeout=(_TIMEOUT, _TIMEOUT), **how)
        system = platform.system()
        if system not in _CAMERAS:
            raise InputError(f"{source}: cameras on {system} are not known; give a URL")
        driver, name = _CAMERAS[system]
        return av.open(name.format(which or 0), format=driver)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        if isinstance(error, av.error.ProtocolNotFoundError):
            raise InputError(
                f"{source}: PyAV's FFmpeg does not have this protocol; pipe it into - "
                "from a program that has it, such as ffmpeg"
            ) from error
        raise InputError(
            f"{source}: cannot be opened ({_reason(error)}); give a file, a URL, or "
            "camera[:WHICH]"
        ) from error


def _reason(error: Exception) -> str:
    """Say why FFmpeg failed; it calls the end of a timeout an immediate exit."""
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {_TIMEOUT:g} s"
    return getattr(error, "strerror", None) or str(error)


def _standard_input() -> Any:
    if sys.stdin.isatty():
        raise InputError("-: the standard input is a terminal; send a video into it")
    # Not sys.stdin.buffer, whose lock a waiting thread would hold when Python exits.
    return os.fdopen(0, "rb", buffering=0, closefd=False)


def _raw_options(raw: Raw) -> dict[str, Any]:
    """FFmpeg's options for raw RGB24 video, as arguments of `av.open`."""
    width, height = raw.size
    options = {
        "video_size": f"{width}x{height}",
        "pixel_format": "rgb24",
        "framerate": f"{raw.rate.numerator}/{raw.rate.denominator}",
    }
    return {"format": "rawvideo", "options": options, "buffer_size": width * height * 3}


class Arrival(NamedTuple):
    """A picture that arrived."""

    frame: Frame  # its time is `arrived`, or that in the source if none is dropped [s]
    source: int  # the index of its source
    arrived: float  # from the start on [s]


class Newest:
    """Reads sources in a thread of its own and holds only the latest picture.

    Arguments are those of `LiveSource`. All pictures have the `size`, or that of the
    first source. With `drop` a newer picture replaces one that was not taken in time;
    otherwise the source waits, files are read as fast as pictures are taken, and
    pictures keep the source's times. `dropped` counts the pictures that were replaced.
    """

    def __init__(
        self,
        sources: list[str],
        size: tuple[int, int] | None = None,
        pace: bool = True,
        deinterlace: str = "auto",
        drop: bool = True,
        raw: Raw | None = None,
    ) -> None:
        self._sources, self._drop = sources, drop
        self._open = partial(
            LiveSource, pace=pace and drop, deinterlace=deinterlace, raw=raw
        )
        self._reading = self._open(sources[0], size)
        self.notes: list[str] = []
        self.info = replace(
            self._reading.info, time_base=TIME_BASE, depth=8, timecode=None
        )
        self.dropped = 0
        self._start = time.monotonic()
        self._arrival: Arrival | None = None
        self._offset = Fraction(0)  # added to the times of the current source [s]
        self._error: BaseException | None = None
        self._ended = self._switch = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Newest":
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._ended = True
        self._reading.leaving.set()
        self._thread.join(_TIMEOUT)

    def now(self) -> float:
        """Time since the start [s]."""
        return time.monotonic() - self._start

    def switch(self) -> None:
        """Change to the next source."""
        self._switch = True

    def _run(self) -> None:
        index = 0
        try:
            while not self._read(index):
                index = (index + 1) % len(self._sources)
                size = self.info.width, self.info.height
                self._reading = self._open(self._sources[index], size)
        except BaseException as error:  # raised again where pictures are taken
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read(self, index: int) -> bool:
        """Read a source; returns False if it was switched to the next."""
        self._switch = False
        duration, time_ = 1 / self.info.rate, self._offset
        try:
            for picture in self._reading:
                now = self.now()
                time_ = Fraction(now) if self._drop else self._offset + picture.time
                time_ = round(time_ / TIME_BASE) * TIME_BASE
                with self._changed:
                    while not (self._drop or self._arrival is None or self._ended):
                        self._changed.wait(_POLL_PERIOD)
                    if self._ended:
                        return True
                    self.dropped += self._arrival is not None
                    frame = replace(picture, time=time_, duration=duration)
                    self._arrival = Arrival(frame, index, now)
                    self._changed.notify_all()
                if self._switch:
                    return False
            return True
        finally:
            self._offset = time_ + duration
            self._reading.close()
            self.notes += [n for n in self._reading.notes if n not in self.notes]

    def take(self) -> Arrival | None:
        """Wait for a picture and return it; None after the last."""
        with self._changed:
            while self._arrival is None and not self._ended:
                self._changed.wait(_POLL_PERIOD)
            arrival, self._arrival = self._arrival, None
            self._changed.notify_all()
        if arrival is None and self._error is not None:
            raise self._error
        return arrival
