"""Exports to TorchScript with constant weights: faster, but of one precision."""

from pathlib import Path

import torch

from rematte.export.formats import Request
from rematte.export.torchscript import open_model, script
from rematte.network.matting_network import MattingNetwork
from rematte.network.parts import folded

__all__ = ["open_model", "write"]


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the file."""
    # Folded in float32: freezing would fold batch norm in half precision.
    torch.jit.freeze(script(folded(network), request)).save(str(path))
