"""Every option of a conversion, stated once.

`Options` is what `convert`, resuming, batches, `serve` and Ray pass on, and the command
line's flags are made from it. Each field holds an `Option` with the flag's name, the
outputs on which it has an effect, and what happens with others.

CONTRIBUTING.md says how to add one. The flag, its help, the errors and notes
about a flag without effect, docs/cli.md (by `tools/write_cli_docs.py`), resuming and
workers follow from the field.

Nothing heavy is imported here, since `rematte --help` needs this module.
"""

# ruff: noqa: RUF009 - `option` gives a field

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rematte.conversion.option_types import (
    ALPHA,
    MOVING,
    RATED,
    VIDEOS,
    Backdrop,
    BackgroundFit,
    Backing,
    CodecName,
    DtypeName,
    EdgeColour,
    EngineName,
    InputAlpha,
    Option,
    OutputType,
    Switched,
    always,
    background_option,
    check_ranges,
    edge_option,
    encoding_option,
    is_main,
    is_moving,
    network_option,
    option,
    part_option,
    shape_option,
    who_option,
)
from rematte.conversion.presets import PRESETS, fill_in
from rematte.video import values
from rematte.video.mask_spec import GRAMMAR
from rematte.video.values import Rate

if TYPE_CHECKING:
    import torch

__all__ = ["OPTIONS", "QUALITIES", "Backdrop", "Options", "make_options"]


# The way to choose a ratio that each quality stands for; see `choose_ratio`.
QUALITIES = {"fast": "auto-fast", "balanced": "auto", "best": "auto-best"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of a conversion, for `convert_video` and everything built on it.

    Attributes:
        background: What lies behind the person: a colour (name, "#rrggbb", "r,g,b" or
            three numbers), an image, a video, "blur[:RADIUS]" or "transparent"; by
            default green (120, 255, 155). It applies to the composition if there is
            one, else to `output`. A mapping gives "output" and "composition" one each.
        background_fit: "cover" (the default), "contain" or "stretch".
        edge_colour: Colours where alpha is neither 0 nor 1: "network" keeps the
            network's; "clean" removes the background's (command line's default).
        black_point: Alpha up to this becomes 0; in [0, 1).
        white_point: Alpha from this on becomes 1; in (0, 1], above `black_point`.
        grow: How far edges move outward, or inward if negative, -32 to 32 [pixels].
        feather: How far edges fade to both sides, 0 to 32 [pixels].
        outline: Width of a line around the cut-out, up to 32 [pixels], white; or
            "WIDTH:COLOUR".
        light_wrap: How strongly the background's light spills over edges, in [0, 1].
        despill: "green" or "blue", which is limited to the larger of the other colours.
        include: What is always cut out, with the source's colours: one or several
            masks. A mask is a picture or a video, stretched to the frame and white
            inside, with times as in the source; or "X,Y,WIDTH,HEIGHT" or
            "points:X,Y X,Y X,Y..." [pixels after `input_resize`]. A final "@FROM-TO"
            limits it in time [s]; "SHAPE@TIME;SHAPE@TIME" moves a shape steadily.
        exclude: What is never cut out, in the same form; wins over `include`.
        person: The only person to cut out: "largest", "centre", "left" or "right" at
            the start of each scene; a number from 1 in the order in which people
            appear, left to right; or a point, "X,Y" or "X,Y@TIME" [pixels, s]. With
            "not:" in front, everybody else is cut out instead.
        downsample_ratio: Size of the coarse pass in (0, 1]; None or "auto" makes the
            longer side at most 512, "portrait" and "full-body" follow the
            documentation's table.
        quality: "balanced"; "best", a larger coarse pass, up to four times as slow; or
            "fast", the fast network, or a smaller coarse pass if a model is given.
        region: Where the network runs: "full" is the whole frame; "auto" is around the
            people, who are found first, unless a ratio is given or the frame is small;
            or left, top, width and height [pixels] of a rectangle that holds them all.
        device: Where the model is; needed for frozen TorchScript.
        dtype: The model's precision, such as "float32"; needed for frozen TorchScript.
        engine: "openvino", which "auto" takes, or "openvino-float32" for a float32
            `MattingNetwork` on a CPU; "plain" runs any model on any device as a whole
            in torch. On a CUDA GPU "auto" and "torch" replay a CUDA graph,
            "torch-compiled" a compiled one.
        warmup: How many frames the network sees backwards, at the start and after each
            cut, so that its state is not empty; "auto" takes 8, or fewer large ones.
        seq_chunk: Frames at once, or "auto". The results are the same.
        start: Where to start in the source: seconds or "[HH:]MM:SS[.mmm]".
        end: Where to stop in the source, in the same form.
        limit: At most this many frames.
        input_resize: Width and height [pixels] to resize input and outputs to.
        fit: How a picture of another shape is fitted to `input_resize`: "stretch"
            distorts it; "contain", the command line's default, shows all of it, with
            bars that are transparent or background; "cover" fills the frame and crops.
        frame_rate: Frames per second of an image folder (by default 30) or of a stream
            without times (by default the rate that it states); a video that has times
            is converted to it. Any kind of number, or a text like "24000/1001".
        deinterlace: "auto", the default, makes one full picture from the two fields of
            an interlaced frame; "off" leaves them.
        ignore_errors: Continue past damaged input.
        max_pixels: The most pixels a frame of the input or the background may have; by
            default 150 million, and 16384 a side.
        allow_lists: Read an input that is a list of other files (an HLS playlist, an
            ffconcat list) whose files lie in its own folder or below.
        hwaccel: The hardware decoder, by FFmpeg's names: "cuda", "videotoolbox" and
            others. If it fails, the processor decodes.
        input_alpha: What to do with the input's own alpha channel: "multiply" the matte
            by it, so that hidden pixels stay hidden, or "ignore" it.
        num_workers: Threads that read ahead, for image folders.
        codec: One of `CodecName`, instead of the suffix's default, for the composition
            and `output`; those that end in "_nvenc" are NVIDIA's encoders.
        output_video_mbps: Bit rate [Mbit/s] instead of constant quality, if possible.
        preset: One of `presets.PRESETS`, which sets the options for a receiver; those
            that are given take precedence. `make_options` applies it, not `Options`.
        max_rate: Highest rate [frames/s]; a video with a higher one is converted to it.
        max_bytes: The most bytes of a cut-out or composition in a lossy codec, GIF or
            APNG. In up to three passes, quality is lowered, then frames are dropped.
        crf: Constant quality from 0 (best) to 63 instead of the codec's default.
        alpha_mode: "straight" colours, or "premultiplied" by alpha if the format can
            hold both; by default straight, but premultiplied in OpenEXR.
        packed: Puts colour and alpha into one picture, "side" by side or "stacked".
        exr_compression: OpenEXR's "zip" (default), "zips", "rle" or "none"; lossless.
        start_number: The number of the first image of outputs that are patterns or
            folders; by default the source's own number, or 0 if it has none.
        tone_map: "auto" converts HDR to SDR (BT.709) in outputs that cannot hold HDR,
            with a note; "off" keeps the code values.
        audio: Keep the sound.
        cuts: Path of a .csv file for the list of cuts: for each, the number of the new
            scene's first frame in the outputs, from 0, and its time there [s].
        overwrite: Replace outputs that exist.
        output_type: "video", or "png_sequence" if the outputs are folders.

    Raises:
        ValueError: If a value is out of its range.
    """

    background: Backdrop | Mapping[str, Backdrop] | None = background_option(
        None, "--background",
        "a colour (name, #rrggbb or r,g,b), an image, a video, blur[:RADIUS] or "
        "transparent", metavar="WHAT", works="a composition, and for -o alone",
        applies=lambda c: any(map(is_main, c.encodings)),
    )  # fmt: skip
    background_fit: str | None = background_option(
        None, "--background-fit",
        "how an image or video fills the frame (default: cover)",
        choices=get_args(BackgroundFit),
        works="a background that is an image or a video", applies=lambda c: c.backdrop,
    )  # fmt: skip
    edge_colour: str = edge_option(
        "network", "--edge-colour",
        "colours at edges: clean, without the background's, or as the network gives "
        "them", choices=get_args(EdgeColour), command_default="clean",
    )  # fmt: skip
    black_point: float = shape_option(
        0.0, "--black-point", "alpha up to X becomes 0", metavar="X"
    )
    white_point: float = shape_option(
        1.0, "--white-point", "alpha from X on becomes 1", metavar="X"
    )
    grow: float = shape_option(
        0.0, "--grow", "move edges outward, or inward if negative, fractions too",
        metavar="PX",
    )  # fmt: skip
    feather: float = shape_option(
        0.0, "--feather", "soften edges to both sides", metavar="PX"
    )
    outline: str | float | None = edge_option(
        None, "--outline", "draw a line around the cut-out, white by default",
        metavar="PX[:COLOUR]", **ALPHA,
    )  # fmt: skip
    light_wrap: float = edge_option(
        0.0, "--light-wrap", "let the background's light spill over edges, up to 1",
        metavar="X", parse=float, works="compositions over a background",
        applies=lambda c: c.composes,
    )  # fmt: skip
    despill: str | None = edge_option(
        None, "--despill", "remove the tint of a green or blue screen from the person",
        choices=get_args(Backing), works="outputs with colours",
        applies=lambda c: any(kind != "alpha" for kind in c.encodings),
    )  # fmt: skip
    include: str | Path | Sequence[str | Path] | None = who_option(
        None, "--include", f"what is always cut out: {GRAMMAR}; may be given again",
        metavar="MASK", many=True,
    )  # fmt: skip
    exclude: str | Path | Sequence[str | Path] | None = who_option(
        None, "--exclude", "what is never cut out, as --include", metavar="MASK",
        many=True,
    )  # fmt: skip
    person: str | int | None = who_option(
        None, "--person",
        "cut out one person only: largest, centre, left or right at the start of each "
        "scene, a number in the order in which people appear, or a point on them, X,Y "
        "or X,Y@TIME [pixels, s]; not:WHO cuts out everybody else", metavar="WHO",
    )  # fmt: skip
    downsample_ratio: float | str | None = network_option(
        None, "--downsample-ratio",
        "size of the coarse pass in (0, 1], or auto (longer side at most 512), "
        "portrait, full-body", metavar="RATIO", parse=values.parse_number_or_word,
        command_default="auto",
    )  # fmt: skip
    quality: str = network_option(
        "balanced", "--quality",
        "best: a larger copy for the network, up to four times as slow as balanced; "
        "fast: the fast network, or with --weights a smaller copy",
        choices=tuple(QUALITIES), works="a ratio that is auto",
        applies=lambda c: c.sized,
    )  # fmt: skip
    region: str | tuple[int, int, int, int] = network_option(
        "full", "--region",
        "where the network runs: auto finds the people first, full is the whole frame, "
        "or a rectangle outside which there is nobody", metavar="auto|full|X,Y,W,H",
        parse=values.parse_region, command_default="auto",
    )  # fmt: skip
    device: "str | torch.device | None" = network_option(
        None, "--device", "auto, cpu, cuda, cuda:N or mps", metavar="DEVICE",
        command_default="auto",
    )  # fmt: skip
    dtype: "str | torch.dtype | None" = network_option(
        None, "--dtype", "precision", choices=get_args(DtypeName),
        command_default="float32",
    )  # fmt: skip
    engine: str = network_option(
        "auto", "--engine",
        "the network's runtime on a CPU: openvino (the choice of auto), "
        "openvino-float32, or plain, which is torch; on a CUDA GPU auto or torch (a "
        "recorded graph), torch-compiled (half a minute to compile), or plain",
        metavar="NAME", choices=get_args(EngineName),
    )  # fmt: skip
    seq_chunk: int | str = network_option(
        1, "--seq-chunk", "frames at once, or auto", metavar="N",
        parse=values.parse_count_or_word, command_default="auto",
        works="the engine plain, and frames that are not one image",
        applies=lambda c: c.chunked, noted=always, elsewhere="a note", idle=("auto",),
    )  # fmt: skip
    warmup: int | str = network_option(
        0, "--warmup",
        "frames that the network sees backwards before the first one, and after each "
        "cut, so that it does not start with an empty state: a number, 0 for none, or "
        "auto (8, or fewer if they are large)", metavar="N",
        parse=values.parse_count_or_word, command_default="auto", idle=("auto",),
        **MOVING,
    )  # fmt: skip
    start: Rate | None = part_option(
        None, "--start", "seconds or [HH:]MM:SS", metavar="TIME", **MOVING
    )
    end: Rate | None = part_option(
        None, "--end", "seconds or [HH:]MM:SS", metavar="TIME", **MOVING
    )
    limit: int | None = part_option(
        None, "--limit", "at most N frames", metavar="N", least=1, parse=int, **MOVING
    )
    input_resize: tuple[int, int] | None = part_option(
        None, "--resize", "size of input and outputs", metavar="WxH",
        parse=values.parse_size,
    )  # fmt: skip
    fit: str = part_option(
        "stretch", "--fit",
        "how a picture of another shape is fitted to --resize: contain shows all of "
        "it, with bars that are transparent or background, cover fills the frame and "
        "crops, stretch distorts", choices=("contain", "cover", "stretch"),
        command_default="contain", idle=("contain",), works="--resize",
        applies=lambda c: c.resized,
    )  # fmt: skip
    frame_rate: Rate | None = part_option(
        None, "--frame-rate",
        "frames per second, such as 25 or 24000/1001, of an image folder (default: 30) "
        "or of a stream without times (default: the rate that it states); a video with "
        "times is converted to it by dropping or repeating frames", metavar="RATE",
        works="videos, and sequences of images that become videos or OpenEXR, are cut "
        "or have masks or a person",
        applies=lambda c: not c.still and c.timed, noted=is_moving,
        elsewhere="an error; a note for images that become images",
    )  # fmt: skip
    max_rate: Rate | None = part_option(
        None, "--max-rate", "convert a video with more frames per second to this rate",
        metavar="RATE", **VIDEOS,
    )  # fmt: skip
    deinterlace: str | None = part_option(
        None, "--deinterlace",
        "make full pictures from interlaced ones, or leave them as they are (default: "
        "auto)", choices=get_args(Switched), **VIDEOS,
    )  # fmt: skip
    ignore_errors: bool = part_option(
        False, "--ignore-errors", "skip damaged input", switch=True, **MOVING
    )
    max_pixels: int | None = part_option(
        None, "--max-pixels",
        "the most pixels a frame may have (default: 150 million, 16384 a side)",
        metavar="N", least=1, parse=int,
    )  # fmt: skip
    allow_lists: bool = part_option(
        False, "--allow-lists",
        "read an input that is a list of files (HLS, ffconcat) in its own folder",
        switch=True,
    )  # fmt: skip
    hwaccel: str | None = part_option(
        None, "--hwaccel",
        "hardware decoder to use if possible: cuda, videotoolbox or another of "
        "FFmpeg's", metavar="NAME", **VIDEOS,
    )  # fmt: skip
    input_alpha: str = part_option(
        "multiply", "--input-alpha",
        "what to do with the input's own alpha channel: multiply the matte by it or "
        "ignore it", choices=get_args(InputAlpha),
    )  # fmt: skip
    num_workers: int = option(
        0, least=0, works="sequences of images", applies=lambda c: c.images,
        noted=always, elsewhere="a note", may_change=True,
    )  # fmt: skip
    codec: str | None = encoding_option(
        None, "--codec",
        "instead of the suffix's default, for the cut-out and the composition",
        choices=get_args(CodecName), works="cut-outs and compositions that are videos",
        applies=lambda c: any(
            not e.image for kind, e in c.encodings.items() if is_main(kind)
        ),
    )  # fmt: skip
    output_video_mbps: float | None = encoding_option(
        None, "--mbps", "bit rate to aim at [Mbit/s]", metavar="RATE", parse=float,
        works=RATED,
        applies=lambda c: any(e.mbps is not None for e in c.encodings.values()),
        noted=lambda c: c.png_sequence,
        elsewhere='an error; a note with `output_type="png_sequence"`',
    )  # fmt: skip
    crf: int | None = encoding_option(
        None, "--crf", "constant quality, lower is better", metavar="N", parse=int,
        works=f"{RATED}; animated WebP, AVIF",
        applies=lambda c: any(e.crf is not None for e in c.encodings.values()),
    )  # fmt: skip
    alpha_mode: str | None = encoding_option(
        None, "--alpha-mode",
        "colours as they are, or multiplied by alpha (default: straight, but "
        "premultiplied in OpenEXR)", choices=("straight", "premultiplied"),
        works="transparent outputs in ProRes, TIFF or OpenEXR, and packed ones",
        applies=lambda c: any(e.has_alpha_modes for e in c.encodings.values()),
    )  # fmt: skip
    preset: str | None = encoding_option(
        None, "--preset",
        "set the options that a receiver needs (docs/formats.md); options that you "
        "give take precedence", choices=tuple(PRESETS),
    )  # fmt: skip
    max_bytes: int | None = encoding_option(
        None, "--max-bytes",
        "encode in up to three passes until the cut-out or composition has at most N "
        "bytes; if lower quality is not enough, drop frames", metavar="N", least=1,
        parse=int,
        works="cut-outs and compositions in H.264, HEVC, AV1, VP9, WebP, GIF or APNG",
        applies=lambda c: any(is_main(k) and e.shrinks for k, e in c.encodings.items()),
    )  # fmt: skip
    packed: str | None = encoding_option(
        None, "--packed",
        "put alpha, as gray, beside or below the colour in one opaque picture, for "
        "players without alpha", choices=("side", "stacked"),
        works="cut-outs without a background",
        applies=lambda c: any(e.packed for e in c.encodings.values()),
    )  # fmt: skip
    exr_compression: str | None = encoding_option(
        None, "--exr-compression",
        "compression of OpenEXR: zip (16 rows at once, the default), zips (one row), "
        "rle, none", choices=("zip", "zips", "rle", "none"), works="OpenEXR images",
        applies=lambda c: any(e.compression for e in c.encodings.values()),
    )  # fmt: skip
    start_number: int | None = encoding_option(
        None, "--start-number",
        "number of the first image where an output is a pattern or a folder (default: "
        "the source's own, or 0)", metavar="N", least=0, parse=int,
        works="outputs that are folders or patterns of images",
        applies=lambda c: c.numbered,
    )  # fmt: skip
    tone_map: str = encoding_option(
        "auto", "--tone-map",
        "make SDR of HDR where an output cannot hold HDR, or keep the code values",
        choices=get_args(Switched), works="HDR inputs", applies=lambda c: c.tonal,
        noted=always, elsewhere="a note",
    )  # fmt: skip
    audio: bool = encoding_option(
        True, "--no-audio", "leave the sound out", switch=False
    )
    cuts: str | Path | None = encoding_option(
        None, "--cuts",
        "write the cuts as a .csv file: for each, the number of the new scene's first "
        "frame in the outputs, from 0, and its time there in seconds", metavar="FILE",
        parse=Path, **MOVING,
    )  # fmt: skip
    overwrite: bool = encoding_option(
        True, "--overwrite", "replace outputs that exist", short="-y", switch=True,
        command_default=False, may_change=True,
    )  # fmt: skip
    output_type: str = option("video", choices=get_args(OutputType))

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "dtype" and value is not None:
                value = str(value).removeprefix("torch.")
            each.metadata["option"].check(each.name, value, each.default)
        check_ranges(self)
        _ = self.span, self.rate, self.top_rate

    @property
    def span(self) -> tuple[Fraction | None, Fraction | None]:
        """`start` and `end` [s].

        Raises:
            ValueError: If one is not a time, or `end` is not later than `start`.
        """
        start, end = self.start, self.end
        since, until = values.parse_time("start", start), values.parse_time("end", end)
        if until is not None and until <= (since or 0):
            raise ValueError(f"end must be later than start ({start or 0}), got {end}")
        return since, until

    @property
    def ratio(self) -> float | str:
        """`downsample_ratio`, or the way to choose it that `quality` stands for."""
        given = self.downsample_ratio
        return QUALITIES[self.quality] if given in (None, "auto") else given

    @property
    def rate(self) -> Fraction | None:
        """`frame_rate` [frames/s]."""
        return None if self.frame_rate is None else values.parse_rate(self.frame_rate)

    @property
    def top_rate(self) -> Fraction | None:
        """`max_rate` [frames/s]."""
        rate = self.max_rate
        return None if rate is None else values.parse_rate(rate, "max_rate")

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, by name."""
        usual = {each.name: each.default for each in fields(self)}
        found = {name: getattr(self, name) for name in usual}
        return {n: v for n, v in found.items() if v is not None and v != usual[n]}


# The description of each option, apart from its type and default, by name.
OPTIONS: dict[str, Option] = {o.name: o.metadata["option"] for o in fields(Options)}


def make_options(**values: Any) -> Options:
    """Make options from a call's keyword arguments.

    Raises:
        TypeError: If there is no such option; the nearest name is in the message.
        ValueError: If a value is out of its range.
    """
    for name in values:
        if name not in OPTIONS:
            near = get_close_matches(name, [*OPTIONS, "output", "progress"], 1)
            remedy = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"there is no option {name!r}{remedy}")
    return Options(**fill_in(values))
