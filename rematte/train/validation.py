"""Measures a network on pictures that it was not trained on."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rematte.engines.tensors import to_pixels
from rematte.train.batches import Batches, Examples, missing
from rematte.train.data import Index
from rematte.train.extras import Sample
from rematte.train.passes import PREPARED, Passes
from rematte.train.recipe import NO_AUGMENT, Phase, Recipe
from rematte.video.output_paths import as_output_error, write_whole
from rematte.video.sheet import encode_picture

_GREEN = (0.47, 1.0, 0.61)


def held_out(trained: Index, kept: Index, phase: Phase) -> tuple[Index, bool]:
    """Return the validation data of a phase, and whether it is held out from training.

    With few pictures, none of a kind may be held out. Then pictures that are trained on
    are used, and the figure is labelled accordingly.
    """
    honest = not missing(kept, replace(phase, segmentation=False))
    filmed = bool(kept.filmed) or not (phase.filmed and trained.filmed)
    parts: Any = {name: items or getattr(trained, name) for name, items in kept.kinds()}
    return Index(**parts), honest and filmed


class Validation:
    """The held-out clips of a phase, and the targets of its blocks."""

    def __init__(
        self, recipe: Recipe, index: Index, passes: Passes, device: torch.device
    ) -> None:
        self.passes, self.device = passes, device
        phase, validate, seed = passes.phase, recipe.validate, recipe.run.seed
        plain = replace(phase, batch=1, augment=None)
        kind: Any = "matting" if phase.kind == "matting" else "distill"
        shown = replace(
            plain, kind=kind, frames=(validate.frames,) * 2, size=(validate.size,) * 2,
            high=None, segmentation=False, truth=0.0, clips=0.5, native=False,
        )  # fmt: skip

        def draw(phase: Phase, *key: int) -> Iterator[Sample]:
            batches = Batches(index, phase, NO_AUGMENT, key, 0)
            yield from (batches.make(at)[phase.kind] for at in range(validate.samples))

        self.clips = [] if phase.kind == "segmentation" else list(draw(shown, seed))
        self.examples: Examples | None = None
        if phase.kind in PREPARED:
            rng = np.random.default_rng((seed,))
            drawn = (on_device(each, device) for each in draw(plain, seed, 1))
            self.examples = Examples(passes.prepare(each, rng) for each in drawn)

    @torch.no_grad()
    def measure(self) -> tuple[dict[str, float], Tensor | None]:
        """Measure the network of the passes.

        Returns:
            "error", the mean absolute error of alpha x 1e3, against the truth in a
            matting phase, else against the teacher; "filmed_error", that of filmed
            frames with their alpha; "held_out_loss" in a phase on prepared examples;
            and a sheet of the clips, (3, H, W) in [0, 1], if any.
        """
        phase, network = self.passes.phase, self.passes.network
        green = torch.tensor(_GREEN, device=self.device).view(3, 1, 1)
        errors: dict[str, list[float]] = {}
        rows = []
        for sample in (on_device(clip, self.device) for clip in self.clips):
            src, true = sample["src"], sample["pha"]
            filmed = "known" in sample and bool(sample["known"].any())
            if phase.kind != "matting" and not filmed:
                _, true, *_ = self.passes.teacher(src)
            # A phase with a range of ratios is measured at the middle of it.
            fgr, pha, *_ = network(src, downsample_ratio=sum(phase.ratio) / 2)
            name = "filmed_error" if filmed else "error"
            errors.setdefault(name, []).append(float((pha - true).abs().mean()) * 1e3)
            over = pha * fgr + (1 - pha) * green
            parts = [src, true.expand_as(src), pha.expand_as(src), over]
            rows.append(torch.cat([part[0, -1] for part in parts], -1))
        figures = {name: float(np.mean(errors[name])) for name in sorted(errors)}
        if self.examples:
            moved = (on_device(each, self.device) for each in self.examples.every())
            terms = [self.passes(phase.kind, each, 1.0).values() for each in moved]
            figures["held_out_loss"] = float(np.mean([float(sum(t)) for t in terms]))
        return figures, torch.cat(rows, -2) if rows else None


def on_device(sample: Sample, device: torch.device) -> Sample:
    """Move a sample to a device."""
    return {name: x.to(device, non_blocking=True) for name, x in sample.items()}


def save_sheet(sheet: Tensor, path: Path) -> None:
    """Write (3, H, W) in [0, 1] as a PNG; `OutputError` if it cannot be written."""
    with as_output_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, encode_picture(to_pixels(sheet, False), ".png"))
