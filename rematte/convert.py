"""Converts a video, an image folder or an image: read, matte, composite, write.

The one flow of the package: video reader → matting loop → compositing → video writer.
"""

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from os.path import realpath
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from tqdm import tqdm

from rematte.conversion.effects import check
from rematte.engines.choose import (
    Matting,
    choose_matting,
    chunk_length,
    kind_of_engine,
    placement,
)
from rematte.errors import InputError, OutputError
from rematte.matting.background import (
    ImageBackground,
    Renderer,
    VideoBackground,
    make_background,
    parse_colour,
)
from rematte.matting.loop import (
    AnyMatted,
    choose_ratio,
    matte_still,
)
from rematte.options import Backdrop, Conversion, Options, make_options
from rematte.prefetch import Ahead, Behind
from rematte.video.clock import Clock
from rematte.video.codecs import (
    Encoding,
    can_hold_alpha,
    choose,
    is_sequence,
    pattern_of,
    with_alpha,
)
from rematte.video.frame import Frame, VideoInfo
from rematte.video.opening import Limits
from rematte.video.reader import VideoReader, describe_damage
from rematte.video.tone import displayed
from rematte.video.writer import (
    FileWriter,
    ImageWriter,
    Writer,
    check_target,
    replaced_images,
)

T = TypeVar("T")
Progress = Callable[[int, int | None], object]


@dataclass
class Report:
    """What a conversion did.

    Attributes:
        frames: How many frames came in, and went into every output.
        width: Of the frames [pixels].
        height: Of the frames [pixels].
        downsample_ratio: What the network used.
        engine: What ran the network, and why.
        setup: Part of the time spent on choosing and building the engine [s].
        seconds: Wall time of the whole conversion.
        shares: Parts of the stages in the work done: decoding, the network,
            compositing and encoding; they add up to 1. Stages run side by side, so
            the largest one sets the pace.
        outputs: What was written, by kind.
        notes: What is not as in the source, in words.
        damaged: Where damage was passed over, by time [s]; see `VideoReader`.
    """

    frames: int = 0
    width: int = 0
    height: int = 0
    downsample_ratio: float = 1.0
    engine: str = ""
    setup: float = 0.0
    seconds: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    damaged: dict[float, str] = field(default_factory=dict)


class _Stages:
    """How long each stage works, not counting what it waits for other stages.

    A stage inside another in the same thread takes its time from it.
    """

    def __init__(self) -> None:
        names = ("decode", "network", "composite", "encode", "wait")
        self._seconds = dict.fromkeys(names, 0.0)
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._begun = time.perf_counter()

    def _switch(self, running: list[str]) -> None:
        now = time.perf_counter()
        if running:
            with self._lock:
                self._seconds[running[-1]] += now - self._thread.since
        self._thread.since = now

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        if not hasattr(self._thread, "running"):
            self._thread.running = []
        running: list[str] = self._thread.running
        self._switch(running)
        running.append(stage)
        try:
            yield
        finally:
            self._switch(running)
            running.pop()

    def around(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Pass items on; the time it takes to make them is the stage's."""
        iterator = iter(items)
        while True:
            with self(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
            del item  # 4K frames are large: not to be held while the next is made

    def total(self) -> float:
        return time.perf_counter() - self._begun

    def shares(self) -> dict[str, float]:
        with self._lock:
            seconds = {k: v for k, v in self._seconds.items() if k != "wait"}
        total = sum(seconds.values()) or 1.0
        return {name: value / total for name, value in seconds.items()}


@dataclass(frozen=True)
class Output:
    """One thing to write.

    Attributes:
        kind: "output", "composition", "alpha" or "foreground".
        path: Where it goes.
        encoding: How it is encoded.
        pixels: What makes its pixels.
        backdrop: Whether an image or a video lies behind the person.
    """

    kind: str
    path: Path
    encoding: Encoding
    pixels: Renderer
    backdrop: bool = False
    start_number: int | None = None


def convert_video(
    model: Any,
    input_source: str | Path,
    input_resize: tuple[int, int] | None = None,
    downsample_ratio: float | str | None = None,
    output_type: str = "video",
    output_composition: str | Path | None = None,
    output_alpha: str | Path | None = None,
    output_foreground: str | Path | None = None,
    output_video_mbps: float | None = None,
    seq_chunk: int | str = 1,
    num_workers: int = 0,
    progress: bool | Progress = True,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    *,
    output: str | Path | None = None,
    **options: Any,
) -> Report:
    """Cut the people out of a video, with its sound and exact times.

    Args:
        model: A loaded network, or a TorchScript one.
        input_source: A video file, a folder of images, a pattern of numbered images
            such as "plate.%04d.exr" or "plate.####.exr", or an image (which is shown
            to the network until its alpha settles).
        input_resize: Width and height [pixels] to resize input and outputs to.
        downsample_ratio: Size of the coarse pass in (0, 1]; None or "auto" makes the
            longer side at most 512.
        output_type: "video", or "png_sequence" where the outputs are folders. For
            "video" every path's own suffix decides.
        output_composition: Where the person over the background goes; a png
            sequence is transparent unless a background is given.
        output_alpha: Where the alpha matte goes.
        output_foreground: Where the foreground goes, as predicted, without alpha.
        output_video_mbps: Bit rate [Mbit/s] instead of constant quality, for codecs
            that have one.
        seq_chunk: Frames at once, or "auto". The results are the same.
        num_workers: Threads that read ahead, for image folders.
        progress: Show a progress bar on stderr, or a function to be called instead
            with how many frames are done and how many there are, as far as is known.
        device: Where the model is; needed for frozen TorchScript.
        dtype: The model's precision; needed for frozen TorchScript.
        output: Where the cut-out goes: transparent where the format can hold that,
            else over the background, with a note. Without `output_composition` a
            background that is given is laid under it.
        **options: Any other field of `rematte.options.Options`, which describes all:
            the background, what part to convert, how to read and how to encode.

    Returns:
        What was done.

    Raises:
        TypeError: If there is no such option.
        ValueError: If an argument is out of its range or does not fit the others.
        InputError: If the input cannot be read.
        OutputError: If an output cannot be written; nothing is left behind then.
        KeyboardInterrupt: After what there was so far has been saved in files with
            ".partial" in their names, which are the error's arguments.
    """
    made = make_options(
        input_resize=input_resize, downsample_ratio=downsample_ratio,
        output_type=output_type, output_video_mbps=output_video_mbps,
        seq_chunk=seq_chunk, num_workers=num_workers, device=device, dtype=dtype,
        **options,
    )  # fmt: skip
    wanted = wanted_outputs(
        output_type, output=output, composition=output_composition,
        alpha=output_alpha, foreground=output_foreground,
    )  # fmt: skip
    return convert(model, input_source, wanted, made, progress=progress)


def convert(
    model: Any,
    input_source: str | Path,
    wanted: dict[str, Path],
    options: Options,
    *,
    progress: bool | Progress = True,
    part: "Part | None" = None,
) -> Report:
    """Convert as `convert_video` does, with all options in one object.

    Args:
        model: A loaded network, or a TorchScript one.
        input_source: A video file, an image, or a folder or pattern of images.
        wanted: Where each output goes, by kind; see `wanted_outputs`.
        options: How.
        progress: Show a progress bar on stderr, or a function to be called instead.
        part: Convert a part of it, with nothing but the picture; see `segments`.

    Returns:
        What was done.
    """
    stages = _Stages()
    device, dtype = placement(model, options.device, options.dtype)
    check_paths(wanted, Path(input_source), options.background, options.overwrite)
    since, until = options.span
    with open_reader(input_source, options, since, until) as reader:
        info = reader.info
        report = Report(
            0, info.width, info.height,
            choose_ratio(info.width, info.height, options.downsample_ratio),
        )  # fmt: skip
        outputs = plan_outputs(wanted, info, options, part.origin if part else None)
        if part is None:
            kind = kind_of_engine(model, device, dtype, options.engine)
            chunked = kind == "plain" and not info.still
            report.notes += check(options, describe(reader, outputs, options, chunked))
            check_images(wanted, reader, options)
        frames = stages.around(
            "decode",
            islice(
                (part.select if part else iter)(displayed(reader, info.colour)),
                options.limit,
            ),
        )
        first = next(frames, None) or _no_frame(input_source, options)
        chunk = chunk_length(options.seq_chunk, device)
        matting = part.matting if part else choose_matting(
            model, device, dtype, report, engine=options.engine,
            frames=_total(info, options.limit),
            downsample_ratio=options.downsample_ratio,
            seq_chunk=1 if info.still else chunk,
        )  # fmt: skip
        if info.still:
            matting = partial(_each_still, matting)
        shift = first.time if since is not None else Fraction(0)
        origin = None if reader.images or part else Path(input_source)
        bar = tqdm(
            total=_total(info, options.limit),
            unit="frame",
            disable=progress is not True,
            desc=Path(input_source).name,
            dynamic_ncols=True,
        )
        with (
            bar,
            _open_writers(
                outputs, info, origin, shift, until, options.audio, reader.limits,
                reader.clock,
            ) as writers,
        ):  # fmt: skip
            tell = progress if callable(progress) else None
            last = _run(stages, chain((first,), frames), matting, outputs, writers,
                        report, bar, tell)  # fmt: skip
            # The sound ends where the picture was cut, and else where it ends itself.
            cut = report.frames == options.limit
            stop = last if cut else until and max(until, last)
            with stages("encode"):
                _publish(writers, stop)
    report.seconds, report.shares = stages.total(), stages.shares()
    _sum_up(report, reader, outputs, writers, part)
    return report


def _sum_up(
    report: Report,
    reader: VideoReader,
    outputs: list[Output],
    writers: list[Writer],
    part: "Part | None",
) -> None:
    """Put into the report what was written and what there is to say."""
    report.outputs = {item.kind: str(item.path) for item in outputs}
    report.damaged = reader.damaged
    report.notes += [*reader.notes, *([] if part else describe_damage(reader.damaged))]
    for writer in writers:
        report.notes += [f"{writer.path.name}: {note}" for note in writer.notes]
    if part is not None:
        part.notes.extend(reader.late_notes)


def open_reader(
    source: str | Path,
    options: Options,
    start: Fraction | None = None,
    end: Fraction | None = None,
    size: tuple[int, int] | None = None,
) -> VideoReader:
    """Open an input as options say.

    Args:
        source: The input.
        options: How.
        start: Skip what is shown before this time [s].
        end: Stop before this time [s].
        size: Width and height [pixels] of the frames; None: as in the options.
    """
    return VideoReader(
        source,
        size=size or options.input_resize,
        start=start,
        end=end,
        frame_rate=options.rate,
        ignore_errors=options.ignore_errors,
        threads=options.num_workers,
        hwaccel=options.hwaccel,
        hold_gaps=True,
        limits=Limits(options.max_pixels, options.allow_lists),
        deinterlace=options.deinterlace or "auto",
        audio=options.audio,
        input_alpha=options.input_alpha,
    )


def describe(
    reader: VideoReader,
    outputs: Sequence[Output],
    options: Options,
    chunked: bool,
) -> Conversion:
    """Describe a conversion to `check`.

    Args:
        reader: The input.
        outputs: From `plan_outputs`.
        options: As given.
        chunked: Whether the network takes several frames at once.
    """
    cut = options.start is not None or options.end is not None
    return Conversion(
        reader.info.still,
        reader.images,
        {item.kind: item.encoding for item in outputs},
        any(item.backdrop for item in outputs),
        chunked,
        options.output_type == "png_sequence",
        any(is_sequence(item.path) for item in outputs),
        not reader.info.colour.sdr,
        not reader.images or cut or any(map(_has_times, outputs)),
    )


def _has_times(output: Output) -> bool:
    encoding = output.encoding
    return not encoding.image or encoding.codec.encoder == "exr" or output.backdrop


def frames_within(
    reader: VideoReader, options: Options
) -> tuple[list[Fraction], int, int]:
    """Find the frames of a source that are asked for.

    Returns:
        When each frame of the source is shown [s], the index of the first one that is
        asked for, and that of the first one after those.

    Raises:
        InputError: If there is no such frame, or the source does not say its times.
    """
    since, until = options.span
    times = reader.times()
    # A frame is shown until the next, the last as long as usual.
    ends = [*times[1:], *(shown + 1 / reader.info.rate for shown in times[-1:])]
    begin = 0 if since is None else bisect_right(ends, since)
    stop = len(times) if until is None else bisect_left(times, until)
    if options.limit is not None:
        stop = min(stop, begin + options.limit)
    if begin >= stop:
        _no_frame(reader.path, options)
    return times, begin, stop


def check_images(
    outputs: Mapping[str, Path],
    reader: VideoReader,
    options: Options,
) -> None:
    """Find out before any work which images outputs would replace.

    Args:
        outputs: Paths by kind.
        reader: The source.
        options: As given.

    Raises:
        ValueError: If two images of the source would be written as one.
        OutputError: If images would be replaced that may not be.
    """
    start_number = options.start_number
    folders = [path for path in outputs.values() if is_sequence(path)]
    frames: Sequence[tuple[str, int | None]] | int | None = None
    if reader.images and folders:
        _, begin, stop = frames_within(reader, options)
        frames = reader.labels[begin:stop]
        _check_names_differ(folders, reader, frames, start_number)
    for path in [] if options.overwrite else folders:
        if frames is None and replaced_images(path, None, start_number):
            with suppress(InputError):  # it does not say how many frames it has
                _, begin, stop = frames_within(reader, options)
                frames = stop - begin
        replaced = replaced_images(path, frames, start_number)
        if replaced:
            more = f" and {len(replaced) - 1} more" if len(replaced) > 1 else ""
            folder = path if path.is_dir() else path.parent
            raise OutputError(
                f"{folder / replaced[0]}{more} would be replaced; pass overwrite (-y) "
                "to replace what is there"
            )


def _check_names_differ(
    folders: Sequence[Path],
    reader: VideoReader,
    frames: Sequence[tuple[str, int | None]],
    start_number: int | None,
) -> None:
    """Refuse images whose names differ in their suffix alone, in a folder."""
    named = [path for path in folders if pattern_of(path) is None]
    if named and start_number is None and len(dict(frames)) < len(frames):
        stems = [name for name, _ in frames]
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise ValueError(
            f"{reader.path} has several images named {twice}, which would be written "
            f"as one {named[0] / twice}.png; give a pattern such as "
            f"{named[0] / '%04d.png'} as output"
        )


@dataclass(frozen=True)
class Part:
    """Which part of a video is converted.

    Attributes:
        select: Takes of the frames, from `start` on, those that are matted.
        matting: Mattes them; it may keep back what is not to be written.
        origin: When a video behind the person begins [s].
        notes: Receives what reading the part has found out.
    """

    select: Callable[[Iterable[Frame]], Iterator[Frame]]
    matting: Matting
    origin: Fraction
    notes: list[str] = field(default_factory=list)


def _each_still(matting: Matting, frames: Iterable[Frame]) -> Iterator[AnyMatted]:
    return map(partial(matte_still, matting), frames)


def _run(
    stages: _Stages,
    frames: Iterable[Frame],
    matting: Matting,
    outputs: list[Output],
    writers: list[Writer],
    report: Report,
    bar: Any,
    tell: Callable[[int, int | None], object] | None,
) -> Fraction:
    """Write every matte; gives the end [s] of the last frame.

    Decoding, network and each encoder have a thread of their own, compositing has
    this one.
    """

    def encode(writer: Writer, frame: Frame) -> None:
        with stages("encode"):
            writer.write(frame)

    last = Fraction(0)
    with ExitStack() as stack:
        decoded = stack.enter_context(Ahead(frames))
        matting_ = stages.around("network", matting(stages.around("wait", decoded)))
        mattes = stack.enter_context(Ahead(matting_))
        sinks = [
            stack.enter_context(Behind(partial(encode, writer))) for writer in writers
        ]
        for matted in mattes:
            for item, sink in zip(outputs, sinks, strict=True):
                with stages("composite"):
                    pixels = item.pixels(matted)
                sink.put(matted.frame.showing(pixels))
            last = matted.frame.time + matted.frame.duration
            del matted, pixels
            report.frames += 1
            bar.update()
            if tell is not None:
                tell(report.frames, bar.total)
            if report.frames % 10 == 0:
                shares = stages.shares().items()
                bar.set_postfix_str(
                    ", ".join(f"{name} {share:.0%}" for name, share in shares), False
                )
    return last


def wanted_outputs(output_type: str, **paths: str | Path | None) -> dict[str, Path]:
    """The outputs asked for, by kind."""
    wanted = {kind: Path(path) for kind, path in paths.items() if path is not None}
    if not wanted:
        raise ValueError(
            "no output: give output_composition, output_alpha or output_foreground "
            "(-o, --composition, --alpha or --foreground)"
        )
    if output_type == "png_sequence":
        return {kind: path / "%04d.png" for kind, path in wanted.items()}
    return wanted


def check_paths(
    wanted: dict[str, Path], source: Path, background: Any, overwrite: bool
) -> None:
    """Refuse paths that would harm the input or one another."""
    taken = [(source, "the input")]
    several = isinstance(background, Mapping)
    for each in background.values() if several else [background]:
        if isinstance(each, str | Path) and parse_colour(str(each)) is None:
            taken.append((Path(each), "the background"))
    for kind, path in wanted.items():
        for other, name in taken:
            if _would_overwrite(path, other):
                raise ValueError(f"{kind} {path} is {name} itself; write elsewhere")
        taken.append((path, f"the {kind}"))
        check_target(path, overwrite)


def _would_overwrite(path: Path, other: Path) -> bool:
    """Whether writing to `path`, perhaps many images, replaces `other` or a part."""
    if path.exists() and other.exists() and path.samefile(other):
        return True
    if not is_sequence(path):
        return realpath(path) == realpath(other)
    pattern = pattern_of(path)
    folder = realpath(path.parent if pattern else path)
    alike = other.suffix == ".png"
    if pattern is not None:
        theirs = None if other.exists() else pattern_of(other)
        alike = bool(pattern.digits_in(theirs.name(0) if theirs else other.name))
    inside = realpath(other.parent) == folder and alike
    return inside or folder == realpath(other)


def plan_outputs(
    wanted: Mapping[str, Path],
    info: VideoInfo,
    options: Options,
    origin: Fraction | None = None,
) -> list[Output]:
    """Decide for each output how it is encoded and what is behind the person.

    Args:
        wanted: Paths by kind: "output", "composition", "alpha" or "foreground".
        info: The source.
        options: How they are to look.
        origin: When a video behind the person starts [s]; None: with the first frame.

    Raises:
        ValueError: If a format cannot hold what is asked for.
    """
    given = options.background
    if not isinstance(given, Mapping):
        owner = "composition" if "composition" in wanted else "output"
        given = {} if given is None else {owner: given}
    outputs = []
    for kind, path in wanted.items():
        main = kind in ("output", "composition")
        spec, notes = _choose_backdrop(kind, path, given, options.codec)
        encoding = choose(
            path,
            info,
            alpha=main and spec == "transparent",
            gray=kind == "alpha",
            codec=options.codec if main else None,
            crf=options.crf,
            mbps=options.output_video_mbps,
            tone_map=options.tone_map == "auto",
        )
        encoding = replace(encoding, notes=(*notes, *encoding.notes))
        behind = None
        if main:
            behind = make_background(
                spec,
                options.background_fit or "cover",
                origin,
                Limits(options.max_pixels),
                encoding.colour,
            )
        renderer = Renderer(kind, encoding.wide, behind, encoding.colour)
        backdrop = False
        if isinstance(behind, ImageBackground | VideoBackground):
            backdrop = True
            encoding = replace(encoding, notes=(*encoding.notes, *behind.notes))
        number = options.start_number
        outputs.append(Output(kind, path, encoding, renderer, backdrop, number))
    return outputs


def _choose_backdrop(
    kind: str, path: Path, given: Mapping[str, Backdrop], codec: str | None
) -> tuple[Backdrop, list[str]]:
    """Choose what is behind the person in an output, and say where that is a surprise.

    Args:
        kind: As of `plan_outputs`.
        path: Where to.
        given: What was asked for, by kind of output.
        codec: The codec that was asked for.
    """
    spec = given.get(kind)
    if spec is not None:
        return spec, []
    if kind != "output":
        # The documented composition: green in a video, transparent in images.
        clear = is_sequence(path) and path.suffix.lower() not in (".jpg", ".jpeg")
        return "transparent" if clear else "green", []
    suffix = ".png" if path.is_dir() else path.suffix.lower() or ".png"
    if can_hold_alpha(suffix, codec):
        return "transparent", []
    spec = given.get("composition", "green")
    spec = "green" if spec == "transparent" else spec
    able = can_hold_alpha(suffix)
    why = f"codec {codec}" if able else suffix
    remedy = "leave out --codec" if able else f"{with_alpha()} can"
    return spec, [
        f"not transparent but over {spec}: {why} cannot hold an alpha channel; {remedy}"
    ]


def _no_frame(source: str | Path, options: Options) -> NoReturn:
    raise InputError(
        f"{source}: no frame between {options.start or 0} and "
        f"{options.end or 'its end'}; choose another start (--start)"
    )


def _publish(writers: Sequence[Writer], stop: Fraction | None) -> None:
    """Complete all outputs, and only then give them their names: all or none."""
    for writer in writers:
        writer.complete(stop)
    for writer in writers:
        writer.publish()


@contextmanager
def _open_writers(
    outputs: list[Output],
    info: VideoInfo,
    source: Path | None,
    start: Fraction,
    end: Fraction | None,
    audio: bool,
    limits: Limits,
    clock: Clock,
) -> Iterator[list[Writer]]:
    """Open all outputs; on an error none of them is left behind."""
    writers: list[Writer] = []
    try:
        for item in outputs:
            if item.encoding.image:
                writers.append(
                    ImageWriter(item.path, info, item.encoding, item.start_number)
                )
            else:
                writers.append(
                    FileWriter(
                        item.path,
                        info,
                        item.encoding,
                        source,
                        start,
                        end,
                        audio,
                        limits=limits,
                        clock=clock,
                    )
                )
        yield writers
    except KeyboardInterrupt:
        kept = [_keep_partial(writer) for writer in writers]
        raise KeyboardInterrupt(*(str(path) for path in kept if path)) from None
    except BaseException:
        for writer in writers:
            writer.discard()
        raise


def _keep_partial(writer: Writer) -> Path | None:
    try:
        return writer.keep_partial()
    except (OutputError, KeyboardInterrupt):  # no room for the end; no more patience
        writer.discard()
        return None


def _total(info: VideoInfo, limit: int | None) -> int | None:
    if info.frames is None or limit is None:
        return info.frames or limit
    return min(info.frames, limit)
