"""Distillation end to end, from a teacher's outputs and maps. Knows no files."""

import copy

import torch
from torch import Tensor, nn

from rematte.network.matting_network import MattingNetwork
from rematte.train.blocks import block_names, capture
from rematte.train.extras import Loss, Sample
from rematte.train.losses import DISTILLED, map_error, output_terms


def grafted(student: MattingNetwork, teacher: MattingNetwork) -> MattingNetwork:
    """Return the student behind the teacher's encoder, with the parameters of both.

    So its decoder can learn from the features that it is to get in the end, while the
    encoder learns in another run; the two are put together afterwards.
    """
    both = copy.copy(student)
    both._modules = dict(student._modules)
    both.backbone, both.aspp = teacher.backbone, teacher.aspp
    return both


def distill_loss(
    student: nn.Module,
    teacher: MattingNetwork,
    sample: Sample,
    ratio: float,
    maps: float,
    more: Loss | None = None,
) -> dict[str, Tensor]:
    """Return the terms whose sum is the error of the student end to end.

    Those of `output_terms`, and the mean `map_error` of the blocks whose maps are as
    wide in both.

    Args:
        student: The network that is trained.
        teacher: Network that labels; it gets the full size, the student `ratio` of it.
        sample: `src`, where `known` is 1, the true `pha`, and where `coloured` is 1,
            the true `fgr`.
        ratio: The student's downsample ratio.
        maps: Weight of the maps; they are compared only at ratio 1 and if the
            variants are the same.
        more: Returns terms to add, from foreground, alpha and sample; see `Extras`.
    """
    alike = ratio == 1 and type(student.backbone) is type(teacher.backbone)
    names = block_names(teacher) if maps and alike else []
    with torch.no_grad(), capture(teacher, names) as wanted:
        fgr, pha, *_ = teacher(sample["src"])
    with capture(student, names) as got:
        out_fgr, out_pha, *_ = student(sample["src"], downsample_ratio=ratio)
    pha = torch.where(sample["known"] > 0, sample["pha"], pha)
    # The truth has no colours where alpha is 0; the teacher has.
    fgr = torch.where((sample["coloured"] > 0) & (pha > 0), sample["fgr"], fgr)
    terms = output_terms(out_fgr, out_pha, fgr, pha, DISTILLED)
    pairs = [(got[name][1], wanted[name][1]) for name in names]
    errors = [map_error(x, y) for x, y in pairs if x.shape == y.shape]
    if errors:
        terms["maps"] = maps * torch.stack(errors).mean()
    return terms | (more(out_fgr, out_pha, sample) if more else {})
