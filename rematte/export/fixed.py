"""The network at a fixed ratio, as most exporters want it."""

import copy

import torch
from torch import Tensor, nn

from rematte.network import MattingNetwork

DTYPES = {"float32": torch.float32, "float16": torch.float16}


class Fixed(nn.Module):
    """One recurrent step at a fixed ratio.

    Args:
        network: Whose parameters it shares.
        ratio: The downsample ratio.
    """

    def __init__(self, network: MattingNetwork, ratio: float) -> None:
        super().__init__()
        self.network = network
        self.ratio = ratio

    def forward(
        self, src: Tensor, r1: Tensor, r2: Tensor, r3: Tensor, r4: Tensor
    ) -> tuple[Tensor, ...]:
        """Run one step; see `MattingNetwork.forward`."""
        # A plain tuple: `torch.export` does not save named ones.
        return tuple(self.network(src, r1, r2, r3, r4, self.ratio))


def in_precision(network: MattingNetwork, precision: str) -> MattingNetwork:
    """A copy of a network in another precision, for inference."""
    return copy.deepcopy(network).eval().to(DTYPES[precision])


def first_inputs(
    network: MattingNetwork, size: tuple[int, int], ratio: float
) -> tuple[Tensor, ...]:
    """A black frame and states of zeros, of the shapes and type that a step takes.

    Args:
        network: For one clip at a time.
        size: Height and width [pixels].
        ratio: The downsample ratio.
    """
    dtype = next(network.parameters()).dtype
    src = torch.zeros(1, 3, *size, dtype=dtype)
    with torch.inference_mode():
        _, _, *states = network(src, downsample_ratio=ratio)
    return src, *(torch.zeros(state.shape, dtype=dtype) for state in states)
