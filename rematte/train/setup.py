"""Sets up a run: its processes, the networks that it starts from, and optimisers."""

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rematte.engines.device import choose_device
from rematte.errors import InputError, WeightsError
from rematte.network.encoders import MobileNetV3Encoder
from rematte.network.matting_network import MattingNetwork, ShuffleBlock
from rematte.train.narrow import cut_down
from rematte.train.recipe import Phase, Rates, Recipe
from rematte.weights.load import load_network

# Kinds that need a teacher of the same variant.
ALIKE = ("blocks", "encoder", "edges", "sequences")


class Processes:
    """The processes that torchrun started, each on its own GPU, or this one alone."""

    def __init__(self, device: str) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device = torch.device(choose_device(device)[0])
        if self.world > 1:
            if self.device.type == "cuda":
                self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    def wrap(self, passes: nn.Module) -> nn.Module:
        """Wrap the passes so that gradients are averaged over all processes."""
        if self.world == 1:
            return passes
        ids = [self.device.index] if self.device.type == "cuda" else None
        # A pass uses only one of the two projections.
        return DistributedDataParallel(passes, ids, find_unused_parameters=True)

    def agree(self, stop: bool) -> bool:
        """Return the first process's decision in every process."""
        if self.world == 1:
            return stop
        flag = torch.tensor([stop], dtype=torch.int32, device=self.device)
        dist.broadcast(flag, 0)
        return bool(flag.item())

    def wait(self) -> None:
        """Wait until all processes are here.

        A process that ends right after its last exchange may abort, since gloo's thread
        may still hold that exchange's tensors while the interpreter ends.
        """
        if self.world > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1:
            dist.destroy_process_group()


def start_network(recipe: Recipe, clips: Iterable[Tensor]) -> MattingNetwork:
    """Make the network with the weights that training starts from.

    A wider network is pruned on `clips`; see `cut_down`. Raises `InputError` or
    `WeightsError` if the weights do not fit or are missing.
    """
    variant, start = recipe.model.variant, recipe.model.start
    try:
        network = MattingNetwork(variant, recipe.model.refiner, start == "imagenet")
    except OSError as error:  # URLError is one
        raise WeightsError(
            f"model.start imagenet: the encoder of {variant} cannot be fetched "
            f"({error}); fetch it where there is a network, or set model.start to "
            "weights or to nothing"
        ) from error
    if start in ("", "imagenet"):
        return network
    fast = variant == "mobilenetv3_fast"
    loaded = load_network(start, None if fast else variant)
    if fast and not isinstance(loaded.backbone, MobileNetV3Encoder):
        raise InputError(
            f"model.start {start} is neither a {variant} nor a mobilenetv3"
        )
    if fast and not isinstance(loaded.decoder.decode0, ShuffleBlock):
        cut_down(network, channels_last(loaded), clips)
    else:  # another refiner starts from random weights
        network.load_state_dict(loaded.state_dict(), strict=False)
    return network


def load_teacher(recipe: Recipe, device: torch.device) -> MattingNetwork | None:
    """Load the teacher; `InputError` if a phase needs the network's own variant."""
    name, variant = recipe.model.teacher, recipe.model.variant
    if not name:
        return None
    teacher = channels_last(load_network(name, device=device))
    alike = isinstance(teacher.backbone, MobileNetV3Encoder) == (variant != "resnet50")
    if not alike and any(p.kind in ALIKE and p.steps for p in recipe.phase):
        raise InputError(
            f"model.teacher {name} is not a {variant}, so its maps cannot be matched; "
            f"use another, or set steps of the phases of kind {', '.join(ALIKE)} to 0"
        )
    return teacher


def channels_last(network: MattingNetwork) -> MattingNetwork:
    """Set the memory format: a tenth faster on a CPU, more on a GPU."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def parameter_groups(
    network: MattingNetwork, rates: Rates, only: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Group parameters by learning rate, and freeze those with rate 0.

    `only` names the modules that learn, all if empty. Raises `ValueError` if none is
    left.
    """
    decoder = nn.ModuleList([network.decoder, network.project_mat, network.project_seg])
    parts = (
        (network.backbone, rates.backbone),
        (network.aspp, rates.aspp),
        (decoder, rates.decoder),
        (network.refiner, rates.refiner),
    )
    modules = [network.get_submodule(name) for name in only] or [network]
    learning = {id(p) for module in modules for p in module.parameters()}
    network.requires_grad_(False)
    groups = []
    for part, rate in parts:
        chosen = [p for p in part.parameters() if rate > 0 and id(p) in learning]
        for parameter in chosen:
            parameter.requires_grad_(True)
        if chosen:
            groups.append({"params": chosen, "lr": rate, "base": rate})
    if not groups:
        raise ValueError(
            f"phase.*.rates are 0 for {', '.join(only)}: nothing would be trained"
        )
    return groups


def make_optimizer(phase: Phase, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Make the optimiser of a phase; an `InputError` if its package is not installed.

    Source:
        Vyas et al., SOAP: Improving and Stabilizing Shampoo using Adam, 2024. Channels
        of a map are correlated, which slows down Adam, since it scales each weight
        separately.
    """
    if phase.optimizer == "adam":
        return torch.optim.Adam(groups)
    if phase.optimizer == "adamw":
        return torch.optim.AdamW(groups)
    try:
        from pytorch_optimizer import SOAP
    except ModuleNotFoundError as error:
        needed = f"needs {error.name}: pip install 'rematte[train]'"
        raise InputError(f"optimizer soap of phase {phase.name} {needed}") from error
    return SOAP(groups, weight_decay=0.0)


def rate_factor(phase: Phase, step: int) -> float:
    """Return the factor on all learning rates at a step."""
    factor = min(1.0, (step + 1) / (phase.warmup + 1))
    if phase.schedule == "cosine":
        done = step / phase.steps
        late = max(0.0, done - phase.constant) / max(1e-9, 1 - phase.constant)
        factor *= 0.5 * (1 + math.cos(math.pi * late))
    return factor
