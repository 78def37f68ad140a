"""The passes of a training step: what each kind of phase computes from a sample.

Most kinds have two functions in a file of their own. `..._examples(student, teacher,
sample, phase, rng)` computes inputs and targets of the trained part before the step,
without gradients; None if the sample is of no use. `..._errors(student, sample, phase)`
returns the terms of the loss on such maps.
"""

from collections.abc import Callable
from typing import Any

import torch
from numpy.random import Generator
from torch import nn
from torch.nn import functional as F

from rematte.network.matting_network import MattingNetwork
from rematte.train import blocks, edges, filter
from rematte.train.extras import Loss, Sample, Terms
from rematte.train.losses import DISTILLED, map_error, matting_loss, output_terms
from rematte.train.recipe import Phase


def _segmentation_examples(
    student: MattingNetwork, teacher: None, sample: Sample, phase: Phase, rng: Generator
) -> Sample:
    hidden, mask = filter.last_map(student, sample["src"]), sample["mask"][:, -1]
    # Neighbours are nearly alike, so one in four per axis is enough.
    return {"hidden": hidden[..., ::4, ::4], "mask": mask[..., ::4, ::4]}


def _segmentation_errors(
    student: MattingNetwork, sample: Sample, phase: Phase
) -> Terms:
    logits = student.project_seg(sample["hidden"])
    return {phase.kind: F.binary_cross_entropy_with_logits(logits, sample["mask"])}


# Kinds of phases whose maps are computed before the step, and may be computed once.
PREPARED: dict[str, tuple[Callable[..., Sample | None], Callable[..., Sample]]] = {
    "blocks": (blocks.block_examples, blocks.block_loss),
    "encoder": (blocks.encoder_examples, blocks.block_loss),
    "edges": (edges.end_examples, edges.end_errors),
    "sequences": (edges.sequence_examples, edges.sequence_errors),
    "filter": (filter.filter_examples, filter.filter_errors),
    "segmentation": (_segmentation_examples, _segmentation_errors),
}


class Passes(nn.Module):
    """Computes the losses of a pass; a module, as DistributedDataParallel requires.

    `network` is trained, and `teacher` labels pictures. `loss` gives terms that are
    added to those of matting and distill phases; see `Extras`.
    """

    teacher: Any

    def __init__(
        self, network: MattingNetwork, teacher: MattingNetwork | None, phase: Phase,
        loss: Loss | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.phase, self.loss = network, phase, loss
        vars(self)["teacher"] = teacher  # bypasses torch, so that it is no submodule

    def learning(self) -> list[str]:
        """Return the names of the modules that learn; all if there are none."""
        chains: dict[str, Any] = {
            "edges": [edges.ENDS],
            "sequences": self.phase.blocks or [edges.BLOCKS],
            "filter": [["refiner"]],
            "segmentation": [["project_seg"]],
        }
        if self.phase.kind in ("blocks", "encoder"):
            chains[self.phase.kind] = blocks.chains_of(self.phase, self.network)
        return [name for chain in chains.get(self.phase.kind, []) for name in chain]

    @torch.no_grad()
    def prepare(self, sample: Sample, rng: Generator) -> Sample | None:
        """Compute the maps that a phase of one of the kinds in `PREPARED` learns from.

        `sample` is a batch; in phases of crops it has one clip, and `rng` draws the
        positions. The result is None if the sample is of no use.
        """
        examples, _ = PREPARED[self.phase.kind]
        return examples(self.network, self.teacher, sample, self.phase, rng)

    def forward(self, name: str, sample: Sample, ratio: float) -> Terms:
        """Return the terms whose sum is the loss of the pass `name`."""
        network, phase = self.network, self.phase
        if phase.kind in PREPARED:
            _, errors = PREPARED[phase.kind]
            return errors(network, sample, phase)
        if name == "distill":
            return self._distill(sample, ratio)
        if name == "segmentation":
            seg = network(sample["src"], segmentation_pass=True).seg.float()
            return {name: F.binary_cross_entropy_with_logits(seg, sample["mask"])}
        fgr, pha, *_ = network(sample["src"], downsample_ratio=ratio)
        fgr, pha = fgr.float(), pha.float()
        terms = matting_loss(fgr, pha, sample["fgr"], sample["pha"])
        return terms | (self.loss(fgr, pha, sample) if self.loss else {})

    def _distill(self, sample: Sample, ratio: float) -> Terms:
        """Return the terms of the network's error against the teacher, end to end.

        They are `output_terms` and, at ratio 1 in networks of one kind, the mean
        `map_error` of blocks of equal width. The teacher sees the full size. The target
        is the sample's `pha` where `known` is 1, and its `fgr` where `coloured` is 1.
        """
        student, teacher, maps = self.network, self.teacher, self.phase.maps
        alike = ratio == 1 and type(student.backbone) is type(teacher.backbone)
        names = blocks.block_names(teacher) if maps and alike else []
        with torch.no_grad(), blocks.capture(teacher, names) as wanted:
            fgr, pha, *_ = teacher(sample["src"])
        with blocks.capture(student, names) as got:
            out_fgr, out_pha, *_ = student(sample["src"], downsample_ratio=ratio)
        pha = torch.where(sample["known"] > 0, sample["pha"], pha)
        # The truth has no colours where alpha is 0, but the teacher has.
        fgr = torch.where((sample["coloured"] > 0) & (pha > 0), sample["fgr"], fgr)
        terms = output_terms(out_fgr, out_pha, fgr, pha, DISTILLED)
        pairs = [(got[name][1], wanted[name][1]) for name in names]
        errors = [map_error(x, y) for x, y in pairs if x.shape == y.shape]
        if errors:
            terms["maps"] = maps * torch.stack(errors).mean()
        return terms | (self.loss(out_fgr, out_pha, sample) if self.loss else {})
