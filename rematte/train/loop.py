"""The training loop: one for all recipes, devices and numbers of processes.

A step runs each pass of the batch forward and backward, then steps the optimiser once
on the sum of the gradients. A checkpoint holds all that the next step depends on, so
that a run that was stopped and resumed equals an unbroken one: bit for bit on a CPU
with one thread. With more threads torch's own sums differ in their last bits even
between two unbroken runs.
"""

import copy
import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from rematte.errors import InputError, OutputError
from rematte.network.encoders import MobileNetV3Encoder
from rematte.network.matting_network import MattingNetwork
from rematte.train.batches import Batch, Batches, Sample, held_out_samples
from rematte.train.checkpoint import (
    DTYPES,
    STATE,
    WEIGHTS,
    read_checkpoint,
    write_checkpoint,
)
from rematte.train.data import index
from rematte.train.distill import grafted
from rematte.train.distributed import Processes
from rematte.train.passes import MAPS, Passes
from rematte.train.recipe import Phase, Rates, Recipe
from rematte.weights.load import load_model, load_network

LOG = "log.jsonl"
ALIKE = (*MAPS, "decoder")  # kinds that need a teacher of the same variant


@dataclass(frozen=True)
class Trained:
    """The result of a call of `train`.

    Attributes:
        weights: File that `load_model` loads: the running mean of the weights.
        steps: Steps of the whole run so far.
        finished: Whether all phases are done; if not, `--resume` continues.
        error: Mean absolute error of alpha x 1e3 in the last validation, or None.
    """

    weights: Path
    steps: int
    finished: bool
    error: float | None


def train(
    recipe: Recipe,
    *,
    resume: bool = False,
    minutes: float | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Trained:
    """Run a recipe from its start or from its last checkpoint.

    Args:
        recipe: Settings of the run.
        resume: Continue from the checkpoint in `run.out`, if there is one.
        minutes: Stop cleanly after this time, with a checkpoint; None runs to the end.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        progress: Draw a bar on stderr.

    Raises:
        InputError: If data is missing or damaged.
        OutputError: If `run.out` holds a run and `resume` is not given, or holds one
            of other settings.
        WeightsError: If the start or the teacher cannot be loaded.
        ValueError: If a loss is no longer finite.
        KeyboardInterrupt: After SIGINT or SIGTERM, when the checkpoint is written.
    """
    if minutes is not None and minutes <= 0:
        raise ValueError(f"minutes must be above 0, got {minutes}")
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    processes = Processes(device)
    try:
        run = _Run(recipe, processes, resume, progress and processes.rank == 0)
        with _interrupts() as interrupted:
            while not run.finished:
                run.phase(lambda: bool(interrupted) or time.monotonic() >= deadline)
                if run.stopped:
                    break
        processes.wait()
        if interrupted:
            raise KeyboardInterrupt(run.out / STATE)
        return Trained(run.out / WEIGHTS, run.total, run.finished, run.error)
    finally:
        processes.close()


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM; a second one ends the process as usual."""
    caught: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def catch(number: int, frame: object) -> None:
        caught.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in signals:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class _Run:
    """The state of a run between two steps, its folder and its log."""

    def __init__(
        self, recipe: Recipe, processes: Processes, resume: bool, progress: bool
    ) -> None:
        self.recipe, self.processes, self.progress = recipe, processes, progress
        self.device, self.main = processes.device, processes.rank == 0
        self.out = Path(recipe.run.out).expanduser()
        there = (self.out / STATE).exists()
        if there and not resume:
            raise OutputError(
                f"run.out {self.out} holds a run; continue it with --resume, or set "
                "another with --set run.out=FOLDER"
            )
        torch.manual_seed(recipe.run.seed)
        self.network = _channels_last(_start(recipe).to(self.device))
        self.teacher: MattingNetwork | None = None
        if recipe.model.teacher:
            self.teacher = _channels_last(_teacher(recipe, self.device))
        self.mean = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.phase_at, self.step, self.total = 0, 0, 0
        self.stopped, self.error = False, None  # type: bool, float | None
        self.optimizer: torch.optim.Optimizer | None = None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=False)
        self._loaded: dict[str, Any] = self._load() if there else {}
        self.trained, kept = index(recipe.data).split(recipe.data.held_out)
        # With few pictures, none of a kind may be held out: measure on the others.
        self.kept = dataclasses.replace(
            kept,
            **{
                field.name: getattr(kept, field.name)
                or getattr(self.trained, field.name)
                for field in dataclasses.fields(kept)
            },
        )
        self._board = _tensorboard(self.out) if self.main else None
        if self.main:
            self.out.mkdir(parents=True, exist_ok=True)
            counts = {
                field.name: len(getattr(self.trained, field.name))
                for field in dataclasses.fields(self.trained)
            }
            self._log({"begin": self.total, "device": str(self.device), **counts})

    @property
    def finished(self) -> bool:
        """Whether all phases are done."""
        return self.phase_at == len(self.recipe.phase)

    def phase(self, over: Callable[[], bool]) -> None:
        """Run the current phase to its end, or until `over()` is true."""
        phase, run = self.recipe.phase[self.phase_at], self.recipe.run
        key = (run.seed, self.phase_at)
        batches = Batches(
            self.trained, phase, self.recipe.augment, key, self.processes.rank
        )
        samples = held_out_samples(self.kept, phase, self.recipe.validate, (run.seed,))
        optimizer = self._prepare(phase)
        passes = self.processes.wrap(Passes(self.network, self.teacher))
        loader = DataLoader(
            batches,
            batch_size=None,
            sampler=range(self.step, phase.steps),
            num_workers=run.workers,
            generator=torch.Generator(),  # of its own: the global one stays as it is
            pin_memory=self.device.type == "cuda",
        )
        bar = tqdm(
            loader, phase.name, phase.steps, initial=self.step,
            disable=not self.progress,
        )  # fmt: skip
        begin, terms = time.monotonic(), {}
        if self.step == 0:
            self._validate(phase, samples)
        for batch in bar:
            if isinstance(batch, InputError):
                raise batch
            terms = self._step(phase, optimizer, passes, batch)
            if self.step % run.log_every == 0:
                loss = self._report(phase, terms, time.monotonic() - begin)
                bar.set_postfix(loss=f"{loss:.4f}", error=self.error)
            if self.step % self.recipe.validate.every == 0 or self.step == phase.steps:
                self._validate(phase, samples)
            if self.processes.agree(over()):
                self.stopped = True
                break
            if self.step % run.save_every == 0:
                self._save(terms)
        if self.step == phase.steps:
            self.phase_at, self.step, self.optimizer = self.phase_at + 1, 0, None
        self._save(terms)

    def _prepare(self, phase: Phase) -> torch.optim.Optimizer:
        """Make the optimiser and the gradient scaler, and set the network's mode."""
        self.network.train(phase.batch_norm)
        groups = _groups(self.network, phase.rates)
        kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        optimizer: torch.optim.Optimizer = kinds[phase.optimizer](groups)
        scaled = phase.precision == "float16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        if self._loaded.get("optimizer"):
            optimizer.load_state_dict(self._loaded["optimizer"])
            self.scaler.load_state_dict(self._loaded["scaler"])
        self._loaded, self.optimizer = {}, optimizer
        return optimizer

    def _step(
        self,
        phase: Phase,
        optimizer: torch.optim.Optimizer,
        passes: nn.Module,
        batch: Batch,
    ) -> dict[str, Tensor]:
        """Train on one batch and return the terms of the loss."""
        for group in optimizer.param_groups:
            group["lr"] = _factor(phase, self.step) * group["base"]
        optimizer.zero_grad(set_to_none=True)
        report: dict[str, Tensor] = {}
        for name, sample in batch.items():
            terms = self._terms(phase, passes, name, sample)
            loss = torch.stack(list(terms.values())).sum()
            self.scaler.scale(loss).backward()
            report |= {f"{name}/{key}": term.detach() for key, term in terms.items()}
        self.scaler.unscale_(optimizer)
        learned = [p for group in optimizer.param_groups for p in group["params"]]
        report["norm"] = nn.utils.clip_grad_norm_(learned, self.recipe.run.clip)
        self.scaler.step(optimizer)
        self.scaler.update()
        self.step, self.total = self.step + 1, self.total + 1
        self._average()
        return report

    def _terms(
        self, phase: Phase, passes: nn.Module, name: str, sample: Sample
    ) -> dict[str, Tensor]:
        sample = {
            key: value.to(self.device, non_blocking=True)
            for key, value in sample.items()
        }
        ratio = 1.0
        if name == "high" and phase.high is not None:
            ratio = phase.high.ratio
        elif name == "distill" and phase.ratio != (1.0, 1.0):
            key = (self.recipe.run.seed, self.phase_at, self.step)
            ratio = float(np.random.default_rng(key).uniform(*phase.ratio))
        dtype = DTYPES[phase.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            terms: dict[str, Tensor] = passes(name, sample, ratio, phase.maps)
        return terms

    @torch.no_grad()
    def _average(self) -> None:
        """Update the running mean of the weights, faster at the start of a run."""
        decay = min(self.recipe.run.ema, (1 + self.total) / (10 + self.total))
        trained = self.network.state_dict()
        for name, value in self.mean.state_dict().items():
            if value.is_floating_point():
                value.lerp_(trained[name], 1 - decay)
            else:
                value.copy_(trained[name])

    def _report(self, phase: Phase, terms: dict[str, Tensor], seconds: float) -> float:
        values = {name: float(value) for name, value in terms.items()}
        loss = sum(value for name, value in values.items() if name != "norm")
        self._log(
            {"step": self.total, "phase": phase.name, "at": self.step, "loss": loss}
            | {name: float(f"{value:.5g}") for name, value in values.items()}
            | {"seconds": round(seconds, 2)}
        )
        return loss

    def _log(self, line: dict[str, Any]) -> None:
        if not self.main:
            return
        with (self.out / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in line.items():
                if isinstance(value, float):
                    self._board.add_scalar(name, value, self.total)

    @torch.no_grad()
    def _validate(self, phase: Phase, samples: list[Sample]) -> None:
        """Measure the running mean on held-out clips, and save a picture of them."""
        if not self.main:
            return
        errors, maps, rows, mean = [], [], [], self.mean
        if self.teacher is not None and phase.kind == "decoder":
            mean = grafted(mean, self.teacher)
        for sample in samples:
            src = sample["src"].to(self.device)
            true = sample["pha"].to(self.device)
            if self.teacher is not None and phase.kind != "matting":
                _, true, *_ = self.teacher(src)
                if phase.kind in MAPS:
                    every = MAPS[phase.kind](self.mean, self.teacher, src)
                    maps.append(float(torch.stack(list(every.values())).mean()))
            # Where the phase is about a ratio, it is measured at the middle of it.
            ratio = sum(phase.ratio) / 2 if phase.kind == "distill" else 1.0
            fgr, pha, *_ = mean(src, downsample_ratio=ratio)
            errors.append(float((pha - true).abs().mean()) * 1e3)
            green = torch.tensor([0.47, 1.0, 0.61], device=self.device).view(3, 1, 1)
            over = pha * fgr + (1 - pha) * green
            shown = [src, true.expand_as(src), pha.expand_as(src), over]
            rows.append(torch.cat([part[0, -1] for part in shown], -1))
        self.error = round(sum(errors) / len(errors), 3)
        line = {"step": self.total, "phase": phase.name, "error": self.error}
        if maps:
            line["map_error"] = round(sum(maps) / len(maps), 4)
        self._log(line)
        sheet = torch.cat(rows, -2).mul(255).round().byte().movedim(0, -1)
        folder = self.out / "sheets"
        folder.mkdir(exist_ok=True)
        Image.fromarray(sheet.cpu().numpy()).save(folder / f"{self.total:07d}.png")

    def _save(self, terms: dict[str, Tensor]) -> None:
        """Write a checkpoint, unless the loss is no longer finite."""
        if not all(bool(value.isfinite()) for value in terms.values()) and not (
            self.scaler.is_enabled()  # it skips such steps
        ):
            raise ValueError(
                f"the loss is not finite at step {self.total}; the checkpoint before "
                "it was saved: lower phase.*.rates, or set precision to float32"
            )
        if not self.main:
            return
        state = {
            "at": (self.phase_at, self.step, self.total, self.error),
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
        }
        write_checkpoint(self.out, self.recipe, state, self.mean)

    def _load(self) -> dict[str, Any]:
        state = read_checkpoint(self.out, self.recipe)
        self.network.load_state_dict(state["network"])
        self.mean.load_state_dict(state["mean"])
        self.phase_at, self.step, self.total, self.error = state["at"]
        torch.set_rng_state(state["rng"])
        return state


def _start(recipe: Recipe) -> MattingNetwork:
    """Make the network with the weights that training starts from."""
    model = recipe.model
    if model.start in ("", "imagenet"):
        imagenet = model.start == "imagenet"
        return MattingNetwork(model.variant, model.refiner, imagenet)
    network = MattingNetwork(model.variant, model.refiner)
    loaded = load_model(model.start, model.variant)
    # Another refiner starts from random weights; everything else must fit.
    missing, _ = network.load_state_dict(loaded.state_dict(), strict=False)
    if any(not key.startswith("refiner.") for key in missing):
        raise InputError(f"model.start {model.start} does not hold {missing[0]}")
    return network


def _channels_last(network: MattingNetwork) -> MattingNetwork:
    """Set the memory format: a tenth faster on a CPU, more on a GPU."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _teacher(recipe: Recipe, device: torch.device) -> MattingNetwork:
    """Load the teacher and check that its maps fit the phases that match them."""
    name, variant = recipe.model.teacher, recipe.model.variant
    teacher = load_network(name, device=device).requires_grad_(False)
    alike = isinstance(teacher.backbone, MobileNetV3Encoder) == (
        variant == "mobilenetv3"
    )
    if not alike and any(p.kind in ALIKE and p.steps for p in recipe.phase):
        raise InputError(
            f"model.teacher {name} is no {variant}, so its maps cannot be matched; set "
            f"steps of the phases of kind {', '.join(ALIKE)} to 0, or use another "
            "teacher"
        )
    return teacher


def _groups(network: MattingNetwork, rates: Rates) -> list[dict[str, Any]]:
    """Group parameters by learning rate, and freeze those with rate 0."""
    first = next(network.backbone.parameters())
    backbone = [p for p in network.backbone.parameters() if p is not first]
    projections = [*network.project_mat.parameters(), *network.project_seg.parameters()]
    parts = {
        "first": ([first], rates.backbone * rates.first),
        "backbone": (backbone, rates.backbone),
        "aspp": (list(network.aspp.parameters()), rates.aspp),
        "decoder": ([*network.decoder.parameters(), *projections], rates.decoder),
        "refiner": (list(network.refiner.parameters()), rates.refiner),
    }
    for parameters, rate in parts.values():
        for parameter in parameters:
            parameter.requires_grad_(rate > 0)
    return [
        {"params": parameters, "lr": rate, "base": rate}
        for parameters, rate in parts.values()
        if rate > 0 and parameters
    ]


def _factor(phase: Phase, step: int) -> float:
    """Return the factor on all learning rates at a step."""
    factor = min(1.0, (step + 1) / (phase.warmup + 1))
    if phase.schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * step / phase.steps))
    return factor


def _tensorboard(folder: Path) -> Any:
    """Return a writer for TensorBoard, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder)
