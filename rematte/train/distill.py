"""Distillation from a teacher: its outputs and, for equal variants, intermediate maps.

Knows no files.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rematte.network.matting_network import MattingNetwork
from rematte.train.losses import alpha_terms, map_error, temporal_loss

Seen = dict[str, tuple[tuple[Any, ...], Tensor]]


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


def block_errors(
    student: MattingNetwork, teacher: MattingNetwork, src: Tensor
) -> dict[str, Tensor]:
    """Return the error of every block of the student on the teacher's input.

    Args:
        student: The network that is trained.
        teacher: A network of the same variant.
        src: (B, T, 3, H, W).

    Returns:
        `map_error` by block.
    """
    names = block_names(student)
    with torch.no_grad(), capture(teacher, names) as seen:
        teacher(src)
    errors = {}
    for name in names:
        arguments, target = seen[name]
        out = student.get_submodule(name)(*arguments)
        errors[name] = map_error(out[0] if isinstance(out, tuple) else out, target)
    return errors


def encoder_errors(
    student: MattingNetwork, teacher: MattingNetwork, src: Tensor
) -> dict[str, Tensor]:
    """Return the error of every block of the student's encoder and LR-ASPP.

    Each block gets the output of the one before. The encoder recognises what a picture
    shows, and costs a fraction of the whole network.

    Args:
        student: The network that is trained.
        teacher: A network of the same variant.
        src: (B, T, 3, H, W).

    Returns:
        `map_error` by block.
    """
    names = [n for n in block_names(student) if n.startswith(("backbone.", "aspp"))]
    frames = src.flatten(0, 1)
    with torch.no_grad(), capture(teacher, names) as wanted:
        teacher.aspp(teacher.backbone(frames)[-1])
    with capture(student, names) as got:
        student.aspp(student.backbone(frames)[-1])
    return {name: map_error(got[name][1], wanted[name][1]) for name in names}


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


def distill_loss(
    student: nn.Module,
    teacher: MattingNetwork,
    batch: dict[str, Tensor],
    ratio: float,
    maps: float,
) -> dict[str, Tensor]:
    """Return the terms whose sum is the error of the student end to end.

    5 alpha L1 + 2 alpha pyramid + 5 alpha temporal + 3 foreground L1 + 5 foreground
    temporal, and the mean `map_error` of all blocks. The bundled weights
    were trained with these factors.

    Args:
        student: The network that is trained.
        teacher: Network that labels; it gets the full size, the student `ratio` of it.
        batch: `src`, and where `known` is 1, the true `fgr` and `pha`.
        ratio: The student's downsample ratio.
        maps: Weight of the maps; they are compared only at ratio 1 and if the
            variants are the same.
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
    fgr = torch.where(known & (pha > 0), batch["fgr"], fgr)
    alpha = alpha_terms(out_pha, pha)
    terms = {
        "alpha_l1": 5 * alpha["l1"],
        "alpha_pyramid": 2 * alpha["pyramid"],
        "alpha_temporal": 5 * alpha["temporal"],
        "foreground_l1": 3 * F.l1_loss(out_fgr, fgr),
        "foreground_temporal": 5 * temporal_loss(out_fgr, fgr),
    }
    if names:
        errors = [map_error(got[name][1], wanted[name][1]) for name in names]
        terms["maps"] = maps * torch.stack(errors).mean()
    return terms
