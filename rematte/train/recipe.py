"""Settings of a training run: frozen dataclasses, filled from a TOML recipe.

Every key of a recipe is a field here; an unknown one is an error that names the nearest
known one. Knows no torch and opens nothing but the recipe.
"""

import dataclasses
import difflib
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rematte.errors import InputError


def _between(default: Any, least: float, most: float = float("inf")) -> Any:
    return field(default=default, metadata={"least": least, "most": most})


@dataclass(frozen=True)
class Data:
    """Where pictures come from; each entry may hold `*`. See docs/train.md.

    Attributes:
        shards: Tar files; names tell the kind of each member.
        mattes: Folders of foreground and alpha: `fgr/` and `pha/`, or RGBA images.
        backgrounds: Folders of images, videos and folders of frames without people.
        masks: Folders of images of people with `NAME.mask.png` beside each, or of
            `images/` and `masks/`.
        people: Folders of unlabelled images, videos and folders of frames.
        held_out: Share of all pictures and clips kept for validation.
    """

    shards: tuple[str, ...] = ()
    mattes: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    held_out: float = _between(0.02, 0, 0.5)


@dataclass(frozen=True)
class Model:
    """What is trained.

    Attributes:
        variant: Of the network.
        refiner: Of the network.
        start: "" for random numbers, "imagenet" for an encoder from ImageNet, or
            weights by name or file.
        teacher: Weights by name or file that label pictures; "" where none is needed.
    """

    variant: Literal["mobilenetv3", "resnet50"] = "mobilenetv3"
    refiner: Literal["deep_guided_filter", "fast_guided_filter"] = "deep_guided_filter"
    start: str = ""
    teacher: str = ""


@dataclass(frozen=True)
class Rates:
    """Learning rates; a part at 0 is not trained.

    Attributes:
        backbone: Of the encoder.
        aspp: Of the LR-ASPP.
        decoder: Of the decoder and both projections.
        refiner: Of the deep guided filter.
        first: The encoder's first convolution learns this many times faster.
    """

    backbone: float = _between(0.0, 0)
    aspp: float = _between(0.0, 0)
    decoder: float = _between(0.0, 0)
    refiner: float = _between(0.0, 0)
    first: float = _between(1.0, 0)


@dataclass(frozen=True)
class High:
    """The high-resolution pass of a matting phase.

    Attributes:
        frames: Least and most frames per clip.
        size: Least and most pixels of height and width.
        ratio: The downsample ratio.
    """

    frames: tuple[int, int] = (6, 6)
    size: tuple[int, int] = (1792, 2304)
    ratio: float = _between(0.25, 0.01, 1)


@dataclass(frozen=True)
class Phase:
    """One part of a run, with its own optimiser.

    Attributes:
        name: For the log.
        kind: "matting" (true alpha over backgrounds, then segmentation), or with a
            teacher "blocks" (each block fed with the teacher's input), "encoder" (the
            encoder's maps, the whole of it fed with pictures), "decoder" (end to end
            behind the teacher's encoder) or "distill" (end to end).
        steps: How many; 0 leaves the phase out.
        batch: Clips per step and process.
        frames: Least and most frames per clip, drawn for each step.
        size: Least and most pixels of height and width, drawn in steps of 16.
        high: The high-resolution pass of a matting phase; None for none.
        segmentation: Whether a matting phase has a segmentation pass.
        ratio: Least and most downsample ratio of a student in a distill phase; the
            teacher always sees the full size.
        maps: Weight of the intermediate maps in a distill phase.
        clips: Share of unlabelled samples that are clips rather than images.
        truth: Share of samples with true alpha in a distill phase.
        empty: Share of samples without people in a phase with a teacher.
        rates: Learning rates at the beginning.
        warmup: Steps in which the rates rise evenly from about 0; trained weights need
            some, since a new optimiser's first steps are blind.
        schedule: "constant", or "cosine" down to 0 at the phase's end.
        optimizer: Which.
        precision: Of the forward pass.
        batch_norm: Whether BatchNorm uses and updates batch statistics. A network
            that was distilled needs them frozen.
    """

    name: str
    kind: Literal["matting", "blocks", "encoder", "decoder", "distill"]
    steps: int = _between(1000, 0)
    batch: int = _between(1, 1)
    frames: tuple[int, int] = (1, 1)
    size: tuple[int, int] = (256, 256)
    high: High | None = None
    segmentation: bool = True
    ratio: tuple[float, float] = (1.0, 1.0)
    maps: float = _between(1.0, 0)
    clips: float = _between(0.2, 0, 1)
    truth: float = _between(0.0, 0, 1)
    empty: float = _between(0.05, 0, 1)
    rates: Rates = Rates()
    warmup: int = _between(0, 0)
    schedule: Literal["constant", "cosine"] = "constant"
    optimizer: Literal["adam", "adamw"] = "adam"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_norm: bool = False


@dataclass(frozen=True)
class Augment:
    """How probable each augmentation is, for each layer and for both together.

    Attributes:
        motion: Eased affine motion.
        flip: Left for right.
        time: Another speed, or backwards.
        pause: A frame held for some time.
        noise: Film grain.
        colour: Brightness, contrast, saturation and tint, changing over time.
        grayscale: Everything gray.
        sharpness: Softer or sharper.
        blur: Out of focus, changing over time.
        jpeg: Artefacts of JPEG, in the composite.
        stripes: Stripes over the background of a matte.
    """

    motion: float = _between(0.5, 0, 1)
    flip: float = _between(0.5, 0, 1)
    time: float = _between(0.5, 0, 1)
    pause: float = _between(0.05, 0, 1)
    noise: float = _between(0.15, 0, 1)
    colour: float = _between(0.3, 0, 1)
    grayscale: float = _between(0.03, 0, 1)
    sharpness: float = _between(0.1, 0, 1)
    blur: float = _between(0.05, 0, 1)
    jpeg: float = _between(0.1, 0, 1)
    stripes: float = _between(0.0, 0, 1)


NO_AUGMENT = Augment(*[0.0] * len(dataclasses.fields(Augment)))


@dataclass(frozen=True)
class Validate:
    """What is measured on held-out pictures.

    Attributes:
        every: Steps between two measurements.
        samples: How many clips.
        frames: Frames per clip.
        size: Height and width [pixels].
    """

    every: int = _between(500, 1)
    samples: int = _between(8, 1)
    frames: int = _between(4, 1)
    size: int = _between(256, 32)


@dataclass(frozen=True)
class Run:
    """How it is run; nothing here but the seed, the clip and the decay changes results.

    Attributes:
        out: Folder of checkpoints, log and sample sheets.
        seed: Of everything that is drawn.
        workers: Processes that make samples; 0 makes them in between.
        clip: Largest norm of the gradient.
        ema: Decay of the running mean of the weights; 0 keeps none.
        log_every: Steps between two lines of the log.
        save_every: Steps between two checkpoints; one is written at the end, too.
        export: Precision of `weights.safetensors`.
    """

    out: str = "runs/run"
    seed: int = _between(0, 0)
    workers: int = _between(2, 0)
    clip: float = _between(1.0, 0.001)
    ema: float = _between(0.999, 0, 0.99999)
    log_every: int = _between(20, 1)
    save_every: int = _between(500, 1)
    export: Literal["float16", "float32"] = "float32"


@dataclass(frozen=True)
class Recipe:
    """All settings of a run.

    Attributes:
        data: Where pictures come from.
        model: What is trained.
        phase: The parts of the run, one after the other.
        augment: How pictures are varied.
        validate: What is measured on held-out pictures.
        run: How it is run.
    """

    phase: tuple[Phase, ...]
    data: Data = Data()
    model: Model = Model()
    augment: Augment = Augment()
    validate: Validate = Validate()
    run: Run = Run()


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), on: str = ""
) -> Recipe:
    """Read a recipe.

    Args:
        path: A TOML file. Its tables `[on.DEVICE]` hold dotted keys that replace
            others on that kind of device, so that one recipe suits all.
        overrides: "key=value" each, as in "run.seed=3" or "phase.0.steps=10"; they
            win over everything in the file.
        on: Kind of device: "cpu", "cuda" or "mps".

    Raises:
        InputError: If the file cannot be read or is no TOML.
        ValueError: If a key is unknown or a value not allowed.
    """
    try:
        table = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {path} cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {path} is no TOML: {error}; correct it") from error
    changes = table.pop("on", {})
    for key, value in changes.get(on, {}).items():
        _put(table, key, value)
    for text in overrides:
        key, equals, words = text.partition("=")
        if not equals:
            raise ValueError(f"--set must be KEY=VALUE, got {text!r}")
        _put(table, key.strip(), _value(words))
    recipe: Recipe = _build(Recipe, table, "")
    for index, phase in enumerate(recipe.phase):
        _check(phase, recipe.model, f"phase.{index}")
    return recipe


def _value(words: str) -> object:
    try:
        return tomllib.loads(f"x = {words}")["x"]
    except tomllib.TOMLDecodeError:
        return words  # a bare word is a string


def _put(table: dict[str, Any], key: str, value: object) -> None:
    """Replace one value; `key` is dotted, with numbers for members of lists."""
    *parents, last = key.split(".")
    place: Any = table
    for part in parents:
        if isinstance(place, list):
            if not part.isdigit() or int(part) >= len(place):
                raise ValueError(
                    f"{key}: {part} is none of 0 to {len(place) - 1}; members of a "
                    "list are counted from 0"
                )
            place = place[int(part)]
        elif isinstance(place, dict):
            place = place.setdefault(part, {})
        else:
            raise ValueError(f"{key}: {part} is no table")
    if not isinstance(place, dict):
        raise ValueError(f"{key}: give a number and a name, such as phase.0.steps")
    place[last] = value


def _build(kind: Any, table: Mapping[str, object], where: str) -> Any:
    """Fill a dataclass from a table, strictly."""
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{where}{key}"
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1, 0)
            raise ValueError(
                f"unknown setting {name}; the nearest is {where}{near[0]}; all: "
                + ", ".join(fields)
            )
        values[key] = _convert(hints[key], value, name)
        limits = fields[key].metadata
        if limits and not limits["least"] <= values[key] <= limits["most"]:
            raise ValueError(
                f"{name} must be in [{limits['least']}, {limits['most']}], got {value}"
            )
    missing = [
        name
        for name, entry in fields.items()
        if entry.default is dataclasses.MISSING and name not in values
    ]
    if missing:
        raise ValueError(f"{where}{missing[0]} is missing; add it to the recipe")
    return kind(**values)


def _convert(kind: Any, value: Any, where: str) -> Any:
    """Turn what TOML gives into what a field holds."""
    if isinstance(kind, types.UnionType):
        kind = get_args(kind)[0]  # None is the default and cannot be written in TOML
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _build(kind, value, f"{where}.")
    if get_origin(kind) is tuple and isinstance(value, list):
        kinds = get_args(kind)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        if len(kinds) == len(value):
            pairs = enumerate(zip(kinds, value, strict=True))
            return tuple(_convert(k, v, f"{where}.{i}") for i, (k, v) in pairs)
    if get_origin(kind) is Literal and value in get_args(kind):
        return value
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(f"{where} must be {_describe(kind)}, got {value!r}")


def _describe(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    if dataclasses.is_dataclass(kind):
        return "a table"
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        many = "a list" if kinds[-1] is Ellipsis else f"a list of {len(kinds)}"
        return f"{many}, each {_describe(kinds[0])}"
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(kind, "a text")


def _check(phase: Phase, model: Model, where: str) -> None:
    """What several settings must be together."""
    ranges: dict[str, tuple[tuple[float, float], float, float]] = {
        "frames": (phase.frames, 1, 1000),
        "size": (phase.size, 32, 8192),
        "ratio": (phase.ratio, 0.01, 1),
    }
    if phase.high is not None:
        ranges["high.frames"] = (phase.high.frames, 1, 1000)
        ranges["high.size"] = (phase.high.size, 32, 8192)
    for name, ((low, high), least, most) in ranges.items():
        if not least <= low <= high <= most:
            raise ValueError(
                f"{where}.{name} must be [least, most] within [{least}, {most}], got "
                f"{[low, high]}"
            )
    if phase.kind != "matting" and not model.teacher:
        raise ValueError(
            f"{where} is of kind {phase.kind}, which needs a teacher: set model.teacher"
        )
    rates = phase.rates
    if not (rates.backbone or rates.aspp or rates.decoder or rates.refiner):
        raise ValueError(f"{where}.rates are all 0: nothing would be trained")
