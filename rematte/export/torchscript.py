"""TorchScript, as `torch.jit.load` takes it: any size, ratio and chunk."""

from pathlib import Path

import torch

from rematte.export.fixed import DTYPES, in_precision
from rematte.export.formats import Floats, Request, States, Step
from rematte.network import MattingNetwork


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write it."""
    script(network, request).save(str(path))


def script(network: MattingNetwork, request: Request) -> torch.jit.ScriptModule:
    """Compile a network in the precision asked for."""
    return torch.jit.script(in_precision(network, request.precision))


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Give a step that runs what was written."""
    model = torch.jit.load(str(path), "cpu")
    dtype = DTYPES[request.precision]

    def step(src: Floats, states: States) -> tuple[Floats, Floats, States]:
        given = [None] * 4 if states is None else [torch.from_numpy(s) for s in states]
        with torch.inference_mode():
            fgr, pha, *after = model(torch.from_numpy(src).to(dtype), *given, ratio)
        return (
            fgr.float().numpy(),
            pha.float().numpy(),
            [state.numpy() for state in after],
        )

    return step
