"""Settings of a training run: frozen dataclasses, read from a TOML recipe.

Every key of a recipe is a field here, with a comment that explains it. Pydantic checks
types and ranges. This module does not import torch and opens only the recipe.
"""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from rematte.errors import InputError

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Length = Annotated[int, Field(ge=1, le=1000)]  # frames
Side = Annotated[int, Field(ge=32, le=8192)]  # pixels
Ratio = Annotated[float, Field(ge=0.01, le=1)]
Kind = Literal[
    "matting", "blocks", "encoder", "edges", "sequences", "filter", "distill",
    "segmentation",
]  # fmt: skip
# Kinds that learn from crops of edges; crop sides are multiples of this [pixels].
CROPPED = {"edges": 4, "filter": 4, "sequences": 16}


@dataclass(frozen=True)
class Data:
    """Folders and files that pictures come from; docs/train.md shows their layouts.

    Each entry may hold the wildcard `*`.
    """

    shards: tuple[str, ...] = ()  # tar files; the names of members determine their kind
    mattes: tuple[str, ...] = ()  # foreground and alpha
    filmed: tuple[str, ...] = ()  # filmed frames of people and their alpha
    backgrounds: tuple[str, ...] = ()  # without people
    masks: tuple[str, ...] = ()  # people and their masks
    people: tuple[str, ...] = ()  # unlabelled
    # Share of all pictures and clips kept for validation.
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.02


@dataclass(frozen=True)
class Model:
    """The network that is trained, and the weights that it starts from."""

    variant: Literal["mobilenetv3", "mobilenetv3_fast", "resnet50"] = "mobilenetv3"
    refiner: Literal["deep_guided_filter", "fast_guided_filter"] = "deep_guided_filter"
    # First weights: "" for random weights, "imagenet" for an encoder from ImageNet, or
    # a name or file. A "mobilenetv3_fast" may start from a "mobilenetv3", whose decoder
    # is pruned.
    start: str = ""
    teacher: str = ""  # name or file of the weights that label pictures; "" for none


@dataclass(frozen=True)
class Rates:
    """Learning rates; a part at 0 is not trained."""

    backbone: Rate = 0.0  # the encoder
    aspp: Rate = 0.0
    decoder: Rate = 0.0  # with both projections
    refiner: Rate = 0.0  # the deep guided filter


@dataclass(frozen=True)
class High:
    """The high-resolution pass of a matting phase."""

    frames: tuple[Length, Length] = (6, 6)  # least and most per clip
    size: tuple[Side, Side] = (1792, 2304)  # least and most height and width [pixels]
    ratio: Ratio = 0.25  # downsample ratio


@dataclass(frozen=True)
class Augment:
    """Probabilities of the augmentations, drawn for each layer."""

    motion: Share = 0.5  # eased affine motion
    flip: Share = 0.5  # horizontal
    time: Share = 0.5  # change of speed, or backwards
    pause: Share = 0.05  # a frame held for some time
    noise: Share = 0.15  # film grain
    colour: Share = 0.3  # brightness, contrast, saturation and tint, changing over time
    grayscale: Share = 0.03
    sharpness: Share = 0.1  # softer or sharper
    blur: Share = 0.05  # defocus that changes over time
    jpeg: Share = 0.1  # JPEG artefacts, in the composite
    stripes: Share = 0.0  # over the background of a matte
    crisp: Share = 0.0  # a matte's alpha made 2 to 4 times as steep
    hair: Share = 0.0  # drawn on the head of a still matte
    far: Share = 0.0  # a matte down to a quarter of the height, instead of half
    group: Share = 0.0  # another matte behind, and again with the same probability


NO_AUGMENT = Augment(*[0.0] * len(dataclasses.fields(Augment)))


@dataclass(frozen=True)
class Phase:
    """One part of a run, with its own optimiser."""

    name: str  # in the log
    kind: Kind  # see docs/train.md, "Recipes" and "Distillation"
    steps: Whole = 1000  # 0 skips the phase
    batch: Count = 1  # clips or crops per step and process
    # Clips whose maps are computed once and kept in memory for all steps; 0 computes
    # new ones for each step.
    examples: Whole = 0
    # Chains of names of blocks that learn in a phase of kind blocks or encoder. The
    # first block of a chain gets the teacher's input (the student's in an encoder
    # phase), each other block the output before it. If empty, all blocks learn alone.
    # In a sequences phase, these are the blocks that learn.
    blocks: tuple[tuple[str, ...], ...] = ()
    # Largest side of the maps of examples, 0 for whole maps: in pixels of the frame in
    # edges and sequences phases, of the coarse pass in a filter phase.
    crop: Whole = 0
    # Whether unlabelled pictures keep their own scale: never enlarged, clips frame by
    # frame, photos panned by whole pixels.
    native: bool = False
    # Interpolation at the end of the phase, from its first weights (0) to its last (1).
    way: Share = 1.0
    augment: Augment | None = None  # in place of the recipe's
    frames: tuple[Length, Length] = (1, 1)  # least and most per clip, for each step
    size: tuple[Side, Side] = (256, 256)  # least and most height and width, by 16
    high: High | None = None
    segmentation: bool = True  # whether a matting phase has a segmentation pass
    # Least and most downsample ratio of the student in a distill or filter phase; the
    # teacher always sees the full size.
    ratio: tuple[Ratio, Ratio] = (1.0, 1.0)
    maps: Rate = 1.0  # weight of the intermediate maps in a distill phase
    clips: Share = 0.2  # share of clips, not images, among unlabelled samples
    truth: Share = 0.0  # of samples with a teacher: composites with true alpha,
    filmed: Share = 0.0  # filmed frames with their true alpha,
    empty: Share = 0.05  # and samples without people
    rates: Rates = Rates()
    # Steps in which the rates rise linearly from about 0. Trained weights need some,
    # because a new optimiser has no statistics in its first steps.
    warmup: Whole = 0
    schedule: Literal["constant", "cosine"] = "constant"  # cosine: to 0 at the end
    constant: Share = 0.0  # share of the steps before the cosine starts
    optimizer: Literal["adam", "adamw", "soap"] = "adam"  # soap: pytorch-optimizer
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of passes
    # Whether BatchNorm uses and updates statistics of the batch, over all GPUs. A
    # distilled network needs them frozen.
    batch_norm: bool = False
    accumulate: Count = 1  # batches whose gradients are added up in a step


@dataclass(frozen=True)
class Validate:
    """Settings of the validation on held-out pictures."""

    every: Count = 500  # steps between two measurements
    samples: Count = 8  # clips
    frames: Count = 4  # per clip
    size: Annotated[int, Field(ge=32)] = 256  # height and width [pixels]


@dataclass(frozen=True)
class Run:
    """Settings of the run; only `seed`, `clip` and `ema` change its results."""

    out: str = "runs/run"  # folder of checkpoints, log and sample sheets
    seed: Whole = 0  # of all random draws
    workers: Whole = 2  # processes that make samples; 0 makes them in the main process
    clip: Annotated[float, Field(ge=0.001)] = 1.0  # largest norm of the gradient
    # Decay of the running mean of the weights; 0 keeps none.
    ema: Annotated[float, Field(ge=0, le=0.99999)] = 0.999
    log_every: Count = 20  # steps between two lines of the log
    save_every: Count = 500  # steps between two checkpoints; the end writes one, too
    export: Literal["float16", "float32"] = "float32"  # type of `weights.safetensors`
    licence: str = ""  # of the trained weights, written into them


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run; the phases run in their order."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

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
        path: A TOML file, or the name of one that comes with the package, such as
            "bundled". Its tables `[on.DEVICE]` hold dotted keys that replace others on
            that kind of device.
        overrides: "key=value" each, as in "run.seed=3" or "phase.0.steps=10"; they
            win over everything in the file.
        on: Kind of device: "cpu", "cuda" or "mps".

    Raises:
        InputError: If the file cannot be read or is not valid TOML.
        ValueError: If a key is unknown or a value not allowed.
    """
    try:
        table = tomllib.loads(_bundled().get(str(path), Path(path)).read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {path} is not TOML: {error}; correct it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"recipe {path} cannot be read ({error}); give a TOML file or one of "
            f"{', '.join(_bundled())}"
        ) from error
    devices = table.pop("on", {})
    known = isinstance(devices, dict) and devices.keys() <= {"cpu", "cuda", "mps"}
    if not known or not all(isinstance(each, dict) for each in devices.values()):
        allowed = "tables named on.cpu, on.cuda or on.mps"
        raise ValueError(f"on must hold {allowed}, got {devices!r}")
    for key, value in devices.get(on, {}).items():
        _put(table, key, value)
    for text in overrides:
        key, equals, words = text.partition("=")
        if not equals:
            raise ValueError(f"--set must be KEY=VALUE, got {text!r}")
        _put(table, key.strip(), _value(words))
    try:
        # As JSON, where lists are accepted as tuples and nothing else is converted.
        recipe = TypeAdapter(Recipe).validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        raise ValueError(_explain(error.errors()[0])) from error
    for index, phase in enumerate(recipe.phase):
        for problem in _problems(phase, recipe.model):
            raise ValueError(f"phase.{index}{problem}")
    return recipe


def _bundled() -> dict[str, Path]:
    """Find the recipes that come with the package, by name."""
    package = Path(__file__).parents[1]
    # In a wheel, and in a checkout.
    folders = package / "recipes", package.parent / "recipes"
    return {path.stem: path for each in folders for path in sorted(each.glob("*.toml"))}


def _value(words: str) -> object:
    try:
        return tomllib.loads(f"x = {words}")["x"]
    except tomllib.TOMLDecodeError:
        return words  # a bare word is a string


def _put(table: dict[str, Any], key: str, value: object) -> None:
    """Replace one value; `key` is dotted, with numbers for members of lists."""
    *parents, last = key.split(".")
    parent: Any = table
    for part in parents:
        if isinstance(parent, dict):
            parent = parent.setdefault(part, {})
        elif not isinstance(parent, list):
            raise ValueError(f"{key}: {part} is not a table")
        elif part.isdigit() and int(part) < len(parent):
            parent = parent[int(part)]
        else:
            raise ValueError(
                f"{key}: {part} is not in 0 to {len(parent) - 1}; members of a list "
                "are counted from 0"
            )
    if not isinstance(parent, dict):
        raise ValueError(f"{key}: give a number and a name, such as phase.0.steps")
    parent[last] = value


def _explain(error: ErrorDetails) -> str:
    """Name the setting, its value and what is allowed, in one line."""
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{name} is missing; add it to the recipe"
    if error["type"] != "unexpected_keyword_argument":
        allowed = error["msg"].replace("Input should be", "must be")
        return f"{name} {allowed}, got {error['input']!r}"
    kind: Any = Recipe
    for key in error["loc"][:-1]:
        if isinstance(key, str):  # else the index in a list
            hint = get_type_hints(kind)[key]
            kind = hint if isinstance(hint, type) else get_args(hint)[0]
    known = [field.name for field in dataclasses.fields(kind)]
    parent, dot, last = name.rpartition(".")
    near = f"{parent}{dot}{difflib.get_close_matches(last, known, 1, 0)[0]}"
    return f"unknown setting {name}; the nearest is {near}; all: {', '.join(known)}"


def _problems(phase: Phase, model: Model) -> Iterator[str]:
    """Describe what is wrong with the combination of a phase's settings."""
    kind, rates, unit = phase.kind, phase.rates, CROPPED.get(phase.kind, 0)
    crop, examples, ratio = phase.crop, phase.examples, list(phase.ratio)
    where = f"in a phase of kind {kind}"
    ranges = {"frames": phase.frames, "size": phase.size, "ratio": phase.ratio}
    if phase.high is not None:
        ranges |= {"high.frames": phase.high.frames, "high.size": phase.high.size}
    for name, (least, most) in ranges.items():
        if least > most:
            yield f".{name} must be [least, most], got {[least, most]}"
    if kind not in ("matting", "segmentation") and not model.teacher:
        yield f" is of kind {kind}, which needs a teacher: set model.teacher"
    if not examples and (phase.native or kind in (*CROPPED, "segmentation")):
        yield f".examples must be at least 1 {where} or with native pictures, got 0"
    if examples and kind in ("matting", "distill"):
        yield f".examples must be 0 {where}, got {examples}: it learns from whole clips"
    if unit and (crop < 4 * unit or crop % unit):
        allowed = f"a multiple of {unit}, and at least {4 * unit},"
        yield f".crop must be {allowed} {where}, got {crop}"
    if kind == "filter" and any(1 / each != round(1 / each) for each in ratio):
        yield f".ratio must be 1 over whole numbers, such as 0.25, {where}, got {ratio}"
    if not (rates.backbone or rates.aspp or rates.decoder or rates.refiner):
        yield ".rates are all 0: nothing would be trained"
