"""Chooses what runs a model: an engine for a CPU, a CUDA graph, or the model itself."""

import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch

from rematte.engines.cuda_graph import RecordedNetwork
from rematte.engines.engine import Engine, State
from rematte.engines.module import ModuleEngine
from rematte.engines.openvino import OpenVINOEngine
from rematte.engines.runtimes import package_versions, processor
from rematte.engines.torch_cpu import TorchEngine
from rematte.network.matting_network import MattingNetwork
from rematte.video.frame import Frame
from rematte.weights.registry import download_dir

# What runs a float32 `MattingNetwork` on a CPU, and what "auto" compares.
_COMPARED = ("torch", "openvino", "openvino-float32")
CPU_ENGINES = (*_COMPARED, "plain")
# ONNX Runtime was an engine; its name is still accepted.
ENGINES = ("auto", *CPU_ENGINES, "torch-compiled", "onnxruntime")

# On a CPU more frames at once are slower, since they no longer fit into its caches.
_AUTO_CHUNK = {"cpu": 1, "cuda": 1, "mps": 4}

# Below this many frames nothing that has to be built would pay: building takes 0.8 s
# and saves 0.1 s a frame at HD. At first, converting and measuring takes 11 s.
_LONG, _LONG_AT_FIRST = 20, 150
_MEASURED = 6  # steps


def choose_engine(
    model: Any,
    device: torch.device,
    dtype: torch.dtype,
    *,
    engine: str = "auto",
    size: tuple[int, int] | None = None,
    ratio: float = 1.0,
    frames: int | None = None,
    chunk: int = 1,
    report: Callable[[str], object] = warnings.warn,
) -> Engine:
    """Choose and make the engine that runs a model.

    Args:
        model: Anything called like `MattingNetwork`.
        device: Where the model is.
        dtype: The model's precision.
        engine: One of `ENGINES`.
        size: Height and width of the frames [pixels]; needed for "auto" on a CPU, which
            measures the engines at this size. Windows within them cost about as much.
        ratio: Size of the coarse pass in (0, 1].
        frames: How many frames there will be, as far as is known.
        chunk: How many frames a model that is called as a whole sees at once.
        report: Called with a sentence when too little memory halves the chunk.

    Raises:
        ValueError: If there is no such engine, it cannot run this model, or its
            packages are not installed.
    """
    started = time.perf_counter()
    kind = _kind(model, device, dtype, engine)
    if kind == "graph":
        recorded = RecordedNetwork(model, engine == "torch-compiled")
        graph = ModuleEngine(recorded, device, dtype, 1, report)
        graph.name = "torch" if engine == "auto" else engine
        graph.reason = "a CUDA graph"
        return graph
    if kind == "whole":
        return ModuleEngine(model, device, dtype, chunk, report)
    reason = ""
    if engine in ("auto", "onnxruntime"):
        retired = "" if engine == "auto" else "onnxruntime is no longer an engine; "
        engine, reason = _fastest(model, size, ratio, frames)
        reason = retired + reason
    made = make_engine(engine, model)
    made.reason = reason
    made.setup = time.perf_counter() - started
    return made


def runs_whole(
    model: Any, device: torch.device, dtype: torch.dtype, engine: str
) -> bool:
    """Find whether `choose_engine` would call a model as a whole, in chunks."""
    return _kind(model, device, dtype, engine) == "whole"


def _kind(
    model: Any, device: torch.device, dtype: torch.dtype, engine: str
) -> Literal["cpu", "graph", "whole"]:
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    ours = isinstance(model, MattingNetwork)
    recorded = engine in ("auto", "torch", "torch-compiled")
    if ours and device.type == "cuda" and recorded:
        return "graph"
    if engine == "torch-compiled":
        raise ValueError(
            f"engine torch-compiled runs a MattingNetwork on a CUDA GPU only, and this "
            f"is {type(model).__name__}, {device}; leave engine (--engine) out"
        )
    fits = ours and device.type == "cpu" and dtype == torch.float32
    if not fits and engine not in ("auto", "torch", "plain"):
        raise ValueError(
            f"engine {engine} runs a float32 MattingNetwork on a CPU only, and this is "
            f"{type(model).__name__}, {device}, {dtype}; leave engine (--engine) out"
        )
    return "cpu" if fits and engine != "plain" else "whole"


def describe_engine(engine: Engine) -> str:
    """Give an engine's name, and the reason for it in brackets where there is one."""
    return f"{engine.name} ({engine.reason})" if engine.reason else engine.name


def installed() -> dict[str, bool]:
    """Give the names of the CPU engines, and whether their packages are installed."""
    return {
        name: name == "torch" or find_spec("openvino") is not None for name in _COMPARED
    }


def make_engine(name: str, network: MattingNetwork) -> Engine:
    """Make one of the `installed` engines for a float32 network on the CPU.

    Raises:
        ValueError: If its packages are not installed.
    """
    if name == "torch":
        return TorchEngine(network)
    if not installed()[name]:
        raise ValueError(
            f"engine {name} needs openvino: pip install 'rematte[openvino]', or use "
            "--engine torch"
        )
    return OpenVINOEngine(network, mixed=name == "openvino")


def _fastest(
    network: MattingNetwork,
    size: tuple[int, int] | None,
    ratio: float,
    frames: int | None,
) -> tuple[str, str]:
    """Find the name of the engine that is fastest here, and say why it is taken.

    Each one that is installed runs a few steps; the result is saved in a file for the
    next time. A short video gets torch, which needs no building.
    """
    names = [name for name, there in installed().items() if there]
    if len(names) == 1:
        return "torch", "no other is installed"
    if size is None:
        raise ValueError("engine auto needs the size of the frames")
    path = download_dir() / "engines.json"
    key = _situation(network, size, ratio, names)
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        known = {}
    # Without a count it is a long one, such as a camera.
    least = _LONG if known.get(key) in names else _LONG_AT_FIRST
    if frames is not None and frames < least:
        return "torch", f"fewer than {least} frames"
    if known.get(key) in names:
        return known[key], "measured before"
    seconds = {
        name: _measure(make_engine(name, network), size, ratio) for name in names
    }
    best = min(seconds, key=lambda name: seconds[name])
    try:  # a cache: where it cannot be written, the next run measures again
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_text(json.dumps(known | {key: best}, indent=1), "utf-8")
        part.replace(path)
    except OSError:
        pass
    measured = (f"{name} {seconds[name] * 1e3:.0f} ms" for name in names)
    return best, f"fastest of {', '.join(measured)}"


def _measure(engine: Engine, size: tuple[int, int], ratio: float) -> float:
    """Time the shortest of a few steps [s], after two that build and warm up."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    engine.prepare(pixels.shape, ratio)
    state: State = None
    seconds = []
    for index in range(2 + _MEASURED):
        started = time.perf_counter()
        _, state = engine.step([Frame(pixels, index, 1)], state)  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - started)
    return min(seconds[2:])


def _situation(
    network: MattingNetwork, size: tuple[int, int], ratio: float, names: list[str]
) -> str:
    """Give all that the speed of engines depends on, as a key."""
    there = package_versions(("torch", "openvino"))
    versions = [" ".join(item) for item in there.items()]
    height, width = int(size[0] * ratio), int(size[1] * ratio)
    parts = [
        platform.machine(), processor(), f"{torch.get_num_threads()} threads",
        *versions, type(network.backbone).__name__, f"{width}x{height}",
        "coarse" if ratio == 1 else "refined", *names,
    ]  # fmt: skip
    return ", ".join(parts)


def placement(
    model: Any, device: str | torch.device | None, dtype: torch.dtype | None
) -> tuple[torch.device, torch.dtype]:
    """Find where a model is and its precision, unless they are given.

    Raises:
        ValueError: If they are neither given nor known, or not the model's.
    """
    parameter = next(iter(model.parameters()), None)
    if parameter is not None:
        device = parameter.device if device is None else device
        dtype = dtype or parameter.dtype
    if device is None or dtype is None:
        raise ValueError(
            "device and dtype must be given for a frozen model, which has no "
            "parameters to tell them by; for example device='cpu', dtype=torch.float32"
        )
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is none that torch knows") from error
    if parameter is not None:
        _check_model(model, parameter, device, dtype)
    return device, dtype


def _check_model(
    model: Any, parameter: torch.Tensor, device: torch.device, dtype: torch.dtype
) -> None:
    if isinstance(model, torch.nn.Module) and model.training:
        raise ValueError(
            "model is in training mode, where batch norm gives other results; "
            "call model.eval() first"
        )
    if dtype != parameter.dtype:
        raise ValueError(
            f"dtype is {dtype}, but the model's is {parameter.dtype}; leave dtype "
            "out, or convert the model with model.to(dtype)"
        )
    if device.type != parameter.device.type:
        raise ValueError(
            f"device is {device}, but the model is on {parameter.device}; leave "
            "device out, or move the model with model.to(device)"
        )


def chunk_length(seq_chunk: int | str, device: torch.device) -> int:
    """Turn "auto" into a number of frames at once.

    Raises:
        ValueError: If it is neither that nor a number above 0.
    """
    if seq_chunk == "auto":
        return _AUTO_CHUNK.get(device.type, 1)
    if not isinstance(seq_chunk, int) or seq_chunk < 1:
        raise ValueError(f'seq_chunk must be 1 or more, or "auto", got {seq_chunk!r}')
    return seq_chunk
