"""Sinks of live pictures: streams, pipes, virtual cameras."""

import sys
from typing import Any, Protocol

import av
import numpy as np

from rematte.errors import OutputError
from rematte.live.sources import TIME_BASE
from rematte.video.colour import from_rgb
from rematte.video.frame import Colour, Frame, Pixels, VideoInfo
from rematte.video.raw import RAW_FORMATS

# The formats that can be written to a pipe.
PIPE_FORMATS = ("nut", *RAW_FORMATS)


def as_rgb(pixels: Pixels) -> Pixels:
    """Repeat a gray picture as R, G and B; a screen takes nothing else."""
    return np.ascontiguousarray(pixels.repeat(3, 2) if pixels.shape[2] == 1 else pixels)


class Sink(Protocol):
    """The interface of outputs for live pictures."""

    def write(self, frame: Frame) -> None:
        """Show or send a picture now."""

    def close(self) -> None:
        """End the output; what was written stays."""


class StreamSink:
    """Sends pictures to a network address, or uncompressed into a pipe.

    The target is an address FFmpeg can write to (rtmp://, rtsp://, udp://), "-"
    for the standard output, or a named pipe. A `pipe_format` of "nut" is a container
    that states size and times; the others are frames without a container.
    """

    def __init__(
        self,
        target: str,
        info: VideoInfo,
        alpha: bool,
        mbps: float | None,
        pipe_format: str = "nut",
    ) -> None:
        self._target, self._last = target, -1  # the last picture's time
        if target == "-" and sys.stdout.isatty():
            raise OutputError(
                "- writes raw video, which a terminal cannot show; pipe it into a "
                "program, such as `rematte live camera -o - | mpv -`"
            )
        address = "://" in target
        if address and alpha:
            raise ValueError(f"{target}: H.264 is not transparent; give a background")
        protocols = {"rtmp": "flv", "rtsp": "rtsp"}
        if address:
            kind, codec = protocols.get(target[:4], "mpegts"), "libx264"
        else:
            kind, codec = "nut" if pipe_format == "nut" else "rawvideo", "rawvideo"
        self._pipe: Any = None
        if not address:
            self._pipe = sys.stdout.buffer if target == "-" else open(target, "wb")  # noqa: PTH123, SIM115
        try:
            self._container = av.open(self._pipe or target, "w", format=kind)
            stream: Any = self._container.add_stream(codec, rate=info.rate)
        except (av.error.FFmpegError, OSError) as error:
            raise self._lost(error) from error
        stream.width, stream.height = info.width, info.height
        stream.time_base = stream.codec_context.time_base = TIME_BASE
        if address:
            # H.264 with 4:2:0 needs even sizes.
            stream.width, stream.height = info.width // 2 * 2, info.height // 2 * 2
            stream.pix_fmt = "yuv420p"
            stream.options = {"preset": "veryfast", "tune": "zerolatency"}
            stream.bit_rate = round((mbps or 4) * 1e6)
            stream.codec_context.gop_size = round(2 * info.rate)  # to join within 2 s
        elif pipe_format == "nut":
            stream.pix_fmt = "rgba" if alpha else "rgb24"
        else:
            stream.pix_fmt = pipe_format
        self._stream = stream

    def write(self, frame: Frame) -> None:
        """Send a picture."""
        stream = self._stream
        pixels = frame.pixels[: stream.height, : stream.width]
        picture = from_rgb(pixels, stream.pix_fmt, Colour())
        picture.pts = max(int(frame.time / TIME_BASE), self._last + 1)
        picture.time_base = TIME_BASE
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
        if isinstance(error, av.error.ProtocolNotFoundError):
            return OutputError(
                f"{self._target}: PyAV's FFmpeg does not have this protocol; send "
                "-o - into a program that has it, such as ffmpeg"
            )
        why = getattr(error, "strerror", None) or error
        return OutputError(f"{self._target}: cannot be written to ({why})")


class VirtualCamera:
    """A virtual camera that other programs can open."""

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
        self._camera.send(as_rgb(frame.pixels))

    def close(self) -> None:
        """Remove the camera."""
        self._camera.close()
