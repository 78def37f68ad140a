"""Writes and reads the checkpoints of a training run."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save

from rematte.errors import InputError, OutputError
from rematte.network.matting_network import MattingNetwork
from rematte.train.recipe import Recipe
from rematte.version import __version__

STATE, WEIGHTS, SETTINGS = "state.pt", "weights.safetensors", "settings.json"
BEST = "best.safetensors"
METADATA = "rematte"  # name of the entry in the weights' file, a JSON object


def write(
    out: Path, recipe: Recipe, state: dict[str, Any], mean: MattingNetwork,
    facts: dict[str, str],
) -> None:  # fmt: skip
    """Write settings, weights and state, each atomically, or raise `OutputError`.

    `state` is everything that the next step depends on, and `mean` a network with the
    running mean of the weights; `write_weights` describes `facts`.
    """
    state = state | {"settings": _fixed_settings(recipe)}
    text = json.dumps(dataclasses.asdict(recipe), indent=2) + "\n"
    _put(out / SETTINGS, lambda file: file.write(text.encode()))
    write_weights(out / WEIGHTS, recipe, mean, facts)
    _put(out / STATE, lambda file: torch.save(state, file))


def write_weights(
    path: Path, recipe: Recipe, network: MattingNetwork, facts: dict[str, str]
) -> None:
    """Write weights and their origin; `facts` are steps, data and figures."""
    dtype: torch.dtype = getattr(torch, recipe.run.export)
    weights = {
        key: value.to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for key, value in network.state_dict().items()
    }
    metadata = {
        "made_by": f"rematte {__version__} train",
        "licence": recipe.run.licence or "not stated",
        "variant": recipe.model.variant,
        "start": recipe.model.start or "random numbers",
        "teacher": recipe.model.teacher or "none",
        "phases": ", ".join(f"{p.name} ({p.kind}, {p.steps})" for p in recipe.phase),
        "seed": str(recipe.run.seed),
    }
    # One entry, since safetensors writes several in random order.
    content = save(weights, {METADATA: json.dumps(metadata | facts)})
    _put(path, lambda file: file.write(content))


def read(out: Path, recipe: Recipe) -> dict[str, Any]:
    """Read the state of a run with the same settings.

    An `InputError` means that it is damaged, an `OutputError` that settings differ.
    """
    path = out / STATE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise almost any exception
        raise InputError(
            f"{path} is damaged; delete it to start again, perhaps with "
            f"--set model.start={out / WEIGHTS}"
        ) from error
    settings = _fixed_settings(recipe)
    changed = [key for key in settings if settings[key] != state["settings"].get(key)]
    if changed:
        raise OutputError(
            f"run.out {out} holds a run with other settings ({changed[0]}); "
            "resume with the same, or set another with --set run.out=FOLDER"
        )
    return state


def _fixed_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that must not change within a run."""
    fixed = {"model": ("variant", "refiner"), "run": ("seed", "clip", "ema")}
    settings = dataclasses.asdict(recipe)
    kept = {table: {k: settings[table][k] for k in fixed[table]} for table in fixed}
    return {key: settings[key] for key in ("phase", "augment")} | kept


def _put(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a hidden name, and rename it once it is on disk."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError
        raise OutputError(
            f"{path} cannot be written ({error}); the previous checkpoint is intact"
        ) from error
    finally:
        part.unlink(missing_ok=True)
