"""Chooses the device to compute on."""

import ctypes
import platform
from importlib.util import find_spec


def choose_device(name: str = "auto") -> tuple[str, str]:
    """Turn a name into an available device.

    torch is imported only if there may be a GPU for it.

    Args:
        name: "auto" (CUDA, else Apple's MPS, else the CPU), "cpu", "cuda", "cuda:N"
            or "mps".

    Returns:
        The device's name, and the reason for it in words.

    Raises:
        ValueError: If the name is unknown, or the device is not available.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if kind == "auto":
        return _best()
    if kind != "cpu" and find_spec("torch") is None:
        raise ValueError(
            f"device {name} needs torch: pip install 'rematte[torch]'; or use cpu"
        )
    if kind != "cpu":
        import torch

        if kind == "cuda" and int(index or 0) >= (count := torch.cuda.device_count()):
            raise ValueError(
                f"device {name}: torch sees {count} CUDA GPUs; use auto or cpu, or "
                "install a CUDA build of torch"
            )
        if kind == "mps" and not torch.backends.mps.is_available():
            raise ValueError("device mps: torch sees no Apple GPU; use auto or cpu")
    return name, "as asked"


def _best() -> tuple[str, str]:
    if not _may_have_gpu():
        return "cpu", "no CUDA or Apple GPU"
    if find_spec("torch") is None:
        return "cpu", "a GPU needs torch: pip install 'rematte[torch]'"
    import torch

    if torch.cuda.is_available():
        return "cuda", torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        return "mps", "Apple GPU"
    return "cpu", "no CUDA or Apple GPU that torch can use"


def _may_have_gpu() -> bool:
    """Whether NVIDIA's driver is installed, or this is an Apple processor."""
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    windows = platform.system() == "Windows"
    try:
        ctypes.CDLL("nvcuda.dll" if windows else "libcuda.so.1")
    except OSError:
        return False
    return True
