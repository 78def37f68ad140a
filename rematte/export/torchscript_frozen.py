"""TorchScript with its weights made constants: runs faster, stays in its precision."""

from pathlib import Path

import torch

from rematte.export.formats import Request
from rematte.export.torchscript import open_model, script
from rematte.network import MattingNetwork

__all__ = ["open_model", "write"]


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write it."""
    torch.jit.freeze(script(network, request)).save(str(path))
