"""Shows what a recipe would do: data, one sheet of pictures, time and memory."""

import json
import resource
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F

from rematte.train.batches import Batches
from rematte.train.data import index
from rematte.train.extras import Extras
from rematte.train.journal import LOG
from rematte.train.loop import train
from rematte.train.recipe import Phase, Recipe
from rematte.train.validation import save_sheet

SHEET = "dry-run.png"
_STEPS = 2
_SHOWN = 6  # pictures of a phase
_EXAMPLES = 8  # enough for most phases of crops to find an edge


def dry_run(
    recipe: Recipe, *, device: str = "auto", extras: Extras | None = None
) -> Iterator[str]:
    """Try every phase for two steps, and write nothing but a sheet into `run.out`.

    Args:
        recipe: Settings of the run.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        extras: A network, an augmentation or a loss of your own.

    Yields:
        Lines of text: counts of the data, unused files, then time and memory.

    Raises:
        InputError, WeightsError, ValueError: As `train`.
    """
    found = index(recipe.data)
    trained, kept = found.split(recipe.data.held_out)
    for name, part in (("trained on", trained), ("held out", kept)):
        counts = ", ".join(f"{len(items)} {kind}" for kind, items in part.kinds())
        yield f"{name}: {counts}"
    yield from (f"not used: {text}" for text in found.unused)
    phases = {at: phase for at, phase in enumerate(recipe.phase) if phase.steps}
    rows = []
    for at, phase in phases.items():
        single = replace(phase, batch=1)
        batches = Batches(found, single, recipe.augment, (recipe.run.seed, at), 0)
        drawn = [next(iter(batches.make(step).values())) for step in range(_SHOWN)]
        shown = [F.interpolate(each["src"][:1, -1], (160, 160))[0] for each in drawn]
        rows.append(torch.cat(shown, -1))
    path = Path(recipe.run.out).expanduser() / SHEET
    save_sheet(torch.cat(rows, -2), path)
    yield f"pictures of each phase: {path}"
    total = 0.0
    for phase in phases.values():
        seconds = _seconds(recipe, phase, device, extras)
        total += seconds * phase.steps
        yield f"{phase.name}: {phase.steps} steps of {seconds:.2f} s"
    # Linux counts kilobytes, macOS bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    yield f"about {total / 3600:.1f} hours without loading; {most:.0f} MB of memory"
    if torch.cuda.is_available():
        yield f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MB of GPU memory"


def _seconds(recipe: Recipe, phase: Phase, device: str, extras: Extras | None) -> float:
    """Return how long a step of a phase takes, the second of two."""
    few_examples = min(phase.examples, _EXAMPLES)
    phase, model = replace(phase, steps=_STEPS, examples=few_examples), recipe.model
    if phase.kind == "filter" and not model.start:  # random numbers find no people
        model = replace(model, start=model.teacher)
    with tempfile.TemporaryDirectory() as folder:
        run = replace(recipe.run, out=folder, workers=0, log_every=1)
        few = replace(recipe.validate, samples=1)
        tried = replace(recipe, phase=(phase,), model=model, run=run, validate=few)
        train(tried, device=device, progress=False, extras=extras)
        lines = [json.loads(s) for s in (Path(folder) / LOG).read_text().splitlines()]
        first, last = (line["seconds"] for line in lines if "loss" in line)
        return float(last - first)
