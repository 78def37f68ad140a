"""Chooses what runs a model: an engine for a CPU, a CUDA graph, or the model itself."""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from rematte.engines.cpu import (
    Engine,
    OnnxEngine,
    OpenVINOEngine,
    State,
    TorchEngine,
    package_versions,
    processor,
)
from rematte.engines.cuda_graph import RecordedNetwork
from rematte.matting.loop import AnyMatted, matte, matte_coarse
from rematte.network.matting_network import MattingNetwork
from rematte.prefetch import trim_heap
from rematte.weights.registry import download_dir

Matting = Callable[..., Iterator[AnyMatted]]  # of Iterable[Frame]; memory=Memory

# On a CPU more frames at once are slower, since they no longer fit into its caches.
_AUTO_CHUNK = {"cpu": 1, "cuda": 1, "mps": 4}

# Below this many frames nothing that has to be built would pay; at first everything has
# to be converted and measured too.
_LONG, _LONG_AT_FIRST = 100, 300
_MEASURED = 6  # steps


class _Kind(NamedTuple):
    """How an engine is made, and which packages it needs."""

    make: Callable[[MattingNetwork, bool], Engine]
    needs: tuple[str, ...] = ()
    extra: str = ""


_KINDS = {
    "torch": _Kind(TorchEngine),
    "openvino": _Kind(
        lambda network, refined: OpenVINOEngine(network, refined, True),
        ("openvino",),
        "openvino",
    ),
    "openvino-float32": _Kind(
        lambda network, refined: OpenVINOEngine(network, refined, False),
        ("openvino",),
        "openvino",
    ),
    "onnxruntime": _Kind(OnnxEngine, ("onnxruntime", "onnxscript"), "onnx"),
}
# The last ones call a model as a whole; see `choose_matting`.
CPU_ENGINES = (*_KINDS, "plain")
ENGINES = ("auto", *CPU_ENGINES, "torch-compiled")


def installed() -> dict[str, bool]:
    """Which engines can be used here."""
    return {
        name: all(find_spec(module) for module in kind.needs)
        for name, kind in _KINDS.items()
    }


def make_engine(name: str, network: MattingNetwork, refined: bool) -> Engine:
    """Make an engine by its name.

    Args:
        name: Of `ENGINES`, but for "auto" and "plain".
        network: On the CPU, in float32.
        refined: See `network.Coarse`.

    Raises:
        ValueError: If its packages are not installed.
    """
    kind = _KINDS[name]
    if not installed()[name]:
        raise ValueError(
            f"engine {name} needs {' and '.join(kind.needs)}: "
            f"pip install 'rematte[{kind.extra}]', or use --engine torch"
        )
    return kind.make(network, refined)


def choose_engine(
    network: MattingNetwork, size: tuple[int, int], refined: bool, frames: int | None
) -> tuple[Engine, str]:
    """Take the engine that is fastest here.

    Each one that is installed runs a few steps; the result is kept in a file for the
    next time. A short clip gets torch, which needs no building.

    Args:
        network: On the CPU, in float32.
        size: Height and width of the picture.
        refined: See `network.Coarse`.
        frames: How many there will be, as far as is known.

    Returns:
        The engine, and why it was chosen.
    """
    names = [name for name, there in installed().items() if there]
    if len(names) == 1:
        return TorchEngine(network, refined), "no other is installed"
    path = download_dir() / "engines.json"
    key = _situation(network, size, refined, names)
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        known = {}
    # Without a count it is a long one, such as a camera.
    least = _LONG if known.get(key) in names else _LONG_AT_FIRST
    if frames is not None and frames < least:
        return TorchEngine(network, refined), f"fewer than {least} frames"
    if known.get(key) in names:
        return make_engine(known[key], network, refined), "measured before"
    engines = [make_engine(name, network, refined) for name in names]
    seconds = [_measure(engine, size) for engine in engines]
    best = engines[seconds.index(min(seconds))]
    told = ", ".join(
        f"{engine.name} {time_ * 1e3:.0f} ms"
        for engine, time_ in zip(engines, seconds, strict=True)
    )
    try:  # a cache: where it cannot be written, the next run measures again
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_text(json.dumps(known | {key: best.name}, indent=1), "utf-8")
        part.replace(path)
    except OSError:
        pass
    return best, f"fastest of {told}"


def _measure(engine: Engine, size: tuple[int, int]) -> float:
    """The shortest of a few steps [s], after two that build and warm up."""
    picture = np.random.default_rng(0).random((1, *size, 3), np.float32)
    state: State | None = None
    seconds = []
    for _ in range(2 + _MEASURED):
        begin = time.perf_counter()
        _, state = engine.step(picture, state)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[2:])


def _situation(
    network: MattingNetwork, size: tuple[int, int], refined: bool, names: list[str]
) -> str:
    """All that the speed of engines depends on, as a key."""
    there = package_versions(("torch", "openvino", "onnxruntime"))
    versions = [" ".join(item) for item in there.items()]
    parts = [
        platform.machine(), processor(), f"{torch.get_num_threads()} threads",
        *versions, type(network.backbone).__name__, f"{size[1]}x{size[0]}",
        "refined" if refined else "coarse", *names,
    ]  # fmt: skip
    return ", ".join(parts)


def placement(
    model: Any, device: str | torch.device | None, dtype: torch.dtype | None
) -> tuple[torch.device, torch.dtype]:
    """Where the model is and in which precision, unless told."""
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


def settle_engine(
    model: Any,
    device: torch.device,
    dtype: torch.dtype,
    engine: str,
    size: tuple[int, int],
    ratio: float,
    frames: int,
) -> str:
    """Give the name of the engine that `choose_matting` would choose now.

    Args:
        model: As of `convert_video`; likewise `engine`.
        device: Where the model is.
        dtype: Its precision.
        engine: See `model`.
        size: Height and width of the frames [pixels].
        ratio: The downsample ratio.
        frames: How many there are.
    """
    kind = kind_of_engine(model, device, dtype, engine)
    if kind != "coarse":
        recorded = "torch" if engine == "auto" else engine
        return recorded if kind == "recorded" else "plain"
    if engine != "auto":
        return engine
    small = int(size[0] * ratio), int(size[1] * ratio)
    return choose_engine(model, small, ratio != 1, frames)[0].name


def choose_matting(
    model: Any,
    device: torch.device,
    dtype: torch.dtype,
    report: Any,
    *,
    engine: str,
    frames: int | None,
    downsample_ratio: float | str | None,
    seq_chunk: int,
) -> Matting:
    """Choose the loop for a model: an engine's, or the one that calls it as a whole.

    Args:
        model: As of `convert_video`; likewise `engine` and `downsample_ratio`.
        device: Where the model is.
        dtype: Its precision.
        report: Is told what runs.
        engine: See `model`.
        frames: How many there will be, as far as is known.
        downsample_ratio: See `model`.
        seq_chunk: Frames at once.
    """
    kind = kind_of_engine(model, device, dtype, engine)
    if kind == "coarse":
        # Kept for a state that starts anew at the same size.
        make = lru_cache(1)(partial(_make_engine, engine, model, frames, report))
        return partial(matte_coarse, make, downsample_ratio=downsample_ratio)
    report.engine = "plain"
    if kind == "recorded":
        compiled = engine == "torch-compiled"
        report.engine = f"{'torch' if engine == 'auto' else engine} (a CUDA graph)"
        model, seq_chunk = RecordedNetwork(model, compiled), 1
    return partial(
        matte, model, device=device, dtype=dtype, seq_chunk=seq_chunk,
        downsample_ratio=downsample_ratio, tell=report.notes.append,
    )  # fmt: skip


def kind_of_engine(
    model: Any, device: torch.device, dtype: torch.dtype, engine: str
) -> Literal["coarse", "recorded", "plain"]:
    """Whether one of `engines` runs the model, a CUDA graph of it, or itself."""
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    ours = isinstance(model, MattingNetwork)
    recorded = engine in ("auto", "torch", "torch-compiled")
    if ours and device.type == "cuda" and recorded:
        return "recorded"
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
    return "coarse" if fits and engine != "plain" else "plain"


def _make_engine(
    name: str,
    model: MattingNetwork,
    frames: int | None,
    report: Any,
    size: tuple[int, int],
    refined: bool,
) -> Engine:
    """Make the engine that was asked for, and put it in the report."""
    begin = time.perf_counter()
    if name == "auto":
        engine, why = choose_engine(model, size, refined, frames)
        report.engine = f"{engine.name} ({why})"
    else:
        engine, report.engine = make_engine(name, model, refined), name
    engine.prepare((1, *size, 3))
    trim_heap()
    report.setup += time.perf_counter() - begin
    return engine
