"""Converts a network into the graph that `OpenVINOEngine` runs."""

import atexit
import hashlib
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rematte.engines.graph import ALL_BUNDLED, INPUTS, OUTPUTS, Graph, cached_graph
from rematte.engines.openvino import is_readable
from rematte.engines.runtimes import import_openvino
from rematte.network.matting_network import MattingNetwork
from rematte.network.parts import Coarse

_log = logging.getLogger(__name__)


class _Cuttable(nn.Module):
    """A network's coarse part, whose outputs include every tensor to cut it at."""

    def __init__(self, network: MattingNetwork) -> None:
        super().__init__()
        self.coarse = Coarse(network, True)

    def forward(
        self, picture: Tensor, r1: Tensor, r2: Tensor, r3: Tensor, r4: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the outputs that `OUTPUTS` names, and the new states."""
        features = self.coarse.encoder(picture)
        hidden, *states = self.coarse.decoder(picture, *features, r1, r2, r3, r4)
        head = self.coarse.head
        plain = head.project_mat(hidden)
        refined = torch.cat(head.refiner(picture, plain, hidden), 1)
        return (*features, hidden, plain, refined, *states)


def as_graph(network: MattingNetwork, digest: str | None = None) -> Graph:
    """Return the graph of a network: a bundled one, a cached one, or a new one.

    The network is on the CPU, in float32; `digest` identifies its weights, if known.
    """
    digest = digest or weights_digest(network)
    for bundled in ALL_BUNDLED:
        if digest == bundled.digest:
            return bundled
    graph = cached_graph(digest)
    if is_readable(graph):
        return graph
    if graph.model.exists():
        _log.warning("%s is damaged and made again", graph.model)
    try:
        save_graph(network, graph.model)
    except OSError as error:  # not cached, it lasts as long as the process
        _log.warning("converted weights cannot be cached: %s", error)
        folder = tempfile.mkdtemp(prefix="rematte-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        model = Path(folder) / graph.model.name
        graph = Graph(model, (model.with_suffix(".bin"),), digest)
        save_graph(network, model)
    return graph


def weights_digest(network: nn.Module) -> str:
    """Hash a network's weights and its class."""
    digest = hashlib.sha256(type(network).__name__.encode())
    tensors = network.state_dict()
    if not tensors and isinstance(network, torch.jit.ScriptModule):  # in the code
        digest.update(network.save_to_buffer())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def convert(network: MattingNetwork) -> Any:
    """Convert a network to an OpenVINO model of any size."""
    module = _Cuttable(network).eval()
    states = module.coarse.states
    inputs = (
        torch.zeros(1, 3, 64, 64),
        *(torch.zeros(1, count, 32 >> n, 32 >> n) for n, count in enumerate(states)),
    )
    outputs = *OUTPUTS, *(f"{name}o" for name in INPUTS[1:])
    model = convert_module(module, inputs, INPUTS, outputs)
    for entry, count in zip(model.inputs, (3, *states), strict=True):
        model.reshape({entry: [1, count, -1, -1]})
    return model


def convert_module(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> Any:
    """Convert a module in evaluation mode, called with some inputs, to OpenVINO.

    The names are those that the model's inputs and outputs get.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Not torch.export, which takes 100 MB and two seconds more.
        program = torch.jit.trace(module, inputs, check_trace=False)
        # Frozen, it is converted in less than half the time, to the same numbers.
        program = torch.jit.freeze(program, optimize_numerics=False)
        model = import_openvino().convert_model(program, example_input=inputs)
    entries = *model.inputs, *model.outputs
    for entry, name in zip(entries, (*input_names, *output_names), strict=True):
        entry.set_names({name})
    return model


def save_graph(network: MattingNetwork, path: Path) -> None:
    """Convert a network to an .xml file and a .bin file, which appear when complete."""
    openvino, started = import_openvino(), time.perf_counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        openvino.save_model(convert(network), made, compress_to_fp16=False)
        for file in (made.with_suffix(".bin"), made):
            file.replace(path.with_name(file.name))
    seconds = time.perf_counter() - started
    _log.info("weights converted for OpenVINO in %.1f s: %s", seconds, path)
