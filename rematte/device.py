"""Chooses the device to compute on, and says why."""

import torch


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
