"""Mattes the latest picture of a camera and shows it at once.

While a picture is being processed, all newer ones but the latest are dropped, so the
delay never exceeds the time that one picture takes. With `drop=False` the source waits
instead.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rematte.conversion.needs import need
from rematte.errors import InputError, OutputError
from rematte.live.controls import Controls, Presence
from rematte.live.recording import Recorder, Recording, check_recording
from rematte.live.sinks import PIPE_FORMATS, Sink, StreamSink, VirtualCamera
from rematte.live.sources import Newest, Raw
from rematte.live.window import Window
from rematte.matter.matter import Matter, Stream
from rematte.matting.background import FileBackground, Renderer, make_background
from rematte.options import Options, make_options
from rematte.video.codecs import can_hold_alpha
from rematte.video.encoding import Encoding
from rematte.video.frame import Frame, VideoInfo

_SCREENS = ("window", "virtual-camera")
SHOWS = ("composition", "alpha", "foreground")
# A network is fast enough if its least time in so many trials is at most this share of
# the time between pictures: the rest is for reading, drawing and writing.
_TRIALS = 4
_SHARE = 0.8
_PAUSE = 0.05  # between looks at the keys while paused [s]
# What a key changes the background to, after the one that was given.
_BACKGROUNDS = ("blur", "green", "white", "black")
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
        people: When somebody was found in the picture, or nobody was any more: pairs of
            the time [s] and whether somebody is there.
        notes: Remarks for the user, in words.
    """

    frames: int = 0
    dropped: int = 0
    seconds: float = 0.0
    latency: float = 0.0
    latency_p95: float = 0.0
    engine: str = ""
    people: list[tuple[float, bool]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
    record: str | None = None,
    lighter: str | None = None,
    report: Callable[[LiveReport], object] = lambda report: None,
    **options: Any,
) -> LiveReport:
    """Cut people out of the pictures of a camera, until it ends or Ctrl-C.

    Args:
        model: A loaded network.
        sources: A camera ("camera", "camera:1"), a URL, a file, a named pipe or "-",
            the standard input; or several, of which the first is shown. The recurrent
            state is reset at each change.
        output: "window", "virtual-camera", a file, an address (rtmp://, rtsp://,
            udp://), or "-" or a named pipe for uncompressed video.
        show: "composition", "alpha" or "foreground".
        pace: Play a file at its own speed, as if it were a camera.
        drop: Drop pictures that arrive while another one is processed, except for the
            newest. Otherwise the source waits, and pictures keep its times.
        raw_input: Width and height [pixels] of raw RGB24 video in a pipe; needs
            `frame_rate`.
        pipe_format: What is written to a pipe: "nut" (the default), or frames without
            a container, "rgba", "rgb24" or "gray".
        record: A file to record to beside another output, as it is shown; a key of the
            window ends the recording and starts the next, "NAME-2.SUFFIX".
        lighter: Name or file of weights that take the model's place on the CPU, with a
            note, where it would drop pictures: where it takes longer than the source
            leaves it. They see a smaller copy where they would drop pictures too,
            unless a ratio or quality is given. Needs `drop` and `pace`.
        report: Called once the engine is built, and after each picture, with the
            statistics so far.
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
        KeyboardInterrupt: If Ctrl-C comes before the first picture.
    """
    how = _make_options(options)
    sources = [sources] if isinstance(sources, str) else sources
    alpha = show == "composition" and how.background == "transparent"
    _check_pace(pace, drop, lighter, sources)
    renderers = _make_renderers(how, show, output)
    controls = Controls([*renderers], recording=None if record is None else True)
    _check_pipe_format(output, pipe_format, show, alpha)
    newest = Newest(
        sources, how.input_resize, pace, how.deinterlace or "auto", drop,
        _describe_raw(sources, raw_input, how),
    )  # fmt: skip
    # Outputs first: an error there should not wait until an engine is built.
    encode = partial(
        check_recording, info=newest.info, show=show, sources=sources, options=how
    )
    recorder = _open_recorder(record, output, newest.info, how, controls, encode)
    sink = _open(output, newest, alpha, how, pipe_format or "nut", controls, encode)
    sinks: list[Sink] = [sink, recorder] if recorder else [sink]
    stats, times = LiveReport(), list[float]()
    try:
        stream = _build(model, lighter, newest.info, [*renderers.values()], stats, how)
        report(stats)
        with newest:
            made = _mattes(newest, stream, renderers, controls, stats)
            start = time.perf_counter()
            for frame, arrived in islice(made, how.limit):
                for each in sinks:
                    each.write(frame)
                times.append(newest.now() - arrived)
                stats.frames, stats.dropped = len(times), newest.dropped
                stats.seconds = time.perf_counter() - start
                report(stats)
                _pause(sink, controls)
        if not times:
            raise InputError(f"{sources[0]}: no picture came")
    except BaseException as error:
        # Ctrl-C is the usual end of a camera, once there was a picture.
        if not (times and isinstance(error, KeyboardInterrupt)):
            with suppress(OutputError):  # only the first error is raised
                _close(sinks)
            raise
    _close(sinks)
    stats.notes += [
        note for each in (newest, *sinks) for note in getattr(each, "notes", [])
    ]
    if times:
        stats.latency = float(np.median(times))
        stats.latency_p95 = float(np.percentile(times, 95))
    return stats


def _pause(sink: Sink, controls: Controls) -> None:
    """Take no picture while the window is paused."""
    while controls.paused and isinstance(sink, Window):
        time.sleep(_PAUSE)
        sink.refresh()


def _close(sinks: Sequence[Sink]) -> None:
    """Close all sinks, whatever happens to one of them."""
    with ExitStack() as stack:
        for sink in sinks:
            stack.callback(sink.close)


def _make_options(given: dict[str, Any]) -> Options:
    if unknown := given.keys() - _OPTIONS:
        raise TypeError(f"live has no option {', '.join(sorted(unknown))}")
    options = make_options(**{"overwrite": False} | given)
    chosen = options.downsample_ratio in (None, "auto")
    need("live --quality", options.given().get("quality"), chosen)
    return options


def _check_pace(
    pace: bool, drop: bool, lighter: str | None, sources: Sequence[str]
) -> None:
    need("live --no-pace", not pace, any(Path(source).is_file() for source in sources))
    if lighter is not None and not (drop and pace):
        raise ValueError("lighter has no effect without drop and pace; leave it out")


def _make_renderers(options: Options, show: str, output: str) -> dict[str, Renderer]:
    """Make what draws pictures, by background; the one that was given comes first."""
    if show not in SHOWS:
        raise ValueError(f"show must be one of {', '.join(SHOWS)}, got {show!r}")
    fit = options.background_fit or "cover"
    given: Any = options.background or "green"
    background = make_background(given, fit)
    backdrop = isinstance(background, FileBackground)
    need("live --background", options.background, show == "composition")
    need("live --background-fit", options.background_fit, backdrop)
    names = [str(given)]
    if output == "window" and show == "composition":
        names += [name for name in _BACKGROUNDS if name != str(given)]
    return {
        name: Renderer(
            show, background=make_background(name, fit) if index else background
        )
        for index, name in enumerate(names)
    }


def _build(
    model: Any,
    lighter: str | None,
    info: VideoInfo,
    renderers: Sequence[Renderer],
    stats: LiveReport,
    options: Options,
) -> Stream:
    """Build the engine for pictures of this size, before the first one arrives.

    Where it would drop pictures, the lighter network is tried, and then a smaller copy.
    """
    stream, taken = _try(model, info, renderers[0], stats, options, lighter is not None)
    if lighter is None:
        return stream
    on_cpu = replace(options, device="cpu")
    ways = [(on_cpu, f"{lighter} takes its place; name weights (--weights)")]
    if options.ratio == "auto":
        smaller = "it sees a smaller copy of the picture; give a --downsample-ratio"
        ways.append((replace(on_cpu, quality="fast"), smaller))
    for how, change in ways:
        if taken <= _SHARE / info.rate:
            break
        stats.notes.append(
            f"the network takes {taken * 1e3:.0f} ms for a picture and one comes every "
            f"{1e3 / info.rate:.0f} ms, so {change} to decide yourself"
        )
        stream, taken = _try(lighter, info, renderers[0], stats, how, True)
    return stream


def _try(
    model: Any,
    info: VideoInfo,
    renderer: Renderer,
    stats: LiveReport,
    options: Options,
    measure: bool,
) -> tuple[Stream, float]:
    """Build an engine; if `measure`, return the least time that a picture takes [s]."""
    names = "engine", "device", "downsample_ratio", "quality", "region"
    given: Any = {name: getattr(options, name) for name in names}
    matter = Matter(model, **given)
    stats.engine = matter.engine
    stream = matter.stream()
    blank = np.zeros((info.height, info.width, 3), np.uint8)
    taken = list[float]()
    for _ in range(1 + (_TRIALS if measure else 0)):
        start = time.perf_counter()
        renderer(stream(Frame(blank, info.time_base, info.time_base)))
        taken.append(time.perf_counter() - start)
    stream.reset()
    return stream, min(taken)


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
    newest: Newest,
    stream: Stream,
    renderers: Mapping[str, Renderer],
    controls: Controls,
    stats: LiveReport,
) -> Iterator[tuple[Frame, float]]:
    """Yield finished pictures, each with the time of its arrival since the start [s].

    The recurrent state is reset where the source or the mirroring changes.
    """
    before: tuple[int, bool] | None = None
    presence = Presence(stats.people)
    while (arrival := newest.take()) is not None:
        now = arrival.source, controls.mirror
        if now != before:
            stream.reset()
            before = now
        frame = arrival.frame.mirrored() if controls.mirror else arrival.frame
        matted = stream(frame)
        if presence.look(matted, float(matted.frame.time)):
            controls.nobody = not presence.changes[-1][1]
        name = controls.backgrounds[controls.background]
        pixels = renderers[name](matted)
        yield replace(matted.frame, pixels=pixels), arrival.arrived


def _open_recorder(
    record: str | None, output: str, info: VideoInfo, options: Options,
    controls: Controls, encode: Callable[..., Encoding],
) -> Recorder | None:  # fmt: skip
    """Open the recording beside the output, if one is asked for."""
    need("live --record", record, "://" in output or output in _SCREENS)
    if record is None:
        return None
    path = Path(record)
    encoding = encode(path, alpha=False, mbps=None)
    return Recorder(
        path, info, encoding, options.overwrite, lambda: controls.recording is True
    )


def _open(
    output: str, newest: Newest, alpha: bool, options: Options, pipe_format: str,
    controls: Controls, encode: Callable[..., Encoding],
) -> Sink:  # fmt: skip
    mbps = options.output_video_mbps
    path, info = Path(output), newest.info
    screen, pipe, address = output in _SCREENS, path.is_fifo(), "://" in output
    need("live --mbps", mbps, address or not (screen or pipe or output == "-"))
    if screen and alpha:
        raise ValueError(f"{output} is not transparent; give a background")
    if output == "window":
        return Window(info, controls, newest.switch)
    if output == "virtual-camera":
        return VirtualCamera(info)
    if output == "-" or address or pipe:
        return StreamSink(output, info, alpha, mbps, pipe_format)
    if alpha and not can_hold_alpha(path.suffix.lower()):
        raise ValueError(
            f"{output} is not transparent; use .mov, .webm or .mkv, or a background"
        )
    return Recording(path, info, encode(path, alpha=alpha, mbps=mbps))
