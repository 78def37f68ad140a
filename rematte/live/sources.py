"""Sources and sinks of live pictures: cameras, streams, files, windows, pipes.

A slow consumer gets the latest picture, and those in between are dropped. This module
needs no torch.
"""

import os
import platform
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import av
import numpy as np

from rematte.errors import InputError, OutputError
from rematte.video import fields
from rematte.video.colour import frame_colour, from_rgb, to_rgb
from rematte.video.frame import SDR, Colour, Frame, Pixels, VideoInfo
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.tone import as_sdr, between
from rematte.video.upright import Upright

_BASE = Fraction(1, 90_000)  # unit of the times that are read off a clock [s]
_POLL_PERIOD = 0.2  # between checks of whether to stop [s]
# SDL's drivers where there is no display.
_INVISIBLE = ("dummy", "offscreen")
_TIMEOUT = 10.0  # of opening and reading a stream [s]
# FFmpeg's device and the name of a camera, by system.
_CAMERAS = {
    "Linux": ("v4l2", "/dev/video{}"),
    "Darwin": ("avfoundation", "{}:none"),
    "Windows": ("dshow", "video={}"),
}


class LiveSource:
    """Reads the pictures of a camera, a stream or a file as fast as they arrive.

    Args:
        source: "camera", "camera:1" or "camera:NAME"; a URL or device that FFmpeg
            opens; or a file.
        size: Width and height [pixels] to resize to, or None.
        pace: Play a file at its own speed, as a camera would; else it is read as fast
            as possible.
        deinterlace: "auto" or "off"; see `VideoReader`.

    Attributes:
        info: Size, rate and colours of the pictures.
        notes: Differences from the source, in words.

    Raises:
        InputError: If it cannot be opened, or has no picture.
    """

    def __init__(
        self,
        source: str,
        size: tuple[int, int] | None = None,
        pace: bool = True,
        deinterlace: str = "auto",
    ) -> None:
        self._name, self._pace = source, pace
        self.notes: list[str] = []
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
        self._container = _open(source)
        self._note_sound(bool(self._container.streams.audio))
        try:
            stream = self._container.streams.video[0]
            self._pictures = fields.deinterlace(
                self._container.decode(stream),
                stream.codec_context,
                deinterlace,
                self._note,
            )
            first = next(self._pictures)
        except (StopIteration, IndexError, av.error.FFmpegError) as error:
            raise InputError(f"{source}: no picture came; is it in use?") from error
        self._first: av.VideoFrame | None = first
        self._size = size if size != (first.width, first.height) else None
        width, height = size or (first.width, first.height)
        rate = stream.guessed_rate or stream.average_rate or Fraction(30)
        rate = rate if 1 <= rate <= 240 else Fraction(30)  # some claim thousands
        aspect = Upright(first, aspect=stream.sample_aspect_ratio).pixel_aspect(size)
        info = VideoInfo(width, height, rate, _BASE, frame_colour(first))
        self._set_info(replace(info, sample_aspect_ratio=aspect))

    def _note_sound(self, there: bool) -> None:
        if there:
            self._note(f"{self._name}: live shows pictures alone, without the sound")

    def _set_info(self, info: VideoInfo) -> None:
        self._colour = info.colour
        self._to_sdr = between(info.colour, SDR)
        self.info = replace(info, colour=as_sdr(info.colour))

    def __iter__(self) -> Iterator[tuple[Pixels, Pixels | None]]:
        """Yield pictures in SDR, each with its alpha channel where a file has one."""
        if self._file is None:
            for pixels in self._stream():
                yield pixels, None
            return
        start = time.monotonic()
        first: Fraction | None = None
        for frame in self._file:
            first = frame.time if first is None else first
            wait = start + float(frame.time - first) - time.monotonic()
            if self._pace and wait > 0:
                time.sleep(wait)
            pixels = frame.pixels
            yield self._to_sdr(pixels) if self._to_sdr else pixels, frame.alpha

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _stream(self) -> Iterator[Pixels]:
        while True:
            picture = self._first
            try:
                picture = picture or next(self._pictures, None)
            except av.error.FFmpegError as error:
                raise InputError(
                    f"{self._name}: broke off ({error.strerror})"
                ) from error
            if picture is None:
                return
            self._first = None
            depth = 8 if self._to_sdr is None else 16
            pixels = to_rgb(picture, self._colour, depth, self._size)
            yield self._to_sdr(pixels) if self._to_sdr else pixels

    def close(self) -> None:
        """Release the camera, the connection or the file."""
        if self._file is not None:
            self._file.close()
        else:
            self._container.close()


def _open(source: str) -> Any:
    kind, _, which = source.partition(":")
    try:
        if Path(source).exists():  # a pipe or a device; an absolute name is no address
            source = str(Path(source).absolute())
        if kind != "camera":
            return av.open(source, timeout=(_TIMEOUT, _TIMEOUT))
        system = platform.system()
        if system not in _CAMERAS:
            raise InputError(f"{source}: cameras on {system} are not known; give a URL")
        driver, name = _CAMERAS[system]
        return av.open(name.format(which or 0), format=driver)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"{source}: cannot be opened ({why}); give a file, a URL, or camera[:WHICH]"
        ) from error


class Arrival(NamedTuple):
    """A picture that arrived.

    Attributes:
        frame: Its time is that of the arrival, since the start [s].
        source: The index of its source.
    """

    frame: Frame
    source: int


class Newest:
    """Reads sources in a thread of its own and holds only the latest picture.

    Args:
        sources: Cameras, streams or files, as for `LiveSource`; `switch` goes on to
            the next.
        size: Width and height [pixels] of all pictures; None takes the first source's.
        pace: Play files at their own speed.
        deinterlace: "auto" or "off".

    Attributes:
        info: Size, rate and colours of the pictures.
        notes: Differences from the sources, in words.
        dropped: Number of pictures that were replaced before `take`.

    Raises:
        InputError: If the first source cannot be opened.
    """

    def __init__(
        self,
        sources: list[str],
        size: tuple[int, int] | None = None,
        pace: bool = True,
        deinterlace: str = "auto",
    ) -> None:
        self._sources = sources
        self._open = partial(LiveSource, pace=pace, deinterlace=deinterlace)
        self._reading = self._open(sources[0], size)
        self.notes: list[str] = []
        self.info = replace(self._reading.info, time_base=_BASE, depth=8, timecode=None)
        self.dropped = 0
        self._start = time.monotonic()
        self._arrival: Arrival | None = None
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
            self._changed.notify()

    def _read(self, index: int) -> bool:
        """Read a source; returns False if it was switched to the next."""
        self._switch = False
        duration = 1 / self.info.rate
        try:
            for pixels, alpha in self._reading:
                time_ = Fraction(round(self.now() / _BASE)) * _BASE
                with self._changed:
                    if self._ended:
                        return True
                    self.dropped += self._arrival is not None
                    frame = Frame(pixels, time_, duration, alpha=alpha)
                    self._arrival = Arrival(frame, index)
                    self._changed.notify()
                if self._switch:
                    return False
            return True
        finally:
            self._reading.close()
            self.notes += [n for n in self._reading.notes if n not in self.notes]

    def take(self) -> Arrival | None:
        """Wait for a picture and return it; None after the last.

        Raises:
            InputError: If a source broke off.
        """
        with self._changed:
            while self._arrival is None and not self._ended:
                self._changed.wait(_POLL_PERIOD)
            arrival, self._arrival = self._arrival, None
        if arrival is None and self._error is not None:
            raise self._error
        return arrival


class Sink(Protocol):
    """The interface of outputs for live pictures."""

    def write(self, frame: Frame) -> None:
        """Show or send a picture now."""

    def close(self) -> None:
        """End the output; what was written stays."""


class StreamSink:
    """Sends pictures to a network address, or as raw video into a pipe.

    Args:
        target: An address FFmpeg can write to (rtmp://, srt://, udp://, rtsp://), "-"
            for the standard output, or a named pipe.
        info: Size and rate of the pictures.
        alpha: Whether pictures have an alpha channel.
        mbps: Bit rate of H.264 [Mbit/s]; None takes 4. Raw video has none.

    Raises:
        OutputError: If it cannot be opened.
    """

    def __init__(
        self, target: str, info: VideoInfo, alpha: bool, mbps: float | None
    ) -> None:
        self._target, self._last = target, -1
        if target == "-" and sys.stdout.isatty():
            raise OutputError(
                "- writes raw video, which a terminal cannot show; pipe it into a "
                "program, such as `rematte live camera -o - | mpv -`"
            )
        address = "://" in target
        if address and alpha:
            raise OutputError(f"{target}: H.264 is not transparent; give a background")
        kind = ("flv" if target.startswith("rtmp") else "mpegts") if address else "nut"
        kind = "rtsp" if target.startswith("rtsp") else kind
        where: Any = target
        if not address:
            where = sys.stdout.buffer if target == "-" else open(target, "wb")  # noqa: PTH123, SIM115
        self._pipe = None if address else where
        try:
            self._container = av.open(where, "w", format=kind)
            codec = "libx264" if address else "rawvideo"
            stream: Any = self._container.add_stream(codec, rate=info.rate)
        except (av.error.FFmpegError, OSError) as error:
            raise self._lost(error) from error
        stream.width, stream.height = info.width, info.height
        stream.time_base = stream.codec_context.time_base = _BASE
        self._colour = Colour()
        if address:
            # H.264 with 4:2:0 needs even sizes.
            stream.width, stream.height = info.width // 2 * 2, info.height // 2 * 2
            stream.pix_fmt = "yuv420p"
            stream.options = {"preset": "veryfast", "tune": "zerolatency"}
            stream.bit_rate = round((mbps or 4) * 1e6)
            stream.codec_context.gop_size = round(2 * info.rate)  # to join within 2 s
        else:
            stream.pix_fmt = "rgba" if alpha else "rgb24"
        self._stream = stream

    def write(self, frame: Frame) -> None:
        """Send a picture."""
        stream = self._stream
        pixels = frame.pixels[: stream.height, : stream.width]
        if pixels.shape[2] == 1:  # an alpha matte
            pixels = np.repeat(pixels, 3, 2)
        picture = from_rgb(np.ascontiguousarray(pixels), stream.pix_fmt, self._colour)
        picture.pts = max(int(frame.time / _BASE), self._last + 1)
        picture.time_base = _BASE
        self._last = picture.pts
        try:
            self._container.mux(stream.encode(picture))
            if self._pipe is not None:
                self._pipe.flush()
        except (av.error.FFmpegError, OSError) as error:
            raise self._lost(error) from error

    def close(self) -> None:
        """Send what the encoder holds, and end the stream."""
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            if self._pipe is not None and self._target != "-":
                self._pipe.close()
        except (av.error.FFmpegError, OSError) as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> OutputError:
        why = getattr(error, "strerror", None) or error
        return OutputError(f"{self._target}: cannot be written to ({why})")


class VirtualCamera:
    """A virtual camera that other programs can open.

    Args:
        info: Size and rate of the pictures.

    Raises:
        OutputError: If there is no driver for it.
    """

    def __init__(self, info: VideoInfo) -> None:
        try:
            import pyvirtualcam
        except ModuleNotFoundError as error:
            raise OutputError(
                "a virtual camera needs pyvirtualcam: pip install 'rematte[live]'"
            ) from error
        try:
            self._camera = pyvirtualcam.Camera(
                info.width, info.height, float(info.rate)
            )
        except RuntimeError as error:
            raise OutputError(
                f"no virtual camera ({error}); on Linux load v4l2loopback, elsewhere "
                "install OBS"
            ) from error

    def write(self, frame: Frame) -> None:
        """Show a picture."""
        pixels = frame.pixels
        if pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, 2)
        self._camera.send(np.ascontiguousarray(pixels))

    def close(self) -> None:
        """Remove the camera."""
        self._camera.close()


class Window:
    """A window; Escape or closing it ends the session, space changes the source.

    Args:
        info: Size of the pictures.
        source: The sources that space switches.

    Raises:
        OutputError: If there is no screen, or the package is missing.
    """

    def __init__(self, info: VideoInfo, source: Newest) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame
        except ModuleNotFoundError as error:
            raise OutputError(
                "a window needs pygame-ce: pip install 'rematte[live]'"
            ) from error
        self._pygame, self._source = pygame, source
        try:
            pygame.display.init()
            driver = pygame.display.get_driver()
            wanted = os.environ.get("SDL_VIDEODRIVER", "")
            if driver in _INVISIBLE and driver not in wanted.split(","):
                raise OutputError(
                    "no window can be opened: this session has no display; start it "
                    "from a desktop (DISPLAY or WAYLAND_DISPLAY is set there), or give "
                    "-o a file, an address, virtual-camera or -"
                )
            flags = pygame.RESIZABLE | pygame.SCALED
            with warnings.catch_warnings():  # about a slow renderer
                warnings.simplefilter("ignore")
                size = info.width, info.height
                self._screen = pygame.display.set_mode(size, flags)
        except pygame.error as error:
            raise OutputError(f"no window can be opened here ({error})") from error
        pygame.display.set_caption("rematte")

    def write(self, frame: Frame) -> None:
        """Show a picture and handle events.

        Raises:
            KeyboardInterrupt: If the window was closed.
        """
        pygame = self._pygame
        pixels = frame.pixels
        if pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, 2)
        pixels = np.ascontiguousarray(pixels[..., :3])
        size = pixels.shape[1], pixels.shape[0]
        picture = pygame.image.frombuffer(pixels.tobytes(), size, "RGB")
        self._screen.blit(picture, (0, 0))
        pygame.display.flip()
        for event in pygame.event.get():
            pressed = event.key if event.type == pygame.KEYDOWN else None
            if event.type == pygame.QUIT or pressed == pygame.K_ESCAPE:
                raise KeyboardInterrupt
            if pressed == pygame.K_SPACE:
                self._source.switch()

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()
