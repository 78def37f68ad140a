"""Every option of a conversion, stated once.

`Options` is what `convert`, resuming, batches, `serve` and Ray pass on, and the command
line's flags are made from it. Each field holds an `Option` with the flag's name, the
outputs on which it has an effect, and what happens with others.

CONTRIBUTING.md says how to add one. The flag, its help, the errors and notes
about a flag without effect, docs/cli.md (by `tools/write_cli_docs.py`), resuming and
workers follow from the field.

Nothing heavy is imported here, since `rematte --help` needs this module.
"""

# ruff: noqa: RUF009 - `_option` gives a field

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rematte.conversion.option_types import (
    Backdrop,
    BackgroundFit,
    Backing,
    CodecName,
    Conversion,
    DtypeName,
    EdgeColour,
    EngineName,
    InputAlpha,
    Option,
    OutputType,
    Switched,
    always,
    check_ranges,
    is_main,
)
from rematte.conversion.presets import PRESETS, fill_in
from rematte.video import values
from rematte.video.mask_spec import GRAMMAR
from rematte.video.values import Rate

if TYPE_CHECKING:
    import torch

__all__ = ["OPTIONS", "QUALITIES", "Backdrop", "Options", "make_options"]


def _moving(conversion: Conversion) -> bool:
    return not conversion.still


def _option(default: Any, flag: str = "", text: str = "", **more: Any) -> Any:
    """A field of `Options`."""
    return field(default=default, metadata={"option": Option(flag, text, **more)})


# The way to choose a ratio that each quality stands for; see `choose_ratio`.
QUALITIES = {"fast": "auto-fast", "balanced": "auto", "best": "auto-best"}
_BACKGROUND, _NETWORK, _EDGES = "background", "network", "edges"
_WHO, _PART, _ENCODING = "who is cut out", "what to convert", "encoding"
_MOVING = {"works": "videos and sequences of images", "applies": _moving}
_ALPHA: dict[str, Any] = {
    "works": "alpha mattes, cut-outs, compositions and plates",
    "applies": lambda c: any(kind != "foreground" for kind in c.encodings),
}
_SHAPED: dict[str, Any] = {"group": _EDGES, "parse": float, **_ALPHA}
_CHOSEN: dict[str, Any] = {"group": _WHO, **_ALPHA}
_VIDEOS = {"works": "videos", "applies": lambda c: not c.images}
_RATED = "videos whose codec is H.264, HEVC, AV1 or VP9"


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
        outline: Width of the outline, up to 32 [pixels], or "WIDTH:COLOUR"; white.
        light_wrap: How strongly the background's light spills over edges, in [0, 1].
        despill: "green" or "blue": limits it to the larger of the other two colours.
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
        region: Where the network runs: "full" is the whole frame; "auto" first finds
            the people and works around them, unless a ratio is given or the frame is
            small; or left, top, width and height of a rectangle [pixels] outside which
            there is nobody.
        device: Where the model is; needed for frozen TorchScript.
        dtype: The model's precision, such as "float32"; needed for frozen TorchScript.
        engine: The runtime of a float32 `MattingNetwork` on a CPU: "openvino", which
            is what "auto" takes, or "openvino-float32"; "plain" runs the model as a
            whole in torch, as for every other model and device. On a CUDA GPU "auto"
            and "torch" replay a CUDA graph, "torch-compiled" a compiled one.
        warmup: How many frames the network sees backwards before the first frame and
            before the first one after each cut, so that it does not start with an
            empty state; "auto" takes 8, or fewer if they are large; 0 takes none.
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
        preset: Sets the options for a receiver of `presets.PRESETS`; options that are
            given take precedence. `make_options` applies it, not `Options`.
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

    background: Backdrop | Mapping[str, Backdrop] | None = _option(
        None, "--background",
        "a colour (name, #rrggbb or r,g,b), an image, a video, blur[:RADIUS] or "
        "transparent", group=_BACKGROUND, metavar="WHAT",
        works="a composition, and for -o alone",
        applies=lambda c: any(map(is_main, c.encodings)),
    )  # fmt: skip
    background_fit: str | None = _option(
        None, "--background-fit",
        "how an image or video fills the frame (default: cover)", group=_BACKGROUND,
        choices=get_args(BackgroundFit),
        works="a background that is an image or a video", applies=lambda c: c.backdrop,
    )  # fmt: skip
    edge_colour: str = _option(
        "network", "--edge-colour",
        "colours at edges: clean, without the background's, or as the network gives "
        "them", group=_EDGES, choices=get_args(EdgeColour),
        command_default="clean",
    )  # fmt: skip
    black_point: float = _option(
        0.0, "--black-point", "alpha up to X becomes 0", metavar="X", **_SHAPED
    )
    white_point: float = _option(
        1.0, "--white-point", "alpha from X on becomes 1", metavar="X", **_SHAPED
    )
    grow: float = _option(
        0.0, "--grow", "move edges outward, or inward if negative, fractions too",
        metavar="PX", **_SHAPED,
    )  # fmt: skip
    feather: float = _option(
        0.0, "--feather", "soften edges to both sides", metavar="PX", **_SHAPED
    )
    outline: str | float | None = _option(
        None, "--outline", "draw a line around the cut-out, white by default",
        metavar="PX[:COLOUR]", group=_EDGES, **_ALPHA,
    )  # fmt: skip
    light_wrap: float = _option(
        0.0, "--light-wrap", "let the background's light spill over edges, up to 1",
        metavar="X", group=_EDGES, parse=float, works="compositions over a background",
        applies=lambda c: c.composes,
    )  # fmt: skip
    despill: str | None = _option(
        None, "--despill", "remove the tint of a green or blue screen from the person",
        group=_EDGES, choices=get_args(Backing), works="outputs with colours",
        applies=lambda c: any(kind != "alpha" for kind in c.encodings),
    )  # fmt: skip
    include: str | Path | Sequence[str | Path] | None = _option(
        None, "--include",
        f"what is always cut out: {GRAMMAR}; may be given again", metavar="MASK",
        many=True, **_CHOSEN,
    )  # fmt: skip
    exclude: str | Path | Sequence[str | Path] | None = _option(
        None, "--exclude", "what is never cut out, as --include", metavar="MASK",
        many=True, **_CHOSEN,
    )  # fmt: skip
    person: str | int | None = _option(
        None, "--person",
        "cut out one person only: largest, centre, left or right at the start of each "
        "scene, a number in the order in which people appear, or a point on them, X,Y "
        "or X,Y@TIME [pixels, s]; not:WHO cuts out everybody else", metavar="WHO",
        **_CHOSEN,
    )  # fmt: skip
    downsample_ratio: float | str | None = _option(
        None, "--downsample-ratio",
        "size of the coarse pass in (0, 1], or auto (longer side at most 512), "
        "portrait, full-body", group=_NETWORK, metavar="RATIO",
        parse=values.parse_number_or_word, command_default="auto",
    )  # fmt: skip
    quality: str = _option(
        "balanced", "--quality",
        "best: a larger copy for the network, up to four times as slow as balanced; "
        "fast: the fast network, or with --weights a smaller copy", group=_NETWORK,
        choices=tuple(QUALITIES), works="a ratio that is auto",
        applies=lambda c: c.sized, elsewhere="an error",
    )  # fmt: skip
    region: str | tuple[int, int, int, int] = _option(
        "full", "--region",
        "where the network runs: auto finds the people first, full is the whole "
        "frame, or a rectangle outside which there is nobody", group=_NETWORK,
        metavar="auto|full|X,Y,W,H", parse=values.parse_region, command_default="auto",
    )  # fmt: skip
    device: "str | torch.device | None" = _option(
        None, "--device", "auto, cpu, cuda, cuda:N or mps", group=_NETWORK,
        metavar="DEVICE", command_default="auto",
    )  # fmt: skip
    dtype: "str | torch.dtype | None" = _option(
        None, "--dtype", "precision", group=_NETWORK,
        choices=get_args(DtypeName), command_default="float32",
    )  # fmt: skip
    engine: str = _option(
        "auto", "--engine",
        "the network's runtime on a CPU: openvino (the choice of auto), "
        "openvino-float32, or plain, which is torch; on a CUDA GPU auto or torch (a "
        "recorded graph), torch-compiled (half a minute to compile), or plain",
        group=_NETWORK, metavar="NAME", choices=get_args(EngineName),
    )  # fmt: skip
    seq_chunk: int | str = _option(
        1, "--seq-chunk", "frames at once, or auto", group=_NETWORK, metavar="N",
        parse=values.parse_count_or_word, command_default="auto",
        works="the engine plain, and frames that are not one image",
        applies=lambda c: c.chunked, noted=always, elsewhere="a note", idle=("auto",),
    )  # fmt: skip
    warmup: int | str = _option(
        0, "--warmup",
        "frames that the network sees backwards before the first one, and after each "
        "cut, so that it does not start with an empty state: a number, 0 for none, or "
        "auto (8, or fewer if they are large)", group=_NETWORK, metavar="N",
        parse=values.parse_count_or_word, command_default="auto", idle=("auto",),
        **_MOVING,
    )  # fmt: skip
    start: Rate | None = _option(
        None, "--start", "seconds or [HH:]MM:SS", group=_PART, metavar="TIME", **_MOVING
    )
    end: Rate | None = _option(
        None, "--end", "seconds or [HH:]MM:SS", group=_PART, metavar="TIME", **_MOVING
    )
    limit: int | None = _option(
        None, "--limit", "at most N frames", group=_PART, metavar="N", least=1,
        parse=int, **_MOVING,
    )  # fmt: skip
    input_resize: tuple[int, int] | None = _option(
        None, "--resize", "size of input and outputs", group=_PART, metavar="WxH",
        parse=values.parse_size,
    )  # fmt: skip
    fit: str = _option(
        "stretch", "--fit",
        "how a picture of another shape is fitted to --resize: contain shows all of "
        "it, with bars that are transparent or background, cover fills the frame and "
        "crops, stretch distorts", group=_PART, choices=("contain", "cover", "stretch"),
        command_default="contain", idle=("contain",), works="--resize",
        applies=lambda c: c.resized,
    )  # fmt: skip
    frame_rate: Rate | None = _option(
        None, "--frame-rate",
        "frames per second, such as 25 or 24000/1001, of an image folder (default: "
        "30) or of a stream without times (default: the rate that it states); a video "
        "with times is converted to it by dropping or repeating frames", group=_PART,
        metavar="RATE",
        works="videos, and sequences of images that become videos or OpenEXR, are cut "
        "or have masks or a person", applies=lambda c: not c.still and c.timed,
        noted=_moving,
        elsewhere="an error; a note for images that become images",
    )  # fmt: skip
    max_rate: Rate | None = _option(
        None, "--max-rate", "convert a video with more frames per second to this rate",
        group=_PART, metavar="RATE", **_VIDEOS,
    )  # fmt: skip
    deinterlace: str | None = _option(
        None, "--deinterlace",
        "make full pictures from interlaced ones, or leave them as they are (default: "
        "auto)", group=_PART, choices=get_args(Switched), **_VIDEOS,
    )  # fmt: skip
    ignore_errors: bool = _option(
        False, "--ignore-errors", "skip damaged input", group=_PART, switch=True,
        **_MOVING,
    )  # fmt: skip
    max_pixels: int | None = _option(
        None, "--max-pixels",
        "the most pixels a frame may have (default: 150 million, 16384 a side)",
        group=_PART, metavar="N", least=1, parse=int,
    )  # fmt: skip
    allow_lists: bool = _option(
        False, "--allow-lists",
        "read an input that is a list of files (HLS, ffconcat) in its own folder",
        group=_PART, switch=True,
    )  # fmt: skip
    hwaccel: str | None = _option(
        None, "--hwaccel",
        "hardware decoder to use if possible: cuda, videotoolbox or another of "
        "FFmpeg's", group=_PART, metavar="NAME", **_VIDEOS,
    )  # fmt: skip
    input_alpha: str = _option(
        "multiply", "--input-alpha",
        "what to do with the input's own alpha channel: multiply the matte by it or "
        "ignore it", group=_PART, choices=get_args(InputAlpha),
    )  # fmt: skip
    num_workers: int = _option(
        0, least=0, works="sequences of images", applies=lambda c: c.images,
        noted=always, elsewhere="a note", may_change=True,
    )  # fmt: skip
    codec: str | None = _option(
        None, "--codec",
        "instead of the suffix's default, for the cut-out and the composition",
        group=_ENCODING, choices=get_args(CodecName),
        works="cut-outs and compositions that are videos",
        applies=lambda c: any(
            not e.image for kind, e in c.encodings.items() if is_main(kind)
        ),
    )  # fmt: skip
    output_video_mbps: float | None = _option(
        None, "--mbps", "bit rate to aim at [Mbit/s]", group=_ENCODING, metavar="RATE",
        parse=float, works=_RATED,
        applies=lambda c: any(e.mbps is not None for e in c.encodings.values()),
        noted=lambda c: c.png_sequence,
        elsewhere='an error; a note with `output_type="png_sequence"`',
    )  # fmt: skip
    crf: int | None = _option(
        None, "--crf", "constant quality, lower is better", group=_ENCODING,
        metavar="N", parse=int, works=f"{_RATED}; animated WebP, AVIF",
        applies=lambda c: any(e.crf is not None for e in c.encodings.values()),
    )  # fmt: skip
    alpha_mode: str | None = _option(
        None, "--alpha-mode",
        "colours as they are, or multiplied by alpha (default: straight, but "
        "premultiplied in OpenEXR)", group=_ENCODING,
        choices=("straight", "premultiplied"),
        works="transparent outputs in ProRes, TIFF or OpenEXR, and packed ones",
        applies=lambda c: any(e.has_alpha_modes for e in c.encodings.values()),
    )  # fmt: skip
    preset: str | None = _option(
        None, "--preset",
        "set the options that a receiver needs (docs/formats.md); options that you "
        "give take precedence", group=_ENCODING, choices=tuple(PRESETS),
    )  # fmt: skip
    max_bytes: int | None = _option(
        None, "--max-bytes",
        "encode in up to three passes until the cut-out or composition has at most N "
        "bytes; if lower quality is not enough, drop frames", group=_ENCODING,
        metavar="N", least=1, parse=int,
        works="cut-outs and compositions in H.264, HEVC, AV1, VP9, WebP, GIF or APNG",
        applies=lambda c: any(is_main(k) and e.shrinks for k, e in c.encodings.items()),
    )  # fmt: skip
    packed: str | None = _option(
        None, "--packed",
        "put alpha, as gray, beside or below the colour in one opaque picture, for "
        "players without alpha", group=_ENCODING, choices=("side", "stacked"),
        works="cut-outs without a background",
        applies=lambda c: any(e.packed for e in c.encodings.values()),
    )  # fmt: skip
    exr_compression: str | None = _option(
        None, "--exr-compression",
        "compression of OpenEXR: zip (16 rows at once, the default), zips (one row), "
        "rle, none", group=_ENCODING, choices=("zip", "zips", "rle", "none"),
        works="OpenEXR images",
        applies=lambda c: any(e.compression for e in c.encodings.values()),
    )  # fmt: skip
    start_number: int | None = _option(
        None, "--start-number",
        "number of the first image where an output is a pattern or a folder (default: "
        "the source's own, or 0)", group=_ENCODING, metavar="N", least=0, parse=int,
        works="outputs that are folders or patterns of images",
        applies=lambda c: c.numbered,
    )  # fmt: skip
    tone_map: str = _option(
        "auto", "--tone-map",
        "make SDR of HDR where an output cannot hold HDR, or keep the code values",
        group=_ENCODING, choices=get_args(Switched), works="HDR inputs",
        applies=lambda c: c.tonal, noted=always, elsewhere="a note",
    )  # fmt: skip
    audio: bool = _option(
        True, "--no-audio", "leave the sound out", group=_ENCODING, switch=False
    )
    cuts: str | Path | None = _option(
        None, "--cuts",
        "write the cuts as a .csv file: for each, the number of the new scene's first "
        "frame in the outputs, from 0, and its time there in seconds", group=_ENCODING,
        metavar="FILE", parse=Path, **_MOVING,
    )  # fmt: skip
    overwrite: bool = _option(
        True, "--overwrite", "replace outputs that exist", group=_ENCODING, short="-y",
        switch=True, command_default=False, may_change=True,
    )  # fmt: skip
    output_type: str = _option("video", choices=get_args(OutputType))

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "dtype" and value is not None:
                value = str(value).removeprefix("torch.")
            each.metadata["option"].check(each.name, value)
        check_ranges(self)
        _ = self.span, self.rate, self.top_rate

    @property
    def span(self) -> tuple[Fraction | None, Fraction | None]:
        """`start` and `end` [s].

        Raises:
            ValueError: If one is not a time, or `end` is not later than `start`.
        """
        since = values.parse_time("start", self.start)
        until = values.parse_time("end", self.end)
        if until is not None and until <= (since or 0):
            raise ValueError(
                f"end must be later than start ({self.start or 0}), got {self.end}"
            )
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
        """The options that differ from their defaults, by name."""
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
