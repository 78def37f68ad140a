"""TorchScript with its weights made constants: runs faster, stays in its precision."""

from pathlib import Path

import torch

from rematte.export.formats import Request
from rematte.export.torchscript import open_model, script
from rematte.network.matting_network import MattingNetwork
from rematte.network.parts import folded

__all__ = ["open_model", "write"]


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write it."""
    # Freezing folds batch norm too, but in half precision if the weights have it.
    torch.jit.freeze(script(folded(network), request)).save(str(path))
