"""The types of the options of a conversion, the description of one, and their ranges.

Nothing heavy is imported here, since `rematte --help` needs this module.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from rematte.video.mask_spec import parse_masks, parse_who
from rematte.video.values import Rate, check_region

if TYPE_CHECKING:
    import torch

    from rematte.video.encoding import Encoding

Backdrop: TypeAlias = str | Path | tuple[int, int, int]
EngineName: TypeAlias = Literal[
    "auto", "openvino", "openvino-float32", "plain", "torch", "torch-compiled",
    "onnxruntime",
]  # fmt: skip
DtypeName: TypeAlias = Literal["float32", "float16", "bfloat16"]
Quality: TypeAlias = Literal["fast", "balanced", "best"]
RatioName: TypeAlias = Literal["auto", "portrait", "full-body"]
EdgeColour: TypeAlias = Literal["clean", "network"]
Backing: TypeAlias = Literal["green", "blue"]
BackgroundFit: TypeAlias = Literal["cover", "contain", "stretch"]
InputAlpha: TypeAlias = Literal["multiply", "ignore"]
Switched: TypeAlias = Literal["auto", "off"]
OutputType: TypeAlias = Literal["video", "png_sequence"]
CodecName: TypeAlias = Literal[
    "h264", "hevc", "av1", "vp9", "prores", "ffv1", "h264_nvenc", "hevc_nvenc",
    "av1_nvenc", "gif", "webp", "avif", "apng",
]  # fmt: skip

# Kinds of output, by the arguments of `convert_video` that hold their paths.
KINDS = {
    "output": "output",
    "output_composition": "composition",
    "output_alpha": "alpha",
    "output_foreground": "foreground",
    "output_plate": "plate",
}


class MattingOptions(TypedDict, total=False):
    """Options of `convert_video` and of `Matter`; see `rematte.options.Options`."""

    engine: EngineName
    quality: Quality
    region: Literal["auto", "full"] | tuple[int, int, int, int]
    warmup: int | Literal["auto"]
    edge_colour: EdgeColour
    black_point: float
    white_point: float
    grow: float
    feather: float
    despill: Backing | None
    include: str | Path | Sequence[str | Path] | None
    exclude: str | Path | Sequence[str | Path] | None
    input_alpha: InputAlpha
    max_pixels: int | None


class MatterOptions(MattingOptions, total=False):
    """Options of `Matter`; see `rematte.options.Options`."""

    downsample_ratio: float | RatioName | None
    device: "str | torch.device | None"
    dtype: "DtypeName | torch.dtype | None"


class ConvertOptions(MattingOptions, total=False):
    """Options of `convert_video` that are given by name; see `Options`."""

    background: Backdrop | Mapping[str, Backdrop] | None
    background_fit: BackgroundFit | None
    person: str | int | None
    outline: str | float | None
    light_wrap: float
    start: Rate | None
    end: Rate | None
    limit: int | None
    fit: BackgroundFit
    frame_rate: Rate | None
    max_rate: Rate | None
    deinterlace: Switched | None
    ignore_errors: bool
    allow_lists: bool
    hwaccel: str | None
    codec: CodecName | None
    crf: int | None
    alpha_mode: Literal["straight", "premultiplied"] | None
    preset: str | None
    max_bytes: int | None
    packed: Literal["side", "stacked"] | None
    exr_compression: Literal["zip", "zips", "rle", "none"] | None
    start_number: int | None
    tone_map: Switched
    audio: bool
    cuts: str | Path | None
    overwrite: bool


@dataclass(frozen=True)
class Conversion:
    """The facts about a conversion that decide whether an option has an effect."""

    still: bool  # the input is one image
    images: bool  # the input is an image or a sequence of them
    encodings: "Mapping[str, Encoding]"  # of each output, by kind
    backdrop: bool  # an image or a video lies behind the person
    chunked: bool  # the network takes several frames at once
    png_sequence: bool = False  # `output_type` is "png_sequence"
    numbered: bool = False  # an output is a folder or a pattern of images
    tonal: bool = False  # the input is not SDR
    sized: bool = True  # the size of the coarse pass is not given
    resized: bool = False  # `input_resize` is given
    timed: bool = True  # times matter: the input, an output or an option has some

    @property
    def composes(self) -> bool:
        """Whether an output shows the person over a background."""
        return any(
            is_main(kind) and not (each.alpha or each.packed)
            for kind, each in self.encodings.items()
        )


def is_main(kind: str) -> bool:
    """Whether a kind of output is a cut-out or a composition."""
    return kind in ("output", "composition")


def always(conversion: Conversion) -> bool:
    """Return True, for an option that has an effect in every conversion."""
    return True


@dataclass(frozen=True)
class Option:
    """The description of an option, apart from its type and default: field metadata."""

    flag: str = ""  # its name on the command line; empty if it has none
    help: str = ""  # one line for the command line's help
    group: str = ""  # the heading of the flag in the help
    metavar: str = ""  # the value's placeholder in the help; empty to list the choices
    # All allowed values; empty if another check knows them.
    choices: tuple[str, ...] = ()
    least: int | None = None  # the smallest allowed number
    parse: Callable[[str], Any] = str  # turns a word of the command line into a value
    # The value of the flag given alone; None if it takes a word.
    switch: bool | None = None
    many: bool = False  # whether the flag may be given several times
    short: str = ""  # a second, short flag
    command_default: Any = None  # the command line's default, if it differs
    works: str = ""  # completes "works for ..."; empty if it works for everything
    applies: Callable[[Conversion], bool] = always  # whether it has an effect
    # Whether a note is enough when it has no effect.
    noted: Callable[[Conversion], bool] = lambda conversion: False
    elsewhere: str = "an error"  # what happens when it has no effect
    idle: tuple[Any, ...] = ()  # values other than the default that have no effect
    may_change: bool = False  # whether a resumed run may have another value

    def check(self, name: str, value: Any, default: Any) -> None:
        """Refuse a value that is not one of the choices, no number, or too small."""
        number = self.parse in (int, float)
        if value is None and (default is None or not number):
            return
        if self.choices and value not in self.choices:
            raise ValueError(
                f"{name} must be one of {', '.join(self.choices)}, got {value!r}"
            )
        if self.least is not None:
            if not isinstance(value, Integral):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
            if value < self.least:
                raise ValueError(f"{name} must be {self.least} or more, got {value}")
        elif number and not isinstance(value, Real):
            raise TypeError(f"{name} must be a number, got {value!r}")


def is_moving(conversion: Conversion) -> bool:
    """Whether the input has several frames."""
    return not conversion.still


def option(default: Any, flag: str = "", text: str = "", /, **more: Any) -> Any:
    """Make a field of `Options`; the arguments are those of `Option`."""
    return field(default=default, metadata={"option": Option(flag, text, **more)})


# What several options work for.
MOVING = {"works": "videos and sequences of images", "applies": is_moving}
ALPHA: dict[str, Any] = {
    "works": "alpha mattes, cut-outs, compositions and plates",
    "applies": lambda c: any(kind != "foreground" for kind in c.encodings),
}
VIDEOS = {"works": "videos", "applies": lambda c: not c.images}
RATED = "videos whose codec is H.264, HEVC, AV1 or VP9"

# Each makes a field of `Options` under one heading of the help.
background_option = partial(option, group="background")
edge_option = partial(option, group="edges")
shape_option = partial(edge_option, parse=float, **ALPHA)
who_option = partial(option, group="who is cut out", **ALPHA)
network_option = partial(option, group="network")
part_option = partial(option, group="what to convert")
encoding_option = partial(option, group="encoding")


def check_ranges(options: Any) -> None:
    """Refuse an `Options` with values that an `Option` alone cannot refuse."""
    _check_background(options.background)
    _check_edges(options)
    resize, mbps, crf = options.input_resize, options.output_video_mbps, options.crf
    if resize is not None and not (
        hasattr(resize, "__len__")
        and len(resize) == 2
        and all(isinstance(n, Real) and float(n) >= 1 for n in resize)
        and all(float(n).is_integer() for n in resize)
    ):
        raise ValueError(
            f"input_resize must be a width and a height of 1 or more, got {resize!r}"
        )
    if mbps is not None and not 0 < mbps < 1000:
        raise ValueError(f"output_video_mbps must be in (0, 1000), got {mbps}")
    if crf is not None and not 0 <= crf <= 63:
        raise ValueError(f"crf must be from 0 (best) to 63, got {crf}")
    if crf is not None and mbps is not None:
        raise ValueError("crf and output_video_mbps (--mbps) exclude each other")
    chunk = options.seq_chunk
    if chunk != "auto" and (not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f'seq_chunk must be 1 or more, or "auto", got {chunk!r}')
    warmup = options.warmup
    if warmup != "auto" and (not isinstance(warmup, int) or warmup < 0):
        raise ValueError(f'warmup must be 0 or more, or "auto", got {warmup!r}')
    if options.cuts is not None and Path(options.cuts).suffix.lower() != ".csv":
        raise ValueError(f"cuts must be a path that ends in .csv, got {options.cuts}")
    check_region(options.region)


def _check_background(given: Any) -> None:
    for each in given.values() if isinstance(given, Mapping) else (given,):
        if not isinstance(each, str | PathLike | tuple | None):
            raise TypeError(
                "background must be a colour, an image or a video by name, or three "
                f"numbers in a tuple, got {type(each).__name__}; for pictures in "
                "memory there is `over` of a matte"
            )


def _check_edges(options: Any) -> None:
    for name in ("include", "exclude"):
        if given := getattr(options, name):
            parse_masks(name, given)
    if options.person is not None:
        parse_who(options.person)
    if not 0 <= options.black_point < options.white_point <= 1:
        raise ValueError(
            "black_point and white_point must be in [0, 1], black_point the "
            f"smaller one, got {options.black_point} and {options.white_point}"
        )
    if not 0 <= options.light_wrap <= 1:
        raise ValueError(f"light_wrap must be in [0, 1], got {options.light_wrap}")
    for name, least in (("grow", -32), ("feather", 0)):
        value = getattr(options, name)
        if not least <= value <= 32:
            raise ValueError(f"{name} must be {least} to 32 pixels, got {value}")
