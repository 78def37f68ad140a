"""Live: the newest picture of a camera, cut out and shown at once.

Pictures that come while one is worked on are dropped, all but the newest, so that what
is seen is never late by more than the work on one picture.
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
from rematte.engines.choose import choose_engine, describe_engine, placement
from rematte.errors import InputError, OutputError
from rematte.live.sources import Newest, Sink, StreamSink, VirtualCamera, Window
from rematte.matting.background import (
    ImageBackground,
    Renderer,
    VideoBackground,
    make_background,
)
from rematte.matting.loop import choose_ratio, run
from rematte.video.codecs import can_hold_alpha, choose
from rematte.video.frame import Frame, VideoInfo
from rematte.video.output_paths import check_target
from rematte.video.writer import FileWriter

SHOWS = ("composition", "alpha", "foreground")


@dataclass
class LiveReport:
    """What was shown.

    Attributes:
        frames: How many pictures were shown.
        dropped: How many came and were not.
        seconds: From the first to the end [s].
        latency: Median time from a picture's coming to its being shown [s].
        latency_p95: The 95th percentile of that [s].
        engine: What ran the network, and why.
        notes: What else there is to say.
    """

    frames: int = 0
    dropped: int = 0
    seconds: float = 0.0
    latency: float = 0.0
    latency_p95: float = 0.0
    engine: str = ""
    notes: list[str] = field(default_factory=list)


class _Recording:
    """A file that is complete once it is closed."""

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
        self._waiting: Frame | None = None

    def write(self, frame: Frame) -> None:
        if self._waiting is not None:  # shown until the next one came
            length = frame.time - self._waiting.time
            self._writer.write(replace(self._waiting, duration=length))
        self._waiting = frame

    def close(self) -> None:
        if self._waiting is None:
            self._writer.discard()
            return
        self._writer.write(self._waiting)
        self._writer.finish()


def live(
    model: Any,
    sources: str | list[str],
    output: str,
    *,
    show: str = "composition",
    background: str | None = None,
    background_fit: str | None = None,
    downsample_ratio: float | str | None = None,
    size: tuple[int, int] | None = None,
    deinterlace: str = "auto",
    engine: str = "auto",
    mbps: float | None = None,
    pace: bool = True,
    limit: int | None = None,
    overwrite: bool = False,
    tell: Callable[[LiveReport], object] = lambda report: None,
) -> LiveReport:
    """Cut people out of what a camera shows, until it ends or Ctrl-C.

    Args:
        model: A loaded network.
        sources: A camera ("camera", "camera:1"), a URL or a file, or several, of which
            the first is shown. The recurrent state starts anew at each change.
        output: "window", "virtual-camera", a file, an address (rtmp://, srt://,
            udp://), "-" or a named pipe, which get raw video in NUT.
        show: "composition", "alpha" or "foreground".
        background: See `make_background`; green unless given.
        background_fit: "cover" (the default), "contain" or "stretch".
        downsample_ratio: See `convert_video`.
        size: Width and height [pixels] to resize to.
        deinterlace: See `convert_video`.
        engine: See `convert_video`.
        mbps: Bit rate of files and addresses [Mbit/s].
        pace: Hold a file to its own times, as if it were a camera.
        limit: Stop after this many pictures.
        overwrite: Replace a file that exists.
        tell: Called after each picture with the report as it stands.

    Returns:
        What was shown.

    Raises:
        ValueError: If an argument is out of its range.
        InputError: If the source cannot be opened, or breaks off.
        OutputError: If the output cannot be opened or breaks off.
    """
    sources = [sources] if isinstance(sources, str) else sources
    if show not in SHOWS:
        raise ValueError(f"show must be one of {', '.join(SHOWS)}, got {show!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more pictures, got {limit}")
    alpha = show == "composition" and background == "transparent"
    behind = make_background(background or "green", background_fit or "cover")
    backdrop = isinstance(behind, ImageBackground | VideoBackground)
    files = [source for source in sources if Path(source).is_file()]
    for flag, value, met in (
        ("live --background", background, show == "composition"),
        ("live --background-fit", background_fit, backdrop),
        ("live --no-pace", not pace, bool(files)),
    ):
        need(flag, value, met)
    renderer = Renderer(show, background=behind)
    newest = Newest(sources, size, pace, deinterlace)
    # Building an engine takes long, so an output that cannot be opened comes first.
    sink = _open(output, newest, show, alpha, mbps, overwrite)
    report, times = LiveReport(), list[float]()
    try:
        matting = _build(model, newest.info, renderer, report, engine, downsample_ratio)
        with newest:
            begun = time.perf_counter()
            for frame in _mattes(newest, matting, renderer):
                sink.write(frame)
                times.append(newest.now() - float(frame.time))
                report.frames, report.dropped = len(times), newest.dropped
                report.seconds = time.perf_counter() - begun
                tell(report)
                if report.frames == limit:
                    break
        if not times:
            raise InputError(f"{sources[0]}: no picture came")
    except KeyboardInterrupt:  # the usual end of a camera
        pass
    except BaseException:
        with suppress(OutputError):  # the first error is the one to report
            sink.close()
        raise
    sink.close()
    report.notes += newest.notes + getattr(sink, "notes", [])
    if times:
        report.latency = float(np.median(times))
        report.latency_p95 = float(np.percentile(times, 95))
    return report


def _build(
    model: Any,
    info: VideoInfo,
    renderer: Renderer,
    report: LiveReport,
    engine: str,
    downsample_ratio: float | str | None,
) -> Any:
    """Build what a picture of this size needs, before the first one comes."""
    device, dtype = placement(model, None, None)
    chosen = choose_engine(
        model, device, dtype, engine=engine, size=(info.height, info.width),
        ratio=choose_ratio(info.width, info.height, downsample_ratio),
        report=report.notes.append,
    )  # fmt: skip
    matting = partial(run, chosen, downsample_ratio=downsample_ratio)
    blank = np.zeros((info.height, info.width, 3), np.uint8)
    for matted in matting([Frame(blank, info.time_base, info.time_base)]):
        renderer(matted)
    report.engine = describe_engine(chosen)
    return matting


def _mattes(newest: Newest, matting: Any, renderer: Renderer) -> Iterator[Frame]:
    """Give finished pictures; the state starts anew with each source."""
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
    output: str,
    newest: Newest,
    show: str,
    alpha: bool,
    mbps: float | None,
    overwrite: bool,
) -> Sink:
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
    return _Recording(path, info, alpha, show, mbps, overwrite)
