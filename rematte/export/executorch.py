"""Exports to ExecuTorch with XNNPACK (.pte) for phones: one size and ratio."""

from pathlib import Path
from typing import Any

import torch

from rematte.export.fixed_shape import (
    FixedSize,
    exported,
    first_inputs,
    quiet,
    torch_step,
)
from rematte.export.formats import Request, Step
from rematte.network.matting_network import MattingNetwork


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the file."""
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
            XnnpackPartitioner,
        )
        from executorch.exir import to_edge_transform_and_lower

    size, ratio = request.fixed
    inputs = first_inputs(network, size, ratio)
    program = exported(FixedSize(network, size, ratio, samples="gather"), inputs)
    with quiet():
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(edge.to_executorch().buffer)


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Return a step that runs the file."""
    with quiet():
        from executorch.runtime import Runtime

    method: Any = Runtime.get().load_program(path).load_method("forward")
    info = method.metadata
    shapes = [info.input_tensor_meta(n).sizes() for n in range(1, 5)]

    def run(src: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = method.execute([src.contiguous(), *states])
        return tuple(each.clone() for each in found)  # the next run overwrites them

    return torch_step(run, [torch.zeros(shape) for shape in shapes])
