"""The passes of a training step: each maps a sample to the terms of its loss."""

import torch
from torch import Tensor, nn

from rematte.network.matting_network import MattingNetwork
from rematte.train.batches import Sample
from rematte.train.distill import (
    block_errors,
    distill_loss,
    encoder_errors,
    grafted,
)
from rematte.train.losses import matting_loss, segmentation_loss

MAPS = {"blocks": block_errors, "encoder": encoder_errors}  # by kind of phase


class Passes(nn.Module):
    """Computes the losses of a pass; a module, so that DistributedDataParallel fits.

    Args:
        network: The network that is trained.
        teacher: The network that labels pictures, or None.
    """

    def __init__(self, network: MattingNetwork, teacher: MattingNetwork | None) -> None:
        super().__init__()
        self.network = network
        self._teacher = [teacher]  # in a list, so that it is no submodule

    def forward(
        self, name: str, sample: Sample, ratio: float, maps: float
    ) -> dict[str, Tensor]:
        """Return the terms whose sum is the loss of the pass `name`."""
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
