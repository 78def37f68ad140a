"""A network, an augmentation or a loss of your own, given to `train` in Python."""

from collections.abc import Callable
from dataclasses import dataclass

from numpy.random import Generator
from torch import Tensor

from rematte.network.matting_network import MattingNetwork

Sample = dict[str, Tensor]
Terms = dict[str, Tensor]  # terms of a loss, which are added up
Loss = Callable[[Tensor, Tensor, Sample], Terms]


@dataclass(frozen=True)
class Extras:
    """Functions that a caller gives to a training run in addition to the recipe.

    A resumed run must be given the same. Functions that workers run must be defined at
    the top level of a module where processes are not forked, as on Windows and macOS.

    Attributes:
        network: Makes the network, in place of `model.variant` and `model.start`, with
            the parts of `MattingNetwork`: `backbone`, `aspp`, `decoder`,
            `project_mat`, `project_seg` and `refiner`.
        augment: Gets each sample and a random generator, and returns the sample to
            train on. Tensors are (T, C, H, W) in [0, 1]: `src`, and by kind of phase
            `fgr`, `pha` and `mask`.
        loss: Gets foreground and alpha, (B, T, C, H, W), and the sample, and returns
            terms to add to the loss of matting and distill phases, by name.
    """

    network: Callable[[], MattingNetwork] | None = None
    augment: Callable[[Sample, Generator], Sample] | None = None
    loss: Loss | None = None
