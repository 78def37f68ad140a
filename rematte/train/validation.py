"""Measures a network on pictures that it was not trained on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rematte.errors import OutputError
from rematte.network.matting_network import MattingNetwork
from rematte.train.batches import Batches, held_out_samples
from rematte.train.data import Index
from rematte.train.distill import grafted
from rematte.train.examples import Examples
from rematte.train.extras import Sample
from rematte.train.passes import PREPARED, Passes
from rematte.train.recipe import NO_AUGMENT, Phase, Recipe


def held_out(trained: Index, kept: Index, phase: Phase) -> tuple[Index, bool]:
    """Return what to validate a phase on, and whether it is held out from training.

    With few pictures, none of a kind may be held out: then it is those that are trained
    on, and the figure is named accordingly.
    """
    needed = {"matting": ("mattes", "backgrounds"), "segmentation": ("masks",)}
    kinds = needed.get(phase.kind, ())
    honest = all(getattr(kept, kind) for kind in kinds)
    if not kinds:
        filmed = bool(kept.filmed) or not (phase.filmed and trained.filmed)
        honest = filmed and bool(kept.people or kept.masks)
    parts = {name: items or getattr(trained, name) for name, items in kept.kinds()}
    return Index(**parts), honest  # type: ignore[arg-type]


class Validation:
    """The held-out clips of a phase, and what its blocks are to give for them.

    Args:
        recipe: Settings of the run.
        phase: Settings of the phase.
        index: Pictures to measure on.
        passes: The passes of the phase.
        teacher: The network that labels, or None.
        device: Where the network is.
    """

    def __init__(
        self,
        recipe: Recipe,
        phase: Phase,
        index: Index,
        passes: Passes,
        teacher: MattingNetwork | None,
        device: torch.device,
    ) -> None:
        self.phase, self.teacher, self.device = phase, teacher, device
        key = (recipe.run.seed,)
        self.passes, self.clips = passes, list[Sample]()
        if phase.kind != "segmentation":
            self.clips = held_out_samples(index, phase, recipe.validate, key)
        self.examples: Examples | None = None
        if phase.kind in PREPARED:
            plain = replace(phase, batch=1, augment=None)
            batches = Batches(index, plain, NO_AUGMENT, (*key, 1), 0)
            samples = (
                on_device(batches.make(at)[phase.kind], device)
                for at in range(recipe.validate.samples)
            )
            rng = np.random.default_rng(key)
            self.examples = Examples(passes.prepare(each, rng) for each in samples)

    @torch.no_grad()
    def measure(self) -> tuple[dict[str, float], torch.Tensor | None]:
        """Measure the network of the passes.

        Returns:
            "error", the mean absolute error of alpha x 1e3, against the truth in a
            matting phase, else against the teacher; "filmed_error", that of filmed
            frames with their alpha; "held_out_loss" in a phase on prepared examples;
            and a sheet of the clips, (3, H, W) in [0, 1], if any.
        """
        errors: dict[bool, list[float]] = {False: [], True: []}  # by: filmed with alpha
        rows = []
        shown = self.passes.network
        if self.teacher is not None and self.phase.kind == "decoder":
            shown = grafted(shown, self.teacher)
        for sample in self.clips:
            src, true = sample["src"].to(self.device), sample["pha"].to(self.device)
            filmed = bool(sample.get("known", torch.zeros(1)).any())
            if self.teacher is not None and self.phase.kind != "matting" and not filmed:
                _, true, *_ = self.teacher(src)
            # Where the phase is about a ratio, it is measured at the middle of it.
            ratio = sum(self.phase.ratio) / 2 if self.phase.ratio != (1, 1) else 1.0
            fgr, pha, *_ = shown(src, downsample_ratio=ratio)
            errors[filmed].append(float((pha - true).abs().mean()) * 1e3)
            green = torch.tensor([0.47, 1.0, 0.61], device=self.device).view(3, 1, 1)
            over = pha * fgr + (1 - pha) * green
            parts = [src, true.expand_as(src), pha.expand_as(src), over]
            rows.append(torch.cat([part[0, -1] for part in parts], -1))
        names = {False: "error", True: "filmed_error"}
        figures = {
            names[kind]: float(np.mean(found))
            for kind, found in errors.items()
            if found
        }
        if self.examples:
            losses = [
                float(sum(self.passes(self.phase.kind, each, 1.0).values()))
                for each in (on_device(x, self.device) for x in self.examples.every())
            ]
            figures["held_out_loss"] = float(np.mean(losses))
        return figures, torch.cat(rows, -2) if rows else None


def on_device(sample: Sample, device: torch.device) -> Sample:
    """Move a sample to a device."""
    return {name: x.to(device, non_blocking=True) for name, x in sample.items()}


def save_sheet(sheet: torch.Tensor, path: Path) -> None:
    """Write (3, H, W) in [0, 1] as a PNG.

    Raises:
        OutputError: If it cannot be written.
    """
    pixels: Any = sheet.mul(255).round().byte().movedim(0, -1).cpu().numpy()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written ({error})") from error
