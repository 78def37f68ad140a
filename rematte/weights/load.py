"""Loads trained weights, by name or from a file, as a network ready to run."""

import os
from pathlib import Path
from typing import Any

import torch

from rematte.errors import WeightsError
from rematte.network.matting_network import MattingNetwork
from rematte.weights.checkpoint import (
    build,
    is_torchscript,
    load_torchscript,
    read_state_dict,
)
from rematte.weights.download import resolve

if hasattr(os, "register_at_fork"):
    # A forked process lacks the threads of OpenMP, and would wait for them for ever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def load_model(
    name_or_path: str | Path | None = None,
    variant: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> MattingNetwork:
    """Load a network with its weights, ready to run.

    Args:
        name_or_path: A name of `rematte weights list`, or a file: a state dict (`.pth`,
            `.pt`, `.safetensors`, bare or under "state_dict") or a TorchScript archive.
            The content decides, not the suffix. None means the bundled weights of the
            variant, or "rvm-resnet50" where it is "resnet50".
        variant: "mobilenetv3", "mobilenetv3_fast" or "resnet50" to insist on one; None
            takes what the file holds.
        device: Where the network goes.
        dtype: Floating type of the parameters, whatever the file stores. A
            TorchScript archive keeps its own.

    Returns:
        A `MattingNetwork` in eval mode without gradients, its refiner recognised from
        the file; or, at run time, the TorchScript module as it was saved, which is
        called alike. A TorchScript archive is a program: load only those you trust.

    Raises:
        WeightsError: If the name is unknown, the file is missing, damaged or does not
            fit the network exactly, or a download fails.
        ValueError: If `variant` or `dtype` is not one of those above.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be floating, e.g. torch.float32, got {dtype}")
    path = resolve(name_or_path, variant)
    if is_torchscript(path):
        scripted: Any = load_torchscript(path, variant, device)
        return scripted  # type: ignore[no-any-return]
    network = build(read_state_dict(path), path, variant)
    return network.to(device, dtype).eval().requires_grad_(False)


def load_network(
    name_or_path: str | Path | None = None,
    variant: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> MattingNetwork:
    """Load weights as `load_model` does, and refuse TorchScript archives."""
    model: object = load_model(name_or_path, variant, device, dtype)
    if not isinstance(model, MattingNetwork):
        raise WeightsError(
            f"{name_or_path} is TorchScript; give the state dict it was made of"
        )
    return model
