"""The passes of a training step: what each kind of phase computes from a sample."""

import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from rematte.network.matting_network import MattingNetwork
from rematte.train.batches import Sample
from rematte.train.distill import (
    block_errors,
    block_examples,
    chains_of,
    distill_loss,
    encoder_errors,
    encoder_examples,
    grafted,
)
from rematte.train.edges import (
    ENDS,
    end_errors,
    end_examples,
    filter_errors,
    filter_examples,
    last_map,
)
from rematte.train.extras import Loss
from rematte.train.losses import matting_loss, segmentation_loss
from rematte.train.recipe import Phase
from rematte.train.sequences import BLOCKS, sequence_errors, sequence_examples

# Kinds of phases whose maps are computed before the step, and may be computed once.
PREPARED = ("blocks", "encoder", "edges", "sequences", "filter", "segmentation")


class Passes(nn.Module):
    """Computes the losses of a pass; a module, so that DistributedDataParallel fits.

    Args:
        network: The network that is trained.
        teacher: The network that labels pictures, or None.
        phase: Settings of the phase.
        loss: Terms that are added to those of matting and distill phases, or None;
            see `Extras`.
    """

    def __init__(
        self,
        network: MattingNetwork,
        teacher: MattingNetwork | None,
        phase: Phase,
        loss: Loss | None = None,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.network = network
        self.phase = phase
        self._teacher = [teacher]  # in a list, so that it is no submodule
        fed = phase.kind in ("blocks", "encoder")
        self.chains = chains_of(phase, network) if fed else []

    def learning(self) -> list[str]:
        """Return the names of the modules that learn; all if there are none."""
        if self.phase.kind in ("blocks", "encoder"):
            return [name for chain in self.chains for name in chain]
        kinds = {
            "edges": list(ENDS), "filter": ["refiner"], "segmentation": ["project_seg"],
            "sequences": [name for chain in self.phase.blocks for name in chain]
            or list(BLOCKS),
        }  # fmt: skip
        return kinds.get(self.phase.kind, [])

    def prepare(self, sample: Sample, rng: Generator) -> Sample | None:
        """Compute the maps that a phase of one of the kinds in `PREPARED` learns from.

        Args:
            sample: A batch of samples; of one in phases of crops.
            rng: Random generator for the places of crops.

        Returns:
            The maps; None if the sample has nothing to teach.
        """
        phase, network, (teacher,) = self.phase, self.network, self._teacher
        if phase.kind == "segmentation":
            with torch.no_grad():
                hidden = last_map(network, sample["src"])
            # Neighbours are nearly alike, so one in four each way will do.
            few = {"hidden": hidden, "mask": sample["mask"][:, -1]}
            return {name: value[..., ::4, ::4] for name, value in few.items()}
        assert teacher is not None
        if phase.kind == "blocks":
            src = sample["src"]
            return block_examples(teacher, src, self.chains, phase.crop, rng)
        if phase.kind == "encoder":
            return encoder_examples(network, teacher, sample["src"], self.chains[0])
        if phase.kind == "edges":
            return end_examples(network, teacher, sample, phase.crop, rng)
        if phase.kind == "sequences":
            return sequence_examples(teacher, sample["src"], phase.crop, rng)
        ratio = phase.ratio[int(rng.integers(2))]
        return filter_examples(network, teacher, sample, phase.crop, ratio, rng)

    def forward(self, name: str, sample: Sample, ratio: float) -> dict[str, Tensor]:
        """Return the terms whose sum is the loss of the pass `name`."""
        phase, (teacher,) = self.phase, self._teacher
        if name == "blocks":
            errors = block_errors(self.network, sample, self.chains, phase.crop)
            return {"blocks": torch.stack(list(errors.values())).mean()}
        if name == "encoder":
            found = encoder_errors(self.network, sample, self.chains[0]).values()
            # The decoder gets the last map; the others mostly help it.
            return {"encoder": torch.stack(list(found)).mean() + list(found)[-1]}
        if name == "edges":
            return end_errors(self.network, sample)
        if name == "sequences":
            return sequence_errors(self.network, sample)
        if name == "filter":
            return filter_errors(self.network, sample)
        if teacher is not None and name == "decoder":
            student = grafted(self.network, teacher)
            return distill_loss(student, teacher, sample, ratio, phase.maps, self.loss)
        if teacher is not None and name == "distill":
            student = self.network
            return distill_loss(student, teacher, sample, ratio, phase.maps, self.loss)
        if name == "segmentation" and "hidden" in sample:
            logits = self.network.project_seg(sample["hidden"])
            loss = F.binary_cross_entropy_with_logits(logits, sample["mask"])
            return {"segmentation": loss}
        src = sample["src"]
        if name == "segmentation":
            seg = self.network(src, segmentation_pass=True).seg
            return {"segmentation": segmentation_loss(seg.float(), sample["mask"])}
        fgr, pha, *_ = self.network(src, downsample_ratio=ratio)
        more = self.loss(fgr.float(), pha.float(), sample) if self.loss else {}
        truth = sample["fgr"], sample["pha"]
        return matting_loss(fgr.float(), pha.float(), *truth) | more
