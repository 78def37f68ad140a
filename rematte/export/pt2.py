"""Exports with `torch.export`: one ratio, any size, states in full shape."""

from pathlib import Path

import torch

from rematte.export.fixed_shape import (
    DTYPES,
    Fixed,
    first_inputs,
    in_precision,
    torch_step,
)
from rematte.export.formats import Request, Step
from rematte.network.matting_network import MattingNetwork


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the file."""
    size, ratio = request.fixed
    network = in_precision(network, request.precision)
    inputs = first_inputs(network, size, ratio)
    # Two clips: torch would make a batch of one a constant.
    inputs = tuple(tensor.repeat(2, 1, 1, 1) for tensor in inputs)
    free = torch.export.Dim.DYNAMIC
    sizes = {0: free, 2: free, 3: free}
    program = torch.export.export(
        Fixed(network, ratio), inputs, dynamic_shapes=(sizes,) * 5
    )
    torch.export.save(program, path)


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Return a step that runs the file."""
    program = torch.export.load(path)
    zeros = [state[:1] for state in program.example_inputs[0][1:]]
    return torch_step(program.module(), zeros, DTYPES[request.precision])
