"""The outputs of a conversion: how each is encoded, and their files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from rematte.conversion.option_types import is_main
from rematte.conversion.presets import check_preset
from rematte.errors import OutputError
from rematte.matting.background import (
    FileBackground,
    Renderer,
    make_background,
    parse_colour,
)
from rematte.matting.finish import Finish
from rematte.matting.masks import Masks
from rematte.matting.person import Person
from rematte.options import Backdrop, Options
from rematte.video.avif_writer import AvifWriter
from rematte.video.base_writer import Writer
from rematte.video.codecs import (
    can_hold_alpha,
    hevc_with_alpha,
    is_sequence,
    suffix_of,
    with_alpha,
)
from rematte.video.encoding import Encoding, choose
from rematte.video.frame import VideoInfo
from rematte.video.image_writer import ImageWriter
from rematte.video.mask_spec import parse_masks
from rematte.video.opening import Limits
from rematte.video.output_paths import (
    as_output_error,
    real_path,
    sweep,
    temporary_path,
)
from rematte.video.reader import VideoReader
from rematte.video.size_limit import LimitedWriter
from rematte.video.writer import FileWriter

# The number of the first frame of a new scene in the outputs, from 0, and its time [s].
CutList = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Output:
    """One output of a conversion."""

    kind: str  # "output", "composition", "alpha", "foreground" or "plate"
    path: Path
    encoding: Encoding
    render: Renderer  # makes its pixels of a matte
    backdrop: bool = False  # whether an image or a video lies behind the person

    @property
    def limited(self) -> bool:
        """Whether `max_bytes` applies to this output."""
        return is_main(self.kind) and self.encoding.shrinks


def plan_outputs(
    paths: Mapping[str, Path],
    info: VideoInfo,
    options: Options,
    origin: Fraction | None = None,
    chosen: Person | None = None,
) -> list[Output]:
    """Decide for each output how it is encoded and what is behind the person.

    A background video starts at `origin` [s], or with the first frame if that is None.
    `chosen` is the only person who is cut out; None for everybody.
    """
    given = options.background
    if not isinstance(given, Mapping):
        owner = "composition" if "composition" in paths else "output"
        given = {} if given is None else {owner: given}
    outputs = []
    finish = make_finish(options, info.rate, chosen)
    for kind, path in paths.items():
        main = is_main(kind)
        if kind == "plate" and not can_hold_alpha(suffix_of(path)):
            raise ValueError(
                f"plate {path} cannot be transparent where the person is: "
                f"{with_alpha()} can"
            )
        if main:
            check_preset(options.preset, path)
        spec, notes = _choose_backdrop(kind, path, given, options)
        encoding = choose(
            path, info, alpha=(main and spec == "transparent") or kind == "plate",
            gray=kind == "alpha", codec=options.codec if main else None,
            crf=options.crf, mbps=options.output_video_mbps,
            tone_map=options.tone_map == "auto", alpha_mode=options.alpha_mode,
            exr_compression=options.exr_compression or "zip",
            packed=options.packed or "",
        )  # fmt: skip
        background = None
        if main:
            background = make_background(
                spec, options.background_fit or "cover", origin,
                Limits(options.max_pixels), encoding.colour,
            )  # fmt: skip
        backdrop = isinstance(background, FileBackground)
        if isinstance(background, FileBackground):
            notes += background.notes
        renderer = Renderer(
            kind, encoding.sixteen_bit, background, encoding.colour, finish,
            parse_outline(options.outline)[1],
        )  # fmt: skip
        encoding = replace(encoding, notes=(*notes, *encoding.notes))
        outputs.append(Output(kind, path, encoding, renderer, backdrop))
    return outputs


def make_finish(
    options: Options, rate: Fraction = Fraction(30), chosen: Person | None = None
) -> Finish:
    """Make the `Finish` that changes edges, alpha and colours as the options say.

    `rate` is that of masks that are sequences of images [frames/s]; `chosen` is the
    only person who is cut out, None for everybody.
    """
    limits = Limits(options.max_pixels)
    include, exclude = (
        Masks(parse_masks(name, given), limits, rate) if given else None
        for name, given in (("include", options.include), ("exclude", options.exclude))
    )
    return Finish(
        clean=options.edge_colour == "clean", black_point=options.black_point,
        white_point=options.white_point, grow=options.grow, feather=options.feather,
        despill=options.despill, include=include, exclude=exclude, chosen=chosen,
        outline=parse_outline(options.outline)[0], light_wrap=options.light_wrap,
    )  # fmt: skip


def parse_outline(given: str | float | None) -> tuple[float, tuple[int, int, int]]:
    """Read the width of an outline, up to 32 [pixels], and its colour."""
    width, _, name = ("0" if given is None else str(given)).partition(":")
    colour = parse_colour(name or "white")
    with suppress(ValueError):
        if colour and (given is None or 0 < float(width) <= 32):
            return float(width), colour
    raise ValueError(
        f"outline (--outline) must be a width above 0 and at most 32 pixels, with or "
        f"without a colour, such as 8 or 8:#ff0000, got {given!r}"
    )


def _choose_backdrop(
    kind: str, path: Path, given: Mapping[str, Backdrop], options: Options
) -> tuple[Backdrop, list[str]]:
    """Choose an output's background, and note a choice that may surprise.

    The backgrounds that were asked for are given by kind of output.
    """
    codec = options.codec
    spec = given.get(kind)
    if spec is not None:
        return spec, []
    if kind != "output":
        # The documented composition: green in a video, transparent in images.
        clear = is_sequence(path) and can_hold_alpha(path.suffix.lower() or ".png")
        return "transparent" if clear else "green", []
    suffix = suffix_of(path)
    if options.packed or can_hold_alpha(suffix, codec):
        return "transparent", []
    spec = given.get("composition", "green")
    spec = "green" if spec == "transparent" else spec
    able = can_hold_alpha(suffix)
    why = f"codec {codec}" if able else suffix
    remedy = "leave out --codec" if able else f"{with_alpha()} can"
    if codec == "hevc":  # Apple's players would take it
        remedy = f"{remedy}; {hevc_with_alpha()}"
    return spec, [
        f"not transparent but over {spec}: {why} cannot hold an alpha channel; {remedy}"
    ]


@contextmanager
def open_writers(
    outputs: Sequence[Output],
    reader: VideoReader,
    options: Options,
    first: Fraction,
    *,
    tracks: bool = True,
    parts: Mapping[str, Path] | None = None,
) -> Iterator[list[Writer]]:
    """Open all outputs; on an error none of them is left behind.

    If the conversion is interrupted, the frames so far are saved under names with
    ".partial" in them, except in segments and files that are joined from segments.
    The first frame is shown at `first` [s]. `tracks` says whether files get the
    source's sound, subtitles and chapters. `parts` are, by kind, the first of the files
    that will be appended instead of frames.
    """
    whole = tracks and parts is None
    info, most = reader.info, options.max_bytes
    shift = Fraction(0) if tracks and options.start is None else first
    source = reader.path if tracks and not reader.images else None

    def open_writer(item: Output) -> Writer:
        if item.encoding.image:
            number = options.start_number if tracks else 0
            return ImageWriter(item.path, info, item.encoding, number)
        if item.encoding.codec.encoder == "avif":
            return AvifWriter(item.path, info, item.encoding)
        make = partial(
            FileWriter, item.path, info, source=source, start=shift,
            end=options.span[1], sound=options.audio, clock=reader.clock,
            like=parts.get(item.kind) if parts else None, limits=reader.limits,
        )  # fmt: skip
        if most is not None and item.limited:
            return LimitedWriter(make, item.encoding, info, item.path, most)
        return make(item.encoding)

    writers: list[Writer] = []
    try:
        for item in outputs:
            left = sweep(item.path, ended_only=True)
            writers.append(open_writer(item))
            if left:
                writers[-1].notes.append(
                    f"removed what a killed conversion had left: {', '.join(left)}"
                )
        yield writers
    except KeyboardInterrupt:
        saved = [_save_partial(writer, whole) for writer in writers]
        raise KeyboardInterrupt(*(str(path) for path in saved if path)) from None
    except BaseException:
        for writer in writers:
            writer.discard()
        raise


def _save_partial(writer: Writer, whole: bool) -> Path | None:
    if whole:
        # There may be no room for the end, or the user interrupts again.
        with suppress(OutputError, KeyboardInterrupt):
            return writer.keep_partial()
    writer.discard()
    return None


def publish(
    writers: Sequence[Writer],
    options: Options,
    frames: int,
    end: Fraction,
    cuts: CutList | None,
    before_naming: Callable[[], object] = lambda: None,
) -> None:
    """Complete all outputs, and only then give them their names: all or none.

    `frames` have been written, and the last one ends at `end` [s]. `cuts` is None if
    their list may not be written. `before_naming` is called when all outputs are
    complete and none has its name.
    """
    until = options.span[1]
    # The sound ends where the picture was cut, and else where it ends itself.
    stop = end if frames == options.limit else until and max(until, end)
    for writer in writers:
        writer.complete(stop)
    with _write_cuts(None if cuts is None else options.cuts, cuts or ()):
        before_naming()
        for writer in writers:
            writer.publish()


def shifted(cuts: CutList, by: Fraction) -> list[tuple[int, float]]:
    """Make all times of cuts earlier by so many seconds."""
    return [(number, time - float(by)) for number, time in cuts]


@contextmanager
def _write_cuts(path: str | Path | None, cuts: CutList) -> Iterator[None]:
    """Write a CSV file of cuts, and name it after the `with` statement's work."""
    if path is None:
        yield
        return
    path = Path(path)
    part = temporary_path(path)
    try:
        with as_output_error(path):
            sweep(path, ended_only=True)
            lines = [f"{number},{time:.6f}\n" for number, time in cuts]
            part.write_text("".join(["frame,seconds\n", *lines]), "utf-8")
        yield
        with as_output_error(path):
            part.replace(real_path(path))
    finally:
        part.unlink(missing_ok=True)
