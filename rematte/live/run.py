"""Mattes the latest picture of a camera and shows it at once.

While a picture is being processed, all newer ones but the latest are dropped, so the
delay never exceeds the time that one picture takes. With `drop=False` the source waits
instead.
"""

import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rematte.conversion.needs import need
from rematte.errors import InputError, OutputError
from rematte.live.sinks import (
    PIPE_FORMATS,
    Sink,
    StreamSink,
    VirtualCamera,
    Window,
)
from rematte.live.sources import Newest, Raw
from rematte.matter.matter import Matter, Stream
from rematte.matting.background import (
    ImageBackground,
    Renderer,
    VideoBackground,
    make_background,
)
from rematte.options import Options, make_options
from rematte.video.codecs import can_hold_alpha
from rematte.video.encoding import choose
from rematte.video.frame import Frame, VideoInfo
from rematte.video.output_paths import check_target
from rematte.video.writer import FileWriter

SHOWS = ("composition", "alpha", "foreground")
_OPTIONS = {
    *("background", "background_fit", "deinterlace", "downsample_ratio", "engine"),
    *("frame_rate", "input_resize", "limit", "output_video_mbps", "overwrite"),
    *("quality", "region"),
}


@dataclass
class LiveReport:
    """Statistics of a live session.

    Attributes:
        frames: Number of pictures shown.
        dropped: Number of pictures that arrived and were not shown.
        seconds: Time from the first picture to the end [s].
        latency: Median time from a picture's arrival until it is shown [s].
        latency_p95: The 95th percentile of that time [s].
        engine: The engine's name, and why it was chosen.
        notes: Remarks for the user, in words.
    """

    frames: int = 0
    dropped: int = 0
    seconds: float = 0.0
    latency: float = 0.0
    latency_p95: float = 0.0
    engine: str = ""
    notes: list[str] = field(default_factory=list)


class _Recording:
    """A sink that records to a file; `close` completes it."""

    def __init__(self, path: Path, info: VideoInfo, alpha: bool, show: str,
                 mbps: float | None, overwrite: bool) -> None:  # fmt: skip
        check_target(path, overwrite)
        encoding = choose(
            path,
            info,
            alpha=alpha,
            gray=show == "alpha",
            codec=None,
            crf=None,
            mbps=mbps,
        )
        need("live --mbps", mbps, encoding.mbps is not None)
        self._writer = FileWriter(path, info, encoding)
        self.notes = self._writer.notes
        self._last: Frame | None = None

    def write(self, frame: Frame) -> None:
        if self._last is not None:  # it was shown until this one arrived
            duration = frame.time - self._last.time
            self._writer.write(replace(self._last, duration=duration))
        self._last = frame

    def close(self) -> None:
        if self._last is None:
            self._writer.discard()
            return
        self._writer.write(self._last)
        self._writer.finish()


def live(
    model: Any,
    sources: str | list[str],
    output: str,
    *,
    show: str = "composition",
    pace: bool = True,
    drop: bool = True,
    raw_input: tuple[int, int] | None = None,
    pipe_format: str | None = None,
    report: Callable[[LiveReport], object] = lambda report: None,
    **options: Any,
) -> LiveReport:
    """Cut people out of the pictures of a camera, until it ends or Ctrl-C.

    Args:
        model: A loaded network.
        sources: A camera ("camera", "camera:1"), a URL, a file, a named pipe or "-",
            the standard input; or several, of which the first is shown. The recurrent
            state is reset at each change.
        output: "window", "virtual-camera", a file, an address (rtmp://, srt://,
            udp://), or "-" or a named pipe for uncompressed video.
        show: "composition", "alpha" or "foreground".
        pace: Play a file at its own speed, as if it were a camera.
        drop: Drop pictures that arrive while another one is processed, except for the
            newest. Otherwise the source waits, and pictures keep its times.
        raw_input: Width and height [pixels] of raw RGB24 video in a pipe; needs
            `frame_rate`.
        pipe_format: What is written to a pipe: "nut" (the default), or frames without
            a container, "rgba", "rgb24" or "gray".
        report: Called after each picture with the statistics so far.
        **options: These fields of `Options`: `background`, `background_fit`,
            `deinterlace`, `downsample_ratio`, `engine`, `frame_rate` (of raw input),
            `input_resize`, `limit`, `output_video_mbps`, `quality`, `region` and
            `overwrite`, which is False by default. With the region "auto" a window
            follows the people, without looking ahead.

    Returns:
        The statistics.

    Raises:
        TypeError: If there is no such option.
        ValueError: If an argument is out of its range.
        InputError: If the source cannot be opened, or breaks off.
        OutputError: If the output cannot be opened or breaks off.
    """
    how = _make_options(options)
    sources = [sources] if isinstance(sources, str) else sources
    if show not in SHOWS:
        raise ValueError(f"show must be one of {', '.join(SHOWS)}, got {show!r}")
    alpha = show == "composition" and how.background == "transparent"
    need("live --no-pace", not pace, any(Path(source).is_file() for source in sources))
    renderer = _make_renderer(how, show)
    raw = _describe_raw(sources, raw_input, how)
    _check_pipe_format(output, pipe_format, show, alpha)
    newest = Newest(
        sources, how.input_resize, pace, how.deinterlace or "auto", drop, raw
    )
    # The output first: an error there should not wait until an engine is built.
    sink = _open(output, newest, show, alpha, how, pipe_format or "nut")
    stats, times = LiveReport(), list[float]()
    try:
        stream = _build(model, newest.info, renderer, stats, how)
        with newest:
            start = time.perf_counter()
            for frame, arrived in _mattes(newest, stream, renderer):
                sink.write(frame)
                times.append(newest.now() - arrived)
                stats.frames, stats.dropped = len(times), newest.dropped
                stats.seconds = time.perf_counter() - start
                report(stats)
                if stats.frames == how.limit:
                    break
        if not times:
            raise InputError(f"{sources[0]}: no picture came")
    except KeyboardInterrupt:  # the usual end of a camera
        pass
    except BaseException:
        with suppress(OutputError):  # only the first error is raised
            sink.close()
        raise
    sink.close()
    stats.notes += newest.notes + getattr(sink, "notes", [])
    if times:
        stats.latency = float(np.median(times))
        stats.latency_p95 = float(np.percentile(times, 95))
    return stats


def _make_options(given: dict[str, Any]) -> Options:
    if unknown := given.keys() - _OPTIONS:
        raise TypeError(f"live has no option {', '.join(sorted(unknown))}")
    options = make_options(**{"overwrite": False} | given)
    chosen = options.downsample_ratio in (None, "auto")
    need("live --quality", options.given().get("quality"), chosen)
    return options


def _make_renderer(options: Options, show: str) -> Renderer:
    chosen: Any = options.background or "green"
    background = make_background(chosen, options.background_fit or "cover")
    backdrop = isinstance(background, ImageBackground | VideoBackground)
    need("live --background", options.background, show == "composition")
    need("live --background-fit", options.background_fit, backdrop)
    return Renderer(show, background=background)


def _build(
    model: Any,
    info: VideoInfo,
    renderer: Renderer,
    stats: LiveReport,
    options: Options,
) -> Stream:
    """Build the engine for pictures of this size, before the first one arrives."""
    names = "engine", "downsample_ratio", "quality", "region"
    given: Any = {name: getattr(options, name) for name in names}
    matter = Matter(model, **given)
    stats.engine = matter.engine
    stream = matter.stream()
    blank = np.zeros((info.height, info.width, 3), np.uint8)
    renderer(stream(Frame(blank, info.time_base, info.time_base)))
    stream.reset()
    return stream


def _describe_raw(
    sources: list[str], size: tuple[int, int] | None, options: Options
) -> Raw | None:
    """Give the size and rate of raw video in a pipe; None if there is none."""
    pipes = any(source == "-" or Path(source).is_fifo() for source in sources)
    need("live --raw-input", size, pipes)
    need("live --frame-rate", options.frame_rate, size is not None)
    if size is None:
        return None
    if options.rate is None:
        raise ValueError(
            "raw_input (--raw-input) needs frame_rate (--frame-rate), since raw video "
            "does not state how many frames a second has; give both"
        )
    return Raw(size, options.rate)


def _check_pipe_format(
    output: str, pipe_format: str | None, show: str, alpha: bool
) -> None:
    need("live --format", pipe_format, output == "-" or Path(output).is_fifo())
    if pipe_format not in (None, *PIPE_FORMATS):
        raise ValueError(
            f"pipe_format must be one of {', '.join(PIPE_FORMATS)}, got {pipe_format!r}"
        )
    if pipe_format == "rgb24" and alpha:
        raise ValueError(
            "--format rgb24 has no alpha; use rgba, or a background that is not "
            "transparent"
        )
    if pipe_format == "gray" and show != "alpha":
        raise ValueError("--format gray has no colours; use it with --show alpha")


def _mattes(
    newest: Newest, stream: Stream, renderer: Renderer
) -> Iterator[tuple[Frame, float]]:
    """Yield finished pictures, each with the time of its arrival since the start [s].

    The recurrent state is reset where the source changes.
    """
    source = None
    while (arrival := newest.take()) is not None:
        if arrival.source != source:
            stream.reset()
            source = arrival.source
        matted = stream(arrival.frame)
        yield replace(matted.frame, pixels=renderer(matted)), arrival.arrived


def _open(
    output: str,
    newest: Newest,
    show: str,
    alpha: bool,
    options: Options,
    pipe_format: str,
) -> Sink:
    mbps = options.output_video_mbps
    path, info = Path(output), newest.info
    screen = output in ("window", "virtual-camera")
    pipe = path.exists() and stat.S_ISFIFO(path.stat().st_mode)
    address = "://" in output
    need("live --mbps", mbps, address or not (screen or pipe or output == "-"))
    if screen and alpha:
        raise OutputError(f"{output} is not transparent; give a background")
    if output == "window":
        return Window(info, newest)
    if output == "virtual-camera":
        return VirtualCamera(info)
    if output == "-" or address or pipe:
        return StreamSink(output, info, alpha, mbps, pipe_format)
    if alpha and not can_hold_alpha(path.suffix.lower()):
        raise OutputError(
            f"{output} is not transparent; use .mov, .webm or .mkv, or a background"
        )
    if path.suffix.lower() == ".avif":
        raise OutputError(
            f"{output}: AVIF is encoded at the end, not as it plays; record .mkv and "
            "convert that"
        )
    return _Recording(path, info, alpha, show, mbps, options.overwrite)
