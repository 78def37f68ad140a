"""Exports with `torch.export`: one ratio, any size, states in full shape."""

from pathlib import Path

import torch
from torch import Tensor, nn

from rematte.export.fixed_shape import DTYPES, first_inputs, in_precision, torch_step
from rematte.export.formats import Request, Step
from rematte.network.matting_network import MattingNetwork


class _FixedRatio(nn.Module):
    """One recurrent step at a fixed ratio, with the network's parameters."""

    def __init__(self, network: MattingNetwork, ratio: float) -> None:
        super().__init__()
        self.network = network
        self.ratio = ratio

    def forward(
        self, src: Tensor, r1: Tensor, r2: Tensor, r3: Tensor, r4: Tensor
    ) -> tuple[Tensor, ...]:
        # A plain tuple: `torch.export` does not save named ones.
        return tuple(self.network(src, r1, r2, r3, r4, self.ratio))


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the file."""
    size, ratio = request.fixed
    network = in_precision(network, request.precision)
    inputs = first_inputs(network, size, ratio)
    # Two clips: torch would make a batch of one a constant.
    inputs = tuple(tensor.repeat(2, 1, 1, 1) for tensor in inputs)
    free = torch.export.Dim.DYNAMIC
    sizes = {0: free, 2: free, 3: free}
    step = _FixedRatio(network, ratio)
    program = torch.export.export(step, inputs, dynamic_shapes=(sizes,) * 5)
    torch.export.save(program, path)


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Return a step that runs the file."""
    program = torch.export.load(path)
    zeros = [state[:1] for state in program.example_inputs[0][1:]]
    return torch_step(program.module(), zeros, DTYPES[request.precision])
