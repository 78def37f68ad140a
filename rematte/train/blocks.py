"""Trains blocks one by one on the inputs and outputs of a teacher's blocks."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor, nn

from rematte.errors import InputError
from rematte.network.matting_network import MattingNetwork
from rematte.train.extras import Sample, Terms
from rematte.train.losses import map_error
from rematte.train.recipe import Phase

Seen = dict[str, tuple[Sequence[Any], Tensor]]
_MARGIN = 4  # receptive field of a block on each side [pixels]


def block_names(network: MattingNetwork) -> list[str]:
    """Return the names of the blocks that are matched separately, in order."""
    names = []
    for name, child in network.backbone.named_children():
        # `features` of MobileNetV3 and the layers of ResNet are rows of blocks.
        row = range(len(child)) if isinstance(child, nn.Sequential) else ()
        names += [f"backbone.{name}.{at}" for at in row] or [f"backbone.{name}"]
    decoder = [f"decoder.decode{level}" for level in (4, 3, 2, 1, 0)]
    return [*names, "aspp", *decoder, "project_mat"]


def chains_of(phase: Phase, network: MattingNetwork) -> list[tuple[str, ...]]:
    """Return the chains of blocks that a phase of kind blocks or encoder trains."""
    names = block_names(network)
    if phase.kind == "encoder":
        names = [name for name in names if name.startswith(("backbone.", "aspp"))]
    chains = list(phase.blocks) or [(name,) for name in names]
    chosen = [name for chain in chains for name in chain]
    for name in chosen:
        if name not in names:
            raise InputError(
                f"blocks of phase {phase.name}: {name} is not a block of this network; "
                f"the blocks are {', '.join(names)}"
            )
    return [tuple(chosen)] if phase.kind == "encoder" else chains


@contextmanager
def capture(network: nn.Module, names: Sequence[str]) -> Iterator[Seen]:
    """Record the arguments and first result of blocks, by name, in a forward pass."""
    seen: Seen = {}

    def record(name: str, _: nn.Module, arguments: tuple[Any, ...], out: Any) -> None:
        seen[name] = arguments, out[0] if isinstance(out, tuple) else out

    with ExitStack() as hooks:
        for name in names:
            block, hook = network.get_submodule(name), partial(record, name)
            hooks.enter_context(block.register_forward_hook(hook))
        yield seen


def last_frame(network: MattingNetwork, src: Tensor, names: Sequence[str]) -> Seen:
    """Run clips (B, T, 3, H, W), and record tensors of blocks in the last frame.

    States are those before that frame, and do not depend on the student.
    """
    states: list[Tensor | None] = [None] * 4
    with capture(network, names) as seen:
        for frame in src.unbind(1):
            _, _, *states = network(frame, *states)
    for name, (arguments, out) in seen.items():
        given = [x for x in arguments if isinstance(x, Tensor)]
        if None in arguments:  # no state before the first frame; zeros are equivalent
            gru: Any = network.get_submodule(f"{name}.gru")
            given.append(torch.zeros_like(out[:, : gru.channels]))
        seen[name] = given, out
    return seen


def block_examples(
    student: MattingNetwork, teacher: MattingNetwork, sample: Sample, phase: Phase,
    rng: Generator,
) -> Sample:  # fmt: skip
    """Compute inputs and targets of chains of blocks in the last frame of clips.

    The arguments of a chain are named "NUMBER.POSITION", its targets "NUMBER.NAME".
    """
    chains = chains_of(phase, student)
    names = sorted({name for chain in chains for name in (chain[0], chain[-1])})
    seen = last_frame(teacher, sample["src"], names)
    found: Sample = {}
    for number, chain in enumerate(chains):
        maps = [*seen[chain[0]][0], seen[chain[-1]][1]]
        whole, side = maps[-1].shape[-2:], phase.crop // 2 * 2
        if side and max(whole) > side:
            # At even pixels, since some of the maps are half as large.
            at = [2 * int(rng.integers(0, max(0, s - side) // 2 + 1)) for s in whole]
            maps = [cut(x, whole, at, side, 2) for x in maps]
        *arguments, found[f"{number}.{chain[-1]}"] = maps
        found |= {f"{number}.{at}": x for at, x in enumerate(arguments)}
    return found


def cut(
    x: Tensor, whole: Sequence[int], at: Sequence[int], side: int, most: int
) -> Tensor:
    """Crop a square from a map (..., H / step, W / step), clipped to its borders.

    Position and side are in pixels of the `whole` (H, W); `most` is the largest step.
    """
    step = min(most, round(whole[1] / x.shape[-1]))
    top, left = (place // step for place in at)
    return x[..., top : top + side // step, left : left + side // step]


def encoder_examples(
    student: MattingNetwork, teacher: MattingNetwork, sample: Sample, phase: Phase,
    rng: Generator,
) -> Sample:  # fmt: skip
    """Compute inputs and targets of the encoder's last blocks.

    They are the student's input of the first of these blocks, "0.0", and the teacher's
    output of each, "0.NAME". The encoder costs only a fraction of the network.
    """
    (chain,) = chains_of(phase, student)
    with capture(teacher, chain) as wanted, capture(student, chain[:1]) as got:
        for network in (teacher, student):
            network.aspp(network.backbone(sample["src"].flatten(0, 1))[-1])
    return {"0.0": got[chain[0]][0][0]} | {f"0.{n}": wanted[n][1] for n in chain}


def inside(x: Tensor, margin: int) -> Tensor:
    """Remove the margin of a crop (..., H, W), where its surroundings are missing."""
    return x[..., margin:-margin, margin:-margin]


def block_errors(student: MattingNetwork, sample: Sample, phase: Phase) -> Terms:
    """Return `map_error` of each block that has a target, by its name.

    A chain's first block gets the prepared maps, the others the previous output.
    """
    errors = {}
    for number, chain in enumerate(chains_of(phase, student)):
        keys = [f"{number}.{at}" for at in range(len(sample))]
        x = [sample[key] for key in keys if key in sample]
        for name in chain:
            block = student.get_submodule(name)
            out = block(*x, 1) if hasattr(block, "gru") else block(*x)
            x = [out[0] if isinstance(out, tuple) else out]
            target = sample.get(f"{number}.{name}")
            if target is not None:
                cut = phase.crop and phase.crop in target.shape[-2:]
                pair = (inside(each, _MARGIN) if cut else each for each in (*x, target))
                errors[name] = map_error(*pair)
    return errors


def block_loss(student: MattingNetwork, sample: Sample, phase: Phase) -> Terms:
    """Return the mean of `block_errors`."""
    errors = list(block_errors(student, sample, phase).values())
    loss = torch.stack(errors).mean()
    # The decoder gets the encoder's last map; the others mostly help it.
    return {phase.kind: loss + errors[-1] if phase.kind == "encoder" else loss}
