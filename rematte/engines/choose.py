"""Chooses a model's engine: OpenVINO on a CPU, a CUDA graph, or the model itself."""

import logging
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rematte.engines.engine import Engine
from rematte.engines.graph import ALL_BUNDLED, Graph, cached_graph
from rematte.engines.openvino import CompiledGraph, OpenVINOEngine, is_readable
from rematte.weights.download import resolve, sha256

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

# None: the model's own.
_Device: TypeAlias = "str | torch.device | None"
_Dtype: TypeAlias = "str | torch.dtype | None"

_OPENVINO = ("openvino", "openvino-float32")
# The engines that run a float32 `MattingNetwork` on a CPU.
CPU_ENGINES = (*_OPENVINO, "plain")
# ONNX Runtime was an engine, and so was torch on a CPU; their names are still accepted.
ENGINES = ("auto", *CPU_ENGINES, "torch", "torch-compiled", "onnxruntime")

# Frames that "auto" gives a model at once, on an Apple GPU. On a CPU more than one are
# slower, since they no longer fit into its caches.
_MPS_CHUNK = 4


def load_for(
    engine: str,
    weights: str | Path | None = None,
    variant: str | None = None,
    device: str = "cpu",
    dtype: "str | torch.dtype" = "float32",
) -> Any:
    """Load weights in the form that an engine, one of `ENGINES`, runs.

    Arguments and errors are those of `load_model`. torch is needed unless OpenVINO runs
    a graph that is bundled or cached: an `ImportError` if it is not installed.

    Returns:
        A `Graph` if OpenVINO runs it, else what `load_model` gives.
    """
    digest, precision = "", _name(dtype)
    if (device, precision) == ("cpu", "float32") and _takes_graph(engine):
        path = resolve(weights, variant)
        for bundled in ALL_BUNDLED:
            if path == bundled.constants[0]:
                return bundled
        digest = f"{sha256(path)} {variant}"
        graph = cached_graph(digest)
        if is_readable(graph):
            return graph
    import torch

    from rematte.engines.convert_graph import as_graph
    from rematte.network.matting_network import MattingNetwork
    from rematte.weights.load import load_model

    model = load_model(weights, variant, device, getattr(torch, precision))
    if digest and isinstance(model, MattingNetwork):
        return as_graph(model, digest)
    return model


def _takes_graph(engine: str) -> bool:
    known = engine in ("auto", "onnxruntime", *_OPENVINO)
    return known and find_spec("openvino") is not None


def choose_engine(
    model: Any,
    *,
    engine: str = "auto",
    device: _Device = None,
    dtype: _Dtype = None,
    chunk: int | str = 1,
    report: Callable[[str], object] = warnings.warn,
) -> Engine:
    """Choose and make the engine that runs a model.

    Args:
        model: A `Graph`, what `share_models` gave, or anything called like
            `MattingNetwork`.
        engine: One of `ENGINES`.
        device: Where the model is; needed for frozen TorchScript.
        dtype: The model's precision; needed for frozen TorchScript.
        chunk: How many frames a model that is called as a whole sees at once, or
            "auto".
        report: Called with a sentence when too little memory halves the chunk.

    Raises:
        ValueError: If an argument is out of its range, or the engine cannot run this
            model.
        ImportError: If a package that the engine needs is not installed.
    """
    started = time.perf_counter()
    kind = _kind(model, engine, device, dtype)
    if kind == "openvino":
        shared = share_models(model, engine, device, dtype)
        made: Engine = OpenVINOEngine(shared, engine != "openvino-float32")
    else:
        from rematte.engines.module import ModuleEngine

        where, precision = _placement(model, device, dtype)
        if kind == "cuda_graph":
            from rematte.engines.cuda_graph import RecordedNetwork

            recorded = RecordedNetwork(model, engine == "torch-compiled")
            made = ModuleEngine(recorded, where, precision, 1, report)
            made.name = "torch" if engine == "auto" else engine
            made.reason = "a CUDA graph"
        else:
            if chunk == "auto":
                chunk = _MPS_CHUNK if where.type == "mps" else 1
            made = ModuleEngine(model, where, precision, int(chunk), report)
    if engine == "onnxruntime":
        made.reason = "onnxruntime is no longer an engine"
    elif engine in ("auto", "torch") and made.name == "plain" and _is_network(model):
        made.reason = "torch on a CPU"
        if engine == "auto":
            made.reason = "openvino is not installed"
            _log.warning(
                "openvino is not installed: torch runs the network, several times as "
                "slowly; pip install openvino"
            )
    made.setup = time.perf_counter() - started
    _log.info("engine %s, made in %.1f s", describe_engine(made), made.setup)
    return made


def share_models(
    model: Any, engine: str, device: _Device, dtype: _Dtype, keep: int = 0
) -> Any:
    """Return a model in a form whose engines share what they compile.

    It is given to `choose_engine`, whose other arguments are these, in place of the
    model. For engines that use torch it is the model itself, which each of them
    compiles or records for itself. `keep` is how many sizes stay compiled when no
    engine uses them any more.
    """
    kind = _kind(model, engine, device, dtype)
    if kind != "openvino" or isinstance(model, CompiledGraph):
        return model
    if not isinstance(model, Graph):
        from rematte.engines.convert_graph import as_graph

        model = as_graph(model)
    return CompiledGraph(model, keep)


def runs_whole(model: Any, engine: str, device: _Device, dtype: _Dtype) -> bool:
    """Whether `choose_engine` would call a model as a whole, in chunks."""
    return _kind(model, engine, device, dtype) == "whole"


def _kind(
    model: Any, engine: str, device: _Device, dtype: _Dtype
) -> Literal["openvino", "cuda_graph", "whole"]:
    """Decide what kind of engine runs a model."""
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if engine in _OPENVINO and find_spec("openvino") is None:
        raise ValueError(
            f"engine {engine} needs openvino: pip install openvino, or use "
            "--engine plain"
        )
    if isinstance(model, Graph | CompiledGraph):
        placed = str(device or "cpu"), _name(dtype or "float32")
        if placed != ("cpu", "float32") or not _takes_graph(engine):
            raise ValueError(
                f"weights that were loaded for OpenVINO run on a CPU in float32, got "
                f"engine {engine}, {placed[0]}, {placed[1]}; load them with load_model"
            )
        return "openvino"
    where, precision = _placement(model, device, dtype)
    ours = _is_network(model)
    if ours and where.type == "cuda" and engine in ("auto", "torch", "torch-compiled"):
        return "cuda_graph"
    what = f"{type(model).__name__}, {where}, {precision}"
    if engine == "torch-compiled":
        raise ValueError(
            f"engine torch-compiled runs a MattingNetwork on a CUDA GPU only, and this "
            f"is {what}; leave engine (--engine) out"
        )
    fits = ours and where.type == "cpu" and _name(precision) == "float32"
    if not fits and engine not in ("auto", "torch", "plain"):
        raise ValueError(
            f"engine {engine} runs a float32 MattingNetwork on a CPU only, and this is "
            f"{what}; leave engine (--engine) out"
        )
    return "openvino" if fits and _takes_graph(engine) else "whole"


def describe_engine(engine: Engine) -> str:
    """Return an engine's name, and in brackets the reason for it, if there is one."""
    return f"{engine.name} ({engine.reason})" if engine.reason else engine.name


def _is_network(model: Any) -> bool:
    from rematte.network.matting_network import MattingNetwork

    return isinstance(model, MattingNetwork)


def _name(dtype: "str | torch.dtype") -> str:
    return str(dtype).removeprefix("torch.")


def _placement(
    model: Any, device: _Device, dtype: _Dtype
) -> "tuple[torch.device, torch.dtype]":
    """Find a model's device and precision, unless they are given."""
    import torch

    if isinstance(model, type) or not hasattr(model, "parameters"):
        raise TypeError(
            "model must be a network, a Matter, the name or file of weights, or None, "
            f"got {model if isinstance(model, type) else type(model)}"
        )
    parameter = next(iter(model.parameters()), None)
    if parameter is not None:
        device = parameter.device if device is None else device
        dtype = dtype or parameter.dtype
    if device is None or dtype is None:
        raise ValueError(
            "device and dtype must be given for a frozen model, which has no "
            "parameters to read them from; e.g. device='cpu', dtype=torch.float32"
        )
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"torch does not know device {device!r}") from error
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype)
    assert isinstance(dtype, torch.dtype)
    if parameter is not None:
        _check_model(model, parameter, device, dtype)
    return device, dtype


def _check_model(
    model: Any, parameter: Any, device: "torch.device", dtype: "torch.dtype"
) -> None:
    if getattr(model, "training", False):
        raise ValueError(
            "model is in training mode, where batch norm gives different results; "
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
