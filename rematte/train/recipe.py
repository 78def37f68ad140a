"""Settings of a training run: frozen dataclasses, read from a TOML recipe.

Every key of a recipe is a field here. Pydantic checks types and ranges. This module
knows no torch and opens nothing but the recipe.
"""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from rematte.errors import InputError

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Length = Annotated[int, Field(ge=1, le=1000)]  # frames
Side = Annotated[int, Field(ge=32, le=8192)]  # pixels
Ratio = Annotated[float, Field(ge=0.01, le=1)]
Kind = Literal[
    "matting", "blocks", "encoder", "decoder", "edges", "sequences", "filter",
    "distill", "segmentation",
]  # fmt: skip
# Kinds that learn from crops of edges, and what their sides are multiples of [pixels].
CROPPED = {"edges": 4, "filter": 4, "sequences": 16}


@dataclass(frozen=True)
class Data:
    """Folders and files that pictures come from; docs/train.md shows their layouts.

    Each entry may hold the wildcard `*`.

    Attributes:
        shards: Tar files; the names of members say what kind they are.
        mattes: Folders of foreground and alpha: `fgr/` and `pha/`, or RGBA images.
        filmed: Folders of filmed frames of people with their alpha: `images/` and
            `alpha/`, or `NAME.alpha.png` beside each image.
        backgrounds: Folders of images, videos and folders of frames without people.
        masks: Folders of images of people with `NAME.mask.png` beside each, or of
            `images/` and `masks/`.
        people: Folders of unlabelled images, videos and folders of frames.
        held_out: Share of all pictures and clips kept for validation.
    """

    shards: tuple[str, ...] = ()
    mattes: tuple[str, ...] = ()
    filmed: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.02


@dataclass(frozen=True)
class Model:
    """The network that is trained, and the weights that it starts from.

    Attributes:
        variant: The network's encoder and decoder.
        refiner: The network's guided filter.
        start: First weights: "" for random numbers, "imagenet" for an encoder from
            ImageNet, else a name or file. A "mobilenetv3_fast" may start from a
            "mobilenetv3", whose decoder is cut down.
        teacher: Name or file of the weights that label pictures; "" for none.
    """

    variant: Literal["mobilenetv3", "mobilenetv3_fast", "resnet50"] = "mobilenetv3"
    refiner: Literal["deep_guided_filter", "fast_guided_filter"] = "deep_guided_filter"
    start: str = ""
    teacher: str = ""


@dataclass(frozen=True)
class Rates:
    """Learning rates; a part at 0 is not trained.

    Attributes:
        backbone: Rate of the encoder.
        aspp: Rate of the LR-ASPP.
        decoder: Rate of the decoder and both projections.
        refiner: Rate of the deep guided filter.
        first: Factor on the rate of the encoder's first convolution.
    """

    backbone: Rate = 0.0
    aspp: Rate = 0.0
    decoder: Rate = 0.0
    refiner: Rate = 0.0
    first: Rate = 1.0


@dataclass(frozen=True)
class High:
    """The high-resolution pass of a matting phase.

    Attributes:
        frames: Least and most frames per clip.
        size: Least and most pixels of height and width.
        ratio: The downsample ratio.
    """

    frames: tuple[Length, Length] = (6, 6)
    size: tuple[Side, Side] = (1792, 2304)
    ratio: Ratio = 0.25


@dataclass(frozen=True)
class Augment:
    """Probabilities of the augmentations, drawn for each layer.

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
        crisp: A matte's alpha made 2 to 4 times as steep.
    """

    motion: Share = 0.5
    flip: Share = 0.5
    time: Share = 0.5
    pause: Share = 0.05
    noise: Share = 0.15
    colour: Share = 0.3
    grayscale: Share = 0.03
    sharpness: Share = 0.1
    blur: Share = 0.05
    jpeg: Share = 0.1
    stripes: Share = 0.0
    crisp: Share = 0.0


NO_AUGMENT = Augment(*[0.0] * len(dataclasses.fields(Augment)))


@dataclass(frozen=True)
class Phase:
    """One part of a run, with its own optimiser.

    Attributes:
        name: Name in the log.
        kind: "matting" (true alpha over backgrounds, then segmentation) or
            "segmentation" (the segmentation layer alone), or with a teacher "blocks"
            (each block fed with the teacher's input), "encoder" (the encoder's maps,
            the whole of it fed with pictures), "decoder" (end to end behind the
            teacher's encoder), "edges" (the last two decoder blocks on crops of
            edges), "sequences" (the decoder but for its deepest block, over frames
            one after the other, on crops of edges), "filter" (the guided filter on
            crops of edges) or "distill" (end to end).
        steps: Number of steps; 0 skips the phase.
        batch: Clips per step and process; crops in a phase of kind edges or filter.
        examples: Number of clips whose maps are computed once, kept in memory and
            drawn from in every step; 0 makes new ones for each step.
        blocks: Chains of names of blocks that learn in a phase of kind blocks or
            encoder; of each chain, the first gets the teacher's input (the student's
            in an encoder phase) and the others what the one before them gives. All
            blocks, each by itself, if empty. In a sequences phase, the blocks that
            learn.
        crop: Largest side of the maps of examples [pixels]; 0 keeps them whole. At
            the size of the frame in an edges phase, of the coarse pass in a filter
            phase.
        native: Whether unlabelled pictures are shown at their own scale: never
            enlarged, clips frame by frame, photos panned over by whole pixels.
        way: Share of the way from the first to the last weights of the phase that is
            taken at its end.
        augment: Augmentation of this phase, in place of the recipe's.
        frames: Least and most frames per clip, drawn for each step.
        size: Least and most pixels of height and width, drawn in steps of 16.
        high: The high-resolution pass of a matting phase, or None.
        segmentation: Whether a matting phase has a segmentation pass.
        ratio: Least and most downsample ratio of a student in a distill phase; the
            teacher always sees the full size.
        maps: Weight of the intermediate maps in a distill phase.
        clips: Share of unlabelled samples that are clips rather than images.
        truth: Share of composites with true alpha in a phase with a teacher.
        filmed: Share of filmed frames with their true alpha in such a phase.
        empty: Share of samples without people in a phase with a teacher.
        rates: Learning rates after the warm-up.
        warmup: Steps in which the rates rise evenly from about 0; trained weights need
            some, since a new optimiser has no statistics for its first steps.
        schedule: "constant", or "cosine" down to 0 at the phase's end.
        constant: Share of the steps before the cosine begins.
        optimizer: "adam", "adamw" or "soap" (pytorch-optimizer).
        precision: Floating-point type of the forward pass.
        batch_norm: Whether BatchNorm uses and updates batch statistics, over all GPUs
            where there are several. A network that was distilled needs them frozen.
        accumulate: Batches whose gradients are added up in a step.
    """

    name: str
    kind: Kind
    steps: Annotated[int, Field(ge=0)] = 1000
    batch: Count = 1
    examples: Annotated[int, Field(ge=0)] = 0
    blocks: tuple[tuple[str, ...], ...] = ()
    crop: Annotated[int, Field(ge=0)] = 0
    native: bool = False
    way: Share = 1.0
    augment: Augment | None = None
    frames: tuple[Length, Length] = (1, 1)
    size: tuple[Side, Side] = (256, 256)
    high: High | None = None
    segmentation: bool = True
    ratio: tuple[Ratio, Ratio] = (1.0, 1.0)
    maps: Rate = 1.0
    clips: Share = 0.2
    truth: Share = 0.0
    filmed: Share = 0.0
    empty: Share = 0.05
    rates: Rates = Rates()
    warmup: Annotated[int, Field(ge=0)] = 0
    schedule: Literal["constant", "cosine"] = "constant"
    constant: Share = 0.0
    optimizer: Literal["adam", "adamw", "soap"] = "adam"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_norm: bool = False
    accumulate: Count = 1


@dataclass(frozen=True)
class Validate:
    """Settings of the validation on held-out pictures.

    Attributes:
        every: Steps between two measurements.
        samples: Number of clips.
        frames: Frames per clip.
        size: Height and width [pixels].
    """

    every: Count = 500
    samples: Count = 8
    frames: Count = 4
    size: Annotated[int, Field(ge=32)] = 256


@dataclass(frozen=True)
class Run:
    """Settings of the run; only `seed`, `clip` and `ema` change its results.

    Attributes:
        out: Folder of checkpoints, log and sample sheets.
        seed: Seed of everything that is drawn.
        workers: Processes that make samples; 0 makes them in the main process.
        clip: Largest norm of the gradient.
        ema: Decay of the running mean of the weights; 0 keeps none.
        log_every: Steps between two lines of the log.
        save_every: Steps between two checkpoints; one is written at the end, too.
        export: Floating-point type of `weights.safetensors`.
        licence: Licence of the trained weights, written into them.
    """

    out: str = "runs/run"
    seed: Annotated[int, Field(ge=0)] = 0
    workers: Annotated[int, Field(ge=0)] = 2
    clip: Annotated[float, Field(ge=0.001)] = 1.0
    ema: Annotated[float, Field(ge=0, le=0.99999)] = 0.999
    log_every: Count = 20
    save_every: Count = 500
    export: Literal["float16", "float32"] = "float32"
    licence: str = ""


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run.

    Attributes:
        data: Folders and files that pictures come from.
        model: The network and its first weights.
        phase: The parts of the run, in order.
        augment: Probabilities of the augmentations.
        validate: Settings of the validation.
        run: Folder, seed and checkpoints.
    """

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
            that kind of device, so that one recipe suits all.
        overrides: "key=value" each, as in "run.seed=3" or "phase.0.steps=10"; they
            win over everything in the file.
        on: Kind of device: "cpu", "cuda" or "mps".

    Raises:
        InputError: If the file cannot be read or is no TOML.
        ValueError: If a key is unknown or a value not allowed.
    """
    try:
        table = tomllib.loads(_bundled().get(str(path), Path(path)).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"recipe {path} cannot be read ({error}); give a TOML file or one of "
            f"{', '.join(_bundled())}"
        ) from error
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
    try:
        # As JSON, where lists are good tuples and nothing else is converted.
        recipe = TypeAdapter(Recipe).validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        raise ValueError(_explain(error.errors()[0])) from error
    for index, phase in enumerate(recipe.phase):
        _check(phase, recipe.model, f"phase.{index}")
    return recipe


def _bundled() -> dict[str, Path]:
    """Find the recipes that come with the package, by name."""
    package = Path(__file__).parents[1]
    # Where a wheel has them, and where a checkout has them.
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
        if isinstance(parent, list):
            if not part.isdigit() or int(part) >= len(parent):
                raise ValueError(
                    f"{key}: {part} is none of 0 to {len(parent) - 1}; members of a "
                    "list are counted from 0"
                )
            parent = parent[int(part)]
        elif isinstance(parent, dict):
            parent = parent.setdefault(part, {})
        else:
            raise ValueError(f"{key}: {part} is no table")
    if not isinstance(parent, dict):
        raise ValueError(f"{key}: give a number and a name, such as phase.0.steps")
    parent[last] = value


def _explain(error: ErrorDetails) -> str:
    """Name the setting, its value and what is allowed, in one line."""
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "unexpected_keyword_argument":
        kind: Any = Recipe
        for key in error["loc"][:-1]:
            if isinstance(key, str):
                kind = _table(get_type_hints(kind)[key])
        known = [field.name for field in dataclasses.fields(kind)]
        parent, _, last = name.rpartition(".")
        (near,) = difflib.get_close_matches(last, known, 1, 0)
        nearest = f"{parent}.{near}" if parent else near
        return f"unknown setting {name}; the nearest is {nearest}; all: " + ", ".join(
            known
        )
    if error["type"] == "missing":
        return f"{name} is missing; add it to the recipe"
    allowed = error["msg"].replace("Input should be", "must be")
    return f"{name} {allowed}, got {error['input']!r}"


def _table(kind: Any) -> Any:
    """Return the dataclass in a field's type, which may be optional or a tuple."""
    return kind if isinstance(kind, type) else get_args(kind)[0]


def _check(phase: Phase, model: Model, where: str) -> None:
    """Check what several settings must be together."""
    ranges = {"frames": phase.frames, "size": phase.size, "ratio": phase.ratio}
    if phase.high is not None:
        ranges |= {"high.frames": phase.high.frames, "high.size": phase.high.size}
    for name, (least, most) in ranges.items():
        if least > most:
            raise ValueError(
                f"{where}.{name} must be [least, most], got {[least, most]}"
            )
    if phase.kind not in ("matting", "segmentation") and not model.teacher:
        raise ValueError(
            f"{where} is of kind {phase.kind}, which needs a teacher: set model.teacher"
        )
    if not phase.examples and (
        phase.native or phase.kind in (*CROPPED, "segmentation")
    ):
        raise ValueError(
            f"{where}.examples must be at least 1 in a phase of kind {phase.kind} or "
            "with native pictures, got 0"
        )
    if phase.examples and phase.kind in ("matting", "decoder", "distill"):
        raise ValueError(
            f"{where}.examples must be 0 in a phase of kind {phase.kind}, got "
            f"{phase.examples}: its losses need whole clips"
        )
    unit = CROPPED.get(phase.kind, 0)
    if unit and (phase.crop < 4 * unit or phase.crop % unit):
        raise ValueError(
            f"{where}.crop must be a multiple of {unit}, and at least {4 * unit}, in a "
            f"phase of kind {phase.kind}, got {phase.crop}"
        )
    if phase.kind == "filter" and any(1 / r != round(1 / r) for r in phase.ratio):
        raise ValueError(
            f"{where}.ratio must be 1 over whole numbers in a filter phase, such as "
            f"[0.25, 0.5], got {list(phase.ratio)}"
        )
    rates = phase.rates
    if not (rates.backbone or rates.aspp or rates.decoder or rates.refiner):
        raise ValueError(f"{where}.rates are all 0: nothing would be trained")
