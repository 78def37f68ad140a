"""The training loop: one for all recipes, devices and numbers of processes.

A step runs each pass of the batch forward and backward, then steps the optimiser once
on the sum of the gradients. A checkpoint holds everything that the next step depends
on, so that on a CPU with one thread a resumed run equals an uninterrupted one bit for
bit. With more threads, torch's sums differ in their last bits.
"""

import copy
import dataclasses
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from rematte.errors import InputError, OutputError
from rematte.network.matting_network import MattingNetwork
from rematte.train import checkpoint, setup
from rematte.train.batches import Batch, Batches, Examples, load
from rematte.train.data import index
from rematte.train.extras import Extras, Sample, Terms
from rematte.train.filter import scale_steps
from rematte.train.journal import Journal
from rematte.train.passes import PREPARED, Passes
from rematte.train.recipe import Phase, Recipe
from rematte.train.stopping import StepAbandonedError, Stop
from rematte.train.validation import Validation, held_out, on_device, save_sheet

_CUT_ON = 8  # clips
_LONGEST = 525_600  # duration of a call [minutes]; the system's timer has a limit too


@dataclass(frozen=True)
class Trained:
    """The result of a call of `train`."""

    weights: Path  # that `load_model` loads: the running mean of the weights
    steps: int  # of the whole run so far
    finished: bool  # whether all phases are done; if not, `resume` continues
    error: float | None  # mean absolute of alpha x 1e3 in the last validation
    held_out: bool  # whether that was on pictures held out from training


def train(
    recipe: Recipe,
    *,
    resume: bool = False,
    minutes: float | None = None,
    device: str = "auto",
    progress: bool = True,
    extras: Extras | None = None,
) -> Trained:
    """Run a recipe from its start or from its last checkpoint.

    Args:
        recipe: Settings of the run.
        resume: Continue from the checkpoint in `run.out`, if there is one.
        minutes: Stop cleanly after this time, with a checkpoint; None runs to the end.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        progress: Write to stderr: a bar on a terminal, lines of the log elsewhere.
        extras: A network, an augmentation or a loss of your own.

    Raises:
        InputError: If data is missing or damaged.
        OutputError: If `run.out` holds a run and `resume` is not given, or holds one
            with other settings, or cannot be written.
        WeightsError: If the start or the teacher cannot be loaded.
        ValueError: If a loss is no longer finite.
        KeyboardInterrupt: After SIGINT, SIGTERM or SIGHUP, when the checkpoint is
            written.
    """
    if minutes is not None and not 0 < minutes <= _LONGEST:
        raise ValueError(
            f"minutes must be above 0 and at most {_LONGEST}, a year, got {minutes}"
        )
    processes = setup.Processes(device)
    # Other processes would wait for the exchange of a discarded step.
    stop = Stop(minutes, abandon=processes.world == 1)
    torch.set_flush_denormal(True)  # on a CPU they are a hundred times slower
    try:
        with stop.watch():
            shown = progress and processes.rank == 0
            run = _Run(recipe, processes, resume, shown, extras or Extras())
            with closing(run.journal):
                while not run.finished and not run.stopped:
                    run.phase(stop)
        processes.wait()
        if stop.signals:
            raise KeyboardInterrupt(run.out / checkpoint.STATE)
        return Trained(
            run.out / checkpoint.WEIGHTS, run.total, run.finished, run.error, run.honest
        )
    finally:
        torch.set_flush_denormal(False)
        processes.close()


class _Run:
    """The state of a run between two steps, its folder and its log."""

    def __init__(
        self, recipe: Recipe, processes: setup.Processes, resume: bool,
        progress: bool, extras: Extras,
    ) -> None:  # fmt: skip
        self.recipe, self.processes, self.extras = recipe, processes, extras
        self.device, self.main = processes.device, processes.rank == 0
        self.out = Path(recipe.run.out).expanduser()
        there = (self.out / checkpoint.STATE).exists()
        if there and not resume:
            raise OutputError(
                f"run.out {self.out} holds a run; continue it with --resume, or set "
                "another with --set run.out=FOLDER"
            )
        found = index(recipe.data)
        self.trained, self.kept = found.split(recipe.data.held_out)
        torch.manual_seed(recipe.run.seed)
        if extras.network:
            made = extras.network()
        elif there:
            made = MattingNetwork(recipe.model.variant, recipe.model.refiner)
        else:
            made = setup.start_network(recipe, self._clips())
        self.network = setup.channels_last(made.to(self.device))
        self.teacher = setup.load_teacher(recipe, self.device)
        self.mean = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.phase_at, self.step, self.total = 0, 0, 0
        self.stopped, self.honest = False, True
        self.error: float | None = None
        self.best: float | None = None
        self.first: dict[str, Tensor] | None = None
        self._loaded: dict[str, Any] = self._load() if there else {}
        self.journal = Journal(self.out if self.main else None, progress)
        line: dict[str, Any] = {"begin": self.total, "device": str(self.device)}
        line |= {kind: len(items) for kind, items in self.trained.kinds()}
        held = {kind: len(items) for kind, items in self.kept.kinds() if items}
        line |= {"held_out": held, "unused": found.unused}
        self.journal.write(line, self.total)
        for text in found.unused:
            self.journal.note(f"not used: {text}")

    def _clips(self) -> Iterator[Tensor]:
        """Yield clips of the first phase, on which a wider network is pruned."""
        run, first = self.recipe.run, self.recipe.phase[0]
        drawn = Batches(self.trained, first, self.recipe.augment, (run.seed,), 0)
        for batch in load(drawn, range(_CUT_ON), run.workers):
            yield batch[first.kind]["src"]

    @property
    def finished(self) -> bool:
        """Whether all phases are done."""
        return self.phase_at == len(self.recipe.phase)

    def phase(self, stop: Stop) -> None:
        """Run the current phase to its end, or until the run is stopped."""
        phase = self._prepare(self.recipe.phase[self.phase_at])
        terms = self._learn(phase, stop) if phase.steps else {}
        if self.step == phase.steps:
            if self.first is not None:  # back to `way` of the way from the start
                for network in (self.network, self.mean):
                    _move(network, self.first, 1 - phase.way)
            self.phase_at, self.step = self.phase_at + 1, 0
            self.first, self.best = None, None
        self._save(terms)

    def _learn(self, phase: Phase, stop: Stop) -> Terms:
        """Take the steps of a phase, and return the terms of the last one's loss."""
        run, validation = self.recipe.run, None
        terms: Terms = {}
        try:
            with stop.abandoning():
                validation = self._validation(phase)
                if self.step == 0:
                    self._validate(phase, validation)
                batches = self._batches(phase)
            bar = tqdm(
                range(self.step, phase.steps), phase.name, phase.steps,
                initial=self.step, disable=not self.journal.bar,
            )  # fmt: skip
            begin = time.monotonic()
            for _ in bar:
                terms = self._step(phase, batches, stop)
                if self.step % run.log_every == 0:
                    loss = self._report(phase, terms, time.monotonic() - begin)
                    bar.set_postfix(loss=f"{loss:.4f}", error=self.error)
                self.stopped = self.processes.agree(stop.over)
                due = self.step % self.recipe.validate.every == 0
                if due or self.stopped or self.step == phase.steps:
                    self._validate(phase, validation)
                if self.stopped:
                    break
                if self.step % run.save_every == 0:
                    self._save(terms)
        except StepAbandonedError:
            self.stopped = True
            self.journal.note(f"step {self.total + 1} took too long and was discarded")
            if validation and terms:
                self._validate(phase, validation)
        return terms

    def _prepare(self, phase: Phase) -> Phase:
        """Make passes, optimiser and scaler; return the phase as the device runs it."""
        if self.device.type == "cpu" and phase.precision == "float16":
            phase = dataclasses.replace(phase, precision="float32")
            note = f"{phase.name}: float32, since float16 is far slower on a CPU"
            self.journal.note(note)
        if phase.batch_norm and self.processes.world > 1 and self.device.type == "cuda":
            # Statistics over all GPUs; on a CPU, each process keeps its own.
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        self.network.train(phase.batch_norm)
        passes = Passes(self.network, self.teacher, phase, self.extras.loss)
        groups = setup.parameter_groups(self.network, phase.rates, passes.learning())
        self.passes = self.processes.wrap(passes)
        self.optimizer = setup.make_optimizer(phase, groups)
        scaled = phase.precision == "float16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        if self._loaded.get("optimizer"):
            self.optimizer.load_state_dict(self._loaded["optimizer"])
            self.scaler.load_state_dict(self._loaded["scaler"])
        self._loaded = {}
        if (phase.way < 1 or phase.examples) and self.first is None:
            self.first = copy.deepcopy(self.network.state_dict())
        return phase

    def _validation(self, phase: Phase) -> Validation:
        chosen, self.honest = held_out(self.trained, self.kept, phase)
        if not self.honest:
            self.journal.note(
                f"{phase.name}: no picture is held out, so errors are measured on "
                "pictures that are trained on; add more or raise data.held_out"
            )
        passes = Passes(self.mean, self.teacher, phase)
        return Validation(self.recipe, chosen, passes, self.device)

    def _batches(self, phase: Phase) -> Iterator[Batch]:
        """Return the batches from the current step on; each step takes `accumulate`."""
        key, rank = (self.recipe.run.seed, self.phase_at), self.processes.rank
        how, more = self.recipe.augment, self.extras.augment
        steps = range(self.step * phase.accumulate, phase.steps * phase.accumulate)
        drawn = Batches(self.trained, phase, how, key, rank, more)
        if not phase.examples:
            return self._load_batches(drawn, steps, self.network)
        # Some are computed by the part that learns, so a resumed phase restores it.
        start = copy.deepcopy(self.network)
        start.load_state_dict(self.first or {})
        loaded = self._load_batches(drawn, range(phase.examples), start)
        hidden = not self.journal.bar
        bar = tqdm(loaded, "examples", phase.examples, leave=False, disable=hidden)
        examples = Examples(batch[phase.kind] for batch in bar)
        if not len(examples):
            raise InputError(
                f"phase {phase.name} found nothing to learn from in {phase.examples} "
                "samples; pictures must be larger than phase.*.crop, and weights must "
                "find the people in them"
            )
        if phase.kind == "filter":
            few = (examples.draw(np.random.default_rng(at), 8) for at in range(8))
            moved = [on_device(each, self.device) for each in few]
            scale_steps(self.optimizer, self.network.refiner, moved)
        rngs = (np.random.default_rng((*key, at, 4, rank)) for at in steps)
        return ({phase.kind: examples.draw(rng, phase.batch)} for rng in rngs)

    def _load_batches(
        self, batches: Batches, steps: range, network: MattingNetwork
    ) -> Iterator[Batch]:
        """Load batches, and compute the maps that a phase learns from."""
        pinned, kind = self.device.type == "cuda", batches.phase.kind
        passes = Passes(network, self.teacher, batches.phase)
        loaded = load(batches, steps, self.recipe.run.workers, pinned)
        for at, batch in zip(steps, loaded, strict=True):
            if kind in PREPARED:
                rng = np.random.default_rng((*batches.key, at, 3, batches.rank))
                sample: Any = passes.prepare(on_device(batch[kind], self.device), rng)
                batch = {kind: sample}
            yield batch

    def _step(self, phase: Phase, batches: Iterator[Batch], stop: Stop) -> Terms:
        """Train on the batches of one step and return the terms of the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = setup.rate_factor(phase, self.step) * group["base"]
        self.optimizer.zero_grad(set_to_none=True)
        report: dict[str, Any] = defaultdict(float)
        buffers = [(b, b.clone()) for b in self.network.buffers() if phase.batch_norm]
        try:
            with stop.abandoning():
                for _ in range(phase.accumulate):
                    for name, sample in next(batches).items():
                        terms = self._terms(phase, name, sample)
                        loss = torch.stack(list(terms.values())).sum()
                        self.scaler.scale(loss / phase.accumulate).backward()
                        for key, term in terms.items():
                            report[f"{name}/{key}"] += term.detach() / phase.accumulate
        except StepAbandonedError:
            for buffer, value in buffers:  # as if the step had not started
                buffer.copy_(value)
            raise
        self.scaler.unscale_(self.optimizer)
        learned = [p for group in self.optimizer.param_groups for p in group["params"]]
        report["norm"] = nn.utils.clip_grad_norm_(learned, self.recipe.run.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step, self.total = self.step + 1, self.total + 1
        # The running mean of the weights follows faster at the start of a run.
        decay = min(self.recipe.run.ema, (1 + self.total) / (10 + self.total))
        _move(self.mean, self.network.state_dict(), 1 - decay)
        return report

    def _terms(self, phase: Phase, name: str, sample: Sample) -> Terms:
        ratio = 1.0
        if name == "high" and phase.high is not None:
            ratio = phase.high.ratio
        elif name == "distill":
            key = (self.recipe.run.seed, self.phase_at, self.step)
            ratio = float(np.random.default_rng(key).uniform(*phase.ratio))
        dtype: torch.dtype = getattr(torch, phase.precision)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            moved = on_device(sample, self.device)
            return self.passes(name, moved, ratio)  # type: ignore[no-any-return]

    def _report(self, phase: Phase, terms: Terms, seconds: float) -> float:
        values = {name: float(value) for name, value in terms.items()}
        loss = sum(value for name, value in values.items() if name != "norm")
        line = {"step": self.total, "phase": phase.name, "at": self.step, "loss": loss}
        rounded = {name: float(f"{value:.5g}") for name, value in values.items()}
        self.journal.write(line | rounded | {"seconds": round(seconds, 2)}, self.total)
        return loss

    def _validate(self, phase: Phase, validation: Validation) -> None:
        """Measure the running mean of the weights, and save the best so far."""
        if not self.main:
            return
        figures, sheet = validation.measure()
        figures = {name: round(value, 4) for name, value in figures.items()}
        line = {"step": self.total, "phase": phase.name, "held_out": self.honest}
        self.journal.write(line | figures, self.total)
        self.error = figures.get("error", self.error)
        if sheet is not None:
            save_sheet(sheet, self.out / "sheets" / f"{self.total:07d}.png")
        errors = [v for name, v in figures.items() if name.endswith("error")]
        value = figures.get("held_out_loss", sum(errors))
        if figures and (self.best is None or value <= self.best):
            self.best, path = value, self.out / checkpoint.BEST
            checkpoint.write_weights(path, self.recipe, self.mean, self._facts())

    def _facts(self) -> dict[str, str]:
        """Return the facts that are written into the weights."""
        return {
            "steps": str(self.total),
            "data": ", ".join(f"{len(v)} {k}" for k, v in self.trained.kinds() if v),
            "held_out_alpha_error": str(self.error if self.honest else "not measured"),
        }

    def _save(self, terms: Terms) -> None:
        """Write a checkpoint, unless the loss is no longer finite."""
        finite = all(bool(value.isfinite()) for value in terms.values())
        if not finite and not self.scaler.is_enabled():  # it skips such steps
            raise ValueError(
                f"the loss is not finite at step {self.total}; the checkpoint before "
                "it was saved: lower phase.*.rates, or set precision to float32"
            )
        if not self.main:
            return
        state = {
            "at": (self.phase_at, self.step, self.total, self.error, self.best),
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "first": self.first,
            "optimizer": self.optimizer.state_dict() if self.step else None,
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
        }
        checkpoint.write(self.out, self.recipe, state, self.mean, self._facts())

    def _load(self) -> dict[str, Any]:
        state = checkpoint.read(self.out, self.recipe)
        self.network.load_state_dict(state["network"])
        self.mean.load_state_dict(state["mean"])
        self.first = state["first"]
        self.phase_at, self.step, self.total, self.error, self.best = state["at"]
        torch.set_rng_state(state["rng"])
        return state


@torch.no_grad()
def _move(network: MattingNetwork, target: dict[str, Tensor], share: float) -> None:
    """Interpolate a network's parameters towards others by a factor."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.lerp_(target[name], share)
        else:
            value.copy_(target[name])
