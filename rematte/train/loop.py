"""The training loop: one for all recipes, devices and numbers of processes.

A step is: each pass of the batch forward and backward, then one step of the optimiser
on the sum. A checkpoint holds all that the next step depends on, so that a run that was
stopped and resumed equals an unbroken one: bit for bit on a CPU with one thread. With
more threads torch's own sums differ in their last bits even between two unbroken runs.
"""

import copy
import dataclasses
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from rematte.engines.device import choose_device
from rematte.errors import InputError, OutputError
from rematte.network.encoders import MobileNetV3Encoder
from rematte.network.matting_network import MattingNetwork
from rematte.train.batches import Batch, Batches, Sample, held_out_samples
from rematte.train.data import index
from rematte.train.distill import (
    block_errors,
    distill_loss,
    encoder_errors,
    grafted,
)
from rematte.train.losses import matting_loss, segmentation_loss
from rematte.train.recipe import Phase, Rates, Recipe
from rematte.weights.load import load_model, load_network

STATE, WEIGHTS = "state.pt", "weights.safetensors"
SETTINGS, LOG = "settings.json", "log.jsonl"
MAPS = {"blocks": block_errors, "encoder": encoder_errors}  # by kind of phase
ALIKE = (*MAPS, "decoder")  # kinds that need a teacher of the same variant
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Trained:
    """What a call of `train` did.

    Attributes:
        weights: File that `load_model` loads: the running mean of the weights.
        steps: Steps of the whole run so far.
        finished: Whether all phases are done; else `--resume` goes on.
        error: The last validation: mean absolute error of alpha x 1e3; None if there
            was none.
    """

    weights: Path
    steps: int
    finished: bool
    error: float | None


class Passes(nn.Module):
    """The losses of a pass; a module, so that data-parallel training can wrap it.

    Args:
        network: What is trained.
        teacher: What labels, or None.
    """

    def __init__(self, network: MattingNetwork, teacher: MattingNetwork | None) -> None:
        super().__init__()
        self.network = network
        self._teacher = [teacher]  # in a list: no part of this module, never trained

    def forward(
        self, name: str, sample: Sample, ratio: float, maps: float
    ) -> dict[str, Tensor]:
        """Give the terms whose sum is the loss of the pass `name`."""
        src, (teacher,) = sample["src"], self._teacher
        if teacher is not None and name in MAPS:
            errors = MAPS[name](self.network, teacher, src)
            return {name: torch.stack(list(errors.values())).mean()}
        if teacher is not None and name == "decoder":
            student = grafted(self.network, teacher)
            return distill_loss(student, teacher, sample, ratio, maps)
        if teacher is not None and name == "distill":
            return distill_loss(self.network, teacher, sample, ratio, maps)
        if name == "segmentation":
            seg = self.network(src, segmentation_pass=True).seg
            return {"segmentation": segmentation_loss(seg.float(), sample["mask"])}
        fgr, pha, *_ = self.network(src, downsample_ratio=ratio)
        return matting_loss(fgr.float(), pha.float(), sample["fgr"], sample["pha"])


class Processes:
    """The processes that torchrun started; one of one without it.

    Args:
        device: "auto" or a device's name; each process takes its own GPU.
    """

    def __init__(self, device: str) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device, _ = choose_device(device)
        if self.world > 1:
            if self.device.type == "cuda":
                self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    def wrap(self, passes: Passes) -> nn.Module:
        """Make the gradients the mean over all processes."""
        if self.world == 1:
            return passes
        ids = [self.device.index] if self.device.type == "cuda" else None
        # A pass does not use all parameters: the projections take turns.
        return DistributedDataParallel(passes, ids, find_unused_parameters=True)

    def agree(self, stop: bool) -> bool:
        """Let the first process decide for all."""
        if self.world == 1:
            return stop
        flag = torch.tensor([stop], dtype=torch.int32, device=self.device)
        dist.broadcast(flag, 0)
        return bool(flag.item())

    def meet(self) -> None:
        """Wait for the others before parting.

        A process that left right after its last exchange was once seen to abort: gloo's
        thread may still hold that exchange's tensors while the interpreter ends.
        """
        if self.world > 1:
            dist.barrier()

    def close(self) -> None:
        """Part from the others."""
        if self.world > 1:
            dist.destroy_process_group()


def train(
    recipe: Recipe,
    *,
    resume: bool = False,
    minutes: float | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Trained:
    """Run a recipe, or go on with it.

    Args:
        recipe: What to do.
        resume: Go on from the checkpoint in `run.out`, if there is one.
        minutes: Stop cleanly after this time, with a checkpoint; None runs to the end.
        device: As `choose_device` takes it.
        progress: Draw a bar on stderr.

    Raises:
        InputError: If data is missing or damaged.
        OutputError: If `run.out` holds a run and `resume` is not given, or holds one
            of other settings.
        WeightsError: If the start or the teacher cannot be loaded.
        ValueError: If a loss is not finite any more.
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
        processes.meet()
        if interrupted:
            raise KeyboardInterrupt(run.out / STATE)
        return Trained(run.out / WEIGHTS, run.total, run.finished, run.error)
    finally:
        processes.close()


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM; the second one acts as usual."""
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
    """A run between two steps: everything that a checkpoint holds, and its folder."""

    def __init__(
        self, recipe: Recipe, processes: Processes, resume: bool, progress: bool
    ) -> None:
        self.recipe, self.processes, self.progress = recipe, processes, progress
        self.device, self.main = processes.device, processes.rank == 0
        self.out = Path(recipe.run.out).expanduser()
        there = (self.out / STATE).exists()
        if there and not resume:
            raise OutputError(
                f"run.out {self.out} holds a run; go on with --resume, or set another "
                "with --set run.out=FOLDER"
            )
        torch.manual_seed(recipe.run.seed)
        self.network = _lay_out(_start(recipe).to(self.device))
        self.teacher: MattingNetwork | None = None
        if recipe.model.teacher:
            self.teacher = _lay_out(_teacher(recipe, self.device))
        self.mean = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.phase_at, self.step, self.total = 0, 0, 0
        self.stopped, self.error = False, None  # type: bool, float | None
        self.optimizer: torch.optim.Optimizer | None = None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=False)
        self._loaded: dict[str, Any] = self._load() if there else {}
        self.trained, kept = index(recipe.data).split(recipe.data.held_out)
        # Few pictures may leave nothing of a kind to hold out.
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

    # One phase

    def phase(self, over: Callable[[], bool]) -> None:
        """Run the current phase to its end, or until `over`."""
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
        """Set what is trained, how fast and in which mode."""
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
        """Learn from one batch; give the terms of the loss."""
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
        dtype = _DTYPES[phase.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            terms: dict[str, Tensor] = passes(name, sample, ratio, phase.maps)
        return terms

    @torch.no_grad()
    def _average(self) -> None:
        """Move the running mean of the weights; faster at the beginning."""
        decay = min(self.recipe.run.ema, (1 + self.total) / (10 + self.total))
        theirs = self.network.state_dict()
        for name, value in self.mean.state_dict().items():
            if value.is_floating_point():
                value.lerp_(theirs[name], 1 - decay)
            else:
                value.copy_(theirs[name])

    # What is told

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
        """Measure the running mean on held-out clips, and draw a sheet of them."""
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

    # Checkpoints

    def _save(self, terms: dict[str, Tensor]) -> None:
        """Write state, weights and settings, each complete or not at all."""
        if not all(bool(value.isfinite()) for value in terms.values()) and not (
            self.scaler.is_enabled()  # it skips such steps
        ):
            raise ValueError(
                f"the loss is not finite at step {self.total}; the checkpoint before "
                "it is kept: lower phase.*.rates, or set precision to float32"
            )
        if not self.main:
            return
        state = {
            "settings": _essence(self.recipe),
            "at": (self.phase_at, self.step, self.total, self.error),
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
        }
        dtype = _DTYPES[self.recipe.run.export]
        weights = {
            key: value.to("cpu", dtype if value.is_floating_point() else None)
            for key, value in self.mean.state_dict().items()
        }
        weights = {key: value.contiguous() for key, value in weights.items()}
        text = json.dumps(dataclasses.asdict(self.recipe), indent=2) + "\n"
        _write(self.out / SETTINGS, lambda file: file.write(text.encode()))
        _write(self.out / WEIGHTS, lambda file: file.write(save(weights)))
        _write(self.out / STATE, lambda file: torch.save(state, file))

    def _load(self) -> dict[str, Any]:
        path = self.out / STATE
        try:
            state: dict[str, Any] = torch.load(
                path, map_location="cpu", weights_only=True
            )
        except Exception as error:  # damaged pickles raise nearly every class there is
            raise InputError(
                f"{path} is damaged; delete it to begin anew, perhaps with "
                f"--set model.start={self.out / WEIGHTS}"
            ) from error
        essence = _essence(self.recipe)
        changed = [key for key in essence if essence[key] != state["settings"].get(key)]
        if changed:
            raise OutputError(
                f"run.out {self.out} holds a run of other settings ({changed[0]}); "
                "resume with the same, or set another with --set run.out=FOLDER"
            )
        self.network.load_state_dict(state["network"])
        self.mean.load_state_dict(state["mean"])
        self.phase_at, self.step, self.total, self.error = state["at"]
        torch.set_rng_state(state["rng"])
        return state


def _start(recipe: Recipe) -> MattingNetwork:
    """Make the network with its first weights."""
    model = recipe.model
    if model.start in ("", "imagenet"):
        imagenet = model.start == "imagenet"
        return MattingNetwork(model.variant, model.refiner, imagenet)
    network = MattingNetwork(model.variant, model.refiner)
    loaded = load_model(model.start, model.variant)
    # Another refiner begins anew; the rest must fit.
    missing, _ = network.load_state_dict(loaded.state_dict(), strict=False)
    if any(not key.startswith("refiner.") for key in missing):
        raise InputError(f"model.start {model.start} does not hold {missing[0]}")
    return network


def _lay_out(network: MattingNetwork) -> MattingNetwork:
    """Put channels last: a tenth faster on a CPU, more on a GPU."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _teacher(recipe: Recipe, device: torch.device) -> MattingNetwork:
    """Load the teacher, and see that the phases can learn from it."""
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
    """Parameters by part; those of a part at rate 0 are frozen."""
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
    """What the learning rates are multiplied with at a step."""
    factor = min(1.0, (step + 1) / (phase.warmup + 1))
    if phase.schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * step / phase.steps))
    return factor


def _essence(recipe: Recipe) -> dict[str, Any]:
    """The settings that must not change within a run, as plain lists and tables."""
    settings = dataclasses.asdict(recipe)
    kept = {key: settings[key] for key in ("phase", "augment")}
    kept["model"] = {key: settings["model"][key] for key in ("variant", "refiner")}
    kept["run"] = {key: settings["run"][key] for key in ("seed", "clip", "ema")}
    return kept


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under another name and rename it when it is on the disk."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"{path} cannot be written ({error}); the checkpoint before is kept"
        ) from error


def _tensorboard(folder: Path) -> Any:
    """A writer for TensorBoard where it is installed, else None."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder)
