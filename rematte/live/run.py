"""Mattes the latest picture of a camera and shows it at once.

While a picture is being processed, all newer ones but the latest are dropped, so the
delay never exceeds the time that one picture takes.
"""

import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rematte.conversion.needs import need
from rematte.engines.choose import choose_engine, describe_engine
from rematte.errors import InputError, OutputError
from rematte.live.sources import Newest, Sink, StreamSink, VirtualCamera, Window
from rematte.matting.background import (
    ImageBackground,
    Renderer,
    VideoBackground,
    make_background,
)
from rematte.matting.loop import run
from rematte.options import Options, make_options
from rematte.video.codecs import can_hold_alpha
from rematte.video.encoding import choose
from rematte.video.frame import Frame, VideoInfo
from rematte.video.output_paths import check_target
from rematte.video.writer import FileWriter

SHOWS = ("composition", "alpha", "foreground")
_OPTIONS = {
    *("background", "background_fit", "deinterlace", "downsample_ratio", "engine"),
    *("input_resize", "limit", "output_video_mbps", "overwrite"),
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
    report: Callable[[LiveReport], object] = lambda report: None,
    **options: Any,
) -> LiveReport:
    """Cut people out of the pictures of a camera, until it ends or Ctrl-C.

    Args:
        model: A loaded network.
        sources: A camera ("camera", "camera:1"), a URL or a file, or several, of which
            the first is shown. The recurrent state is reset at each change.
        output: "window", "virtual-camera", a file, an address (rtmp://, srt://,
            udp://), or "-" or a named pipe for raw video in NUT.
        show: "composition", "alpha" or "foreground".
        pace: Play a file at its own speed, as if it were a camera.
        report: Called after each picture with the statistics so far.
        **options: Of those in `Options`: `background`, `background_fit`,
            `deinterlace`, `downsample_ratio`, `engine`, `input_resize`, `limit`,
            `output_video_mbps` and `overwrite`, which is False by default.

    Returns:
        The statistics.

    Raises:
        TypeError: If there is no such option.
        ValueError: If an argument is out of its range.
        InputError: If the source cannot be opened, or breaks off.
        OutputError: If the output cannot be opened or breaks off.
    """
    if unknown := options.keys() - _OPTIONS:
        raise TypeError(f"live has no option {', '.join(sorted(unknown))}")
    how = make_options(**{"overwrite": False} | options)
    sources = [sources] if isinstance(sources, str) else sources
    if show not in SHOWS:
        raise ValueError(f"show must be one of {', '.join(SHOWS)}, got {show!r}")
    alpha = show == "composition" and how.background == "transparent"
    need("live --no-pace", not pace, any(Path(source).is_file() for source in sources))
    renderer = _make_renderer(how, show)
    newest = Newest(sources, how.input_resize, pace, how.deinterlace or "auto")
    # The output first: an error there should not wait until an engine is built.
    sink = _open(output, newest, show, alpha, how)
    stats, times = LiveReport(), list[float]()
    try:
        matting = _build(model, newest.info, renderer, stats, how)
        with newest:
            start = time.perf_counter()
            for frame in _mattes(newest, matting, renderer):
                sink.write(frame)
                times.append(newest.now() - float(frame.time))
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
) -> Any:
    """Build the engine for pictures of this size, before the first one arrives."""
    chosen = choose_engine(model, engine=options.engine, report=stats.notes.append)
    ratio = options.downsample_ratio
    matting = partial(run, chosen, downsample_ratio=ratio)
    blank = np.zeros((info.height, info.width, 3), np.uint8)
    for matted in matting([Frame(blank, info.time_base, info.time_base)]):
        renderer(matted)
    stats.engine = describe_engine(chosen)
    return matting


def _mattes(newest: Newest, matting: Any, renderer: Renderer) -> Iterator[Frame]:
    """Yield finished pictures; the state is reset with each source."""
    arrival = newest.take()
    while arrival is not None:
        source = arrival.source

        def frames() -> Iterator[Frame]:
            nonlocal arrival
            while arrival is not None and arrival.source == source:  # noqa: B023
                yield arrival.frame
                arrival = newest.take()

        for matted in matting(frames()):
            yield replace(matted.frame, pixels=renderer(matted))


def _open(
    output: str, newest: Newest, show: str, alpha: bool, options: Options
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
        return StreamSink(output, info, alpha, mbps)
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
