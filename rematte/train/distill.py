"""Distillation from a teacher: its outputs and, for equal variants, intermediate maps.

Knows no files.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from rematte.errors import InputError
from rematte.network.matting_network import (
    BottleneckBlock,
    MattingNetwork,
    UpsamplingBlock,
)
from rematte.train.batches import Sample
from rematte.train.extras import Loss
from rematte.train.losses import alpha_terms, map_error, temporal_loss
from rematte.train.recipe import Phase

Seen = dict[str, tuple[tuple[Any, ...], Tensor]]
_MARGIN = 4  # pixels that a block looks around


def block_names(network: MattingNetwork) -> list[str]:
    """Return the names of the blocks that are matched one by one, in order."""
    names = []
    for name, child in network.backbone.named_children():
        # `features` of MobileNetV3 and the layers of ResNet are rows of blocks.
        rows = child.children() if isinstance(child, nn.Sequential) else ()
        inside = [f"backbone.{name}.{number}" for number, _ in enumerate(rows)]
        names += inside or [f"backbone.{name}"]
    decoder = [f"decoder.decode{level}" for level in (4, 3, 2, 1, 0)]
    return [*names, "aspp", *decoder, "project_mat"]


@contextmanager
def capture(network: nn.Module, names: list[str]) -> Iterator[Seen]:
    """Record what goes into and comes out of blocks while the network runs.

    Yields:
        Arguments and first result of each block, by its name.
    """
    seen: Seen = {}

    def hook(name: str) -> Any:
        def record(module: nn.Module, arguments: tuple[Any, ...], out: Any) -> None:
            seen[name] = arguments, out[0] if isinstance(out, tuple) else out

        return record

    handles = [
        network.get_submodule(name).register_forward_hook(hook(name)) for name in names
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def block_examples(
    teacher: MattingNetwork,
    src: Tensor,
    chains: Sequence[Sequence[str]],
    crop: int,
    rng: Generator,
) -> Sample:
    """Compute what chains of blocks are to learn from the last frame of clips.

    The states before that frame are the teacher's, so that nothing depends on the
    student.

    Args:
        teacher: The network whose maps are to be matched.
        src: (B, T, 3, H, W).
        chains: Names of blocks; see `Phase.blocks`.
        crop: Largest side of a map, 0 for whole maps.
        rng: Random generator for the place of a crop.

    Returns:
        The arguments of each chain, "NUMBER.POSITION", and its output, "NUMBER".
    """
    states: list[Tensor | None] = [None] * 4
    names = sorted({name for chain in chains for name in (chain[0], chain[-1])})
    with torch.no_grad(), capture(teacher, names) as seen:
        for frame in src.unbind(1):
            before = states
            _, _, *states = teacher(frame, *before)
    sample: Sample = {}
    for number, chain in enumerate(chains):
        given, target = seen[chain[0]][0], seen[chain[-1]][1]
        arguments = [x for x in given if isinstance(x, Tensor)]
        if None in given:  # a first frame; zeros are the same state
            half = target.shape[1] // 2
            arguments.append(torch.zeros_like(target[:, :half]))
        maps = [*arguments, target]
        if crop and max(target.shape[-2:]) > crop:
            maps = _cut(maps, crop, rng)
        *arguments, sample[str(number)] = maps
        sample |= {f"{number}.{at}": x for at, x in enumerate(arguments)}
    return sample


def _cut(maps: list[Tensor], side: int, rng: Generator) -> list[Tensor]:
    """Cut the same place out of maps, of which some have half of the last one's size.

    The last one's size decides; the place lies on even pixels of it.
    """
    whole = maps[-1].shape[-2:]
    size = [min(side, length) // 2 * 2 for length in whole]
    start = [
        2 * int(rng.integers(0, (length - kept) // 2 + 1))
        for length, kept in zip(whole, size, strict=True)
    ]
    cut = []
    for x in maps:
        step = 1 if x.shape[-2:] == whole else 2
        (top, left), (height, width) = (
            [v // step for v in start],
            [v // step for v in size],
        )
        cut.append(x[..., top : top + height, left : left + width])
    return cut


def block_errors(
    student: MattingNetwork,
    sample: Sample,
    chains: Sequence[Sequence[str]],
    crop: int,
) -> dict[str, Tensor]:
    """Return the error of each chain of blocks on the teacher's input.

    Args:
        student: The network that is trained.
        sample: The result of `block_examples`.
        chains: Names of blocks; see `Phase.blocks`.
        crop: Largest side of a map; what was cut lacks its surroundings, so that a
            margin of it does not count.

    Returns:
        `map_error` of each chain's last block, by its name.
    """
    errors = {}
    for number, chain in enumerate(chains):
        target = sample[str(number)]
        count = sum(key.startswith(f"{number}.") for key in sample)
        arguments = [sample[f"{number}.{at}"] for at in range(count)]
        for name in chain:
            arguments = [run_block(student, name, arguments)]
        out = arguments[0]
        if crop and crop in target.shape[-2:]:
            inside = (..., slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
            out, target = out[inside], target[inside]
        errors[chain[-1]] = map_error(out, target)
    return errors


def run_block(
    network: MattingNetwork, name: str, arguments: Sequence[Tensor]
) -> Tensor:
    """Run a block on one frame per clip and return its first result."""
    block = network.get_submodule(name)
    recurrent = isinstance(block, (BottleneckBlock, UpsamplingBlock))
    out = block(*arguments, 1) if recurrent else block(*arguments)
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first


def encoder_examples(
    student: MattingNetwork, teacher: MattingNetwork, src: Tensor, chain: Sequence[str]
) -> Sample:
    """Compute what the end of the encoder is to learn, fed by the student's beginning.

    The encoder recognises what a picture shows, and costs a fraction of the whole
    network.

    Args:
        student: The network that is trained.
        teacher: A network of the same variant.
        src: (B, T, 3, H, W).
        chain: Names of successive blocks of the encoder and LR-ASPP.

    Returns:
        The input of the first, "x", and the teacher's output of each, by its name.
    """
    frames = src.flatten(0, 1)
    with torch.no_grad(), capture(teacher, list(chain)) as wanted:
        teacher.aspp(teacher.backbone(frames)[-1])
    with torch.no_grad(), capture(student, [chain[0]]) as got:
        student.aspp(student.backbone(frames)[-1])
    return {"x": got[chain[0]][0][0]} | {name: wanted[name][1] for name in chain}


def encoder_errors(
    student: MattingNetwork, sample: Sample, chain: Sequence[str]
) -> dict[str, Tensor]:
    """Return the error of each block of a chain, fed with the one before it.

    Args:
        student: The network that is trained.
        sample: The result of `encoder_examples`.
        chain: Names of successive blocks.

    Returns:
        `map_error` by block.
    """
    x, errors = sample["x"], {}
    for name in chain:
        x = run_block(student, name, [x])
        errors[name] = map_error(x, sample[name])
    return errors


def chains_of(phase: Phase, network: MattingNetwork) -> list[tuple[str, ...]]:
    """Return the chains of blocks that a phase of kind blocks or encoder trains.

    Raises:
        InputError: If a name is no block of the network.
    """
    names = block_names(network)
    if phase.kind == "encoder":
        names = [name for name in names if name.startswith(("backbone.", "aspp"))]
        chain = [name for each in phase.blocks for name in each] or names
        chains = [tuple(chain)]
    else:
        chains = list(phase.blocks) or [(name,) for name in names]
    unknown = [name for chain in chains for name in chain if name not in names]
    if unknown:
        raise InputError(
            f"blocks of phase {phase.name}: {unknown[0]} is no block of this network; "
            f"the blocks are {', '.join(names)}"
        )
    return chains


def grafted(student: MattingNetwork, teacher: MattingNetwork) -> MattingNetwork:
    """Return the student behind the teacher's encoder, with the parameters of both.

    So its decoder can learn from the features that it is to get in the end, while the
    encoder learns in another run; the two are put together afterwards.

    Args:
        student: Network whose decoder, projections and refiner are used.
        teacher: Network of the same variant; encoder and LR-ASPP are used.
    """
    both = copy.copy(student)
    both._modules = dict(student._modules)
    both.backbone, both.aspp = teacher.backbone, teacher.aspp
    return both


def output_terms(
    fgr: Tensor, pha: Tensor, true_fgr: Tensor, true_pha: Tensor
) -> dict[str, Tensor]:
    """Return the terms of foreground and alpha, (B, T, C, H, W) each.

    5 alpha L1 + 2 alpha pyramid + 5 alpha temporal + 3 foreground L1 + 5 foreground
    temporal.
    """
    alpha = alpha_terms(pha, true_pha)
    return {
        "alpha_l1": 5 * alpha["l1"],
        "alpha_pyramid": 2 * alpha["pyramid"],
        "alpha_temporal": 5 * alpha["temporal"],
        "foreground_l1": 3 * F.l1_loss(fgr, true_fgr),
        "foreground_temporal": 5 * temporal_loss(fgr, true_fgr),
    }


def distill_loss(
    student: nn.Module,
    teacher: MattingNetwork,
    batch: dict[str, Tensor],
    ratio: float,
    maps: float,
    more: Loss | None = None,
) -> dict[str, Tensor]:
    """Return the terms whose sum is the error of the student end to end.

    Those of `output_terms`, and the mean `map_error` of the blocks whose maps are as
    wide in both. The bundled weights were trained with these factors.

    Args:
        student: The network that is trained.
        teacher: Network that labels; it gets the full size, the student `ratio` of it.
        batch: `src`, where `known` is 1, the true `pha`, and where `coloured` is 1, the
            true `fgr`.
        ratio: The student's downsample ratio.
        maps: Weight of the maps; they are compared only at ratio 1 and if the
            variants are the same.
        more: Returns terms to add, from foreground, alpha and batch; see `Extras`.
    """
    alike = ratio == 1 and type(student.backbone) is type(teacher.backbone)
    names = block_names(teacher) if maps and alike else []
    with torch.no_grad(), capture(teacher, names) as wanted:
        fgr, pha, *_ = teacher(batch["src"])
    with capture(student, names) as got:
        out_fgr, out_pha, *_ = student(batch["src"], downsample_ratio=ratio)
    known = batch["known"] > 0
    pha = torch.where(known, batch["pha"], pha)
    # The truth has no colours where alpha is 0; the teacher has.
    fgr = torch.where((batch["coloured"] > 0) & (pha > 0), batch["fgr"], fgr)
    terms = output_terms(out_fgr, out_pha, fgr, pha)
    pairs = [(got[name][1], wanted[name][1]) for name in names]
    errors = [map_error(x, y) for x, y in pairs if x.shape == y.shape]
    if errors:
        terms["maps"] = maps * torch.stack(errors).mean()
    return terms | (more(out_fgr, out_pha, batch) if more else {})
