"""Exports to TorchScript for any size, ratio and chunk."""

from pathlib import Path

import torch

from rematte.export.fixed_shape import DTYPES, in_precision, torch_step
from rematte.export.formats import Request, Step
from rematte.network.matting_network import MattingNetwork


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the file."""
    script(network, request).save(str(path))


def script(network: MattingNetwork, request: Request) -> torch.jit.ScriptModule:
    """Compile a network in the requested precision."""
    return torch.jit.script(in_precision(network, request.precision))


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Return a step that runs the file."""
    model = torch.jit.load(str(path), "cpu")
    return torch_step(
        lambda *given: model(*given, ratio), [None] * 4, DTYPES[request.precision]
    )
