"""Runs the coarse part of a network on a CPU with OpenVINO."""

import os
from collections import deque
from collections.abc import Sequence
from itertools import accumulate, pairwise
from threading import Lock
from typing import Any
from weakref import WeakSet, WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from rematte.engines.engine import State
from rematte.engines.graph import INPUTS, Graph
from rematte.engines.kernels.guided_filter import Floats, shrink
from rematte.engines.rewrite import channels, joined, replace, rewrite
from rematte.engines.runtimes import import_openvino, openvino_core
from rematte.matting.matte import Matted
from rematte.video.frame import Frame

# OpenVINO cannot pool a map of one pixel, so smaller pictures are padded [pixels].
_LEAST = 5
_FEATURES = ("f1", "f2", "f3")
_STATES = INPUTS[1:]
_NEW = tuple(f"{name}o" for name in _STATES)


def read(graph: Graph) -> Any:
    """Read a graph; a `RuntimeError` or `OSError` if it is damaged or missing."""
    parts = [np.fromfile(path, np.uint8) for path in graph.constants]
    constants = import_openvino().Tensor(np.concatenate(parts))
    return openvino_core().read_model(graph.model.read_bytes(), constants)


def is_readable(graph: Graph) -> bool:
    """Whether a graph exists and can be read."""
    try:
        read(graph)
    except (RuntimeError, OSError):
        return False
    return True


class _Size:
    """The compiled models for one size."""

    def __init__(self) -> None:
        self.lock = Lock()  # held while the models are compiled
        self.stages: list[Any] = []  # in order; empty until they are compiled
        self.states: list[list[int]] = []  # the shape of each state, channels last
        self.maps: Any = ()  # the shape of the guided filter's maps, (C, h, w)
        # The first channel of each output within the maps, and the channel count.
        self.parts: list[int] = []


class _Threads:
    """Counts the models of this process, each of which has threads of its own.

    OpenVINO gives the threads of a model that was dropped to the next one. In a fork
    they do not exist, and a model that is given them waits forever.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._users: WeakSet[_Size] = WeakSet()
        self._most = 0  # the most models at one time
        self._lost = False  # whether the next model could get threads of a parent
        # What was compiled before a fork is kept: dropping it would free its threads.
        self._parents: list[_Size] = []

    def add(self, user: _Size) -> None:
        """Count a size's models."""
        with self._lock:
            self._users.add(user)
            self._most = max(self._most, self._count())

    def check(self) -> None:
        """Raise a `RuntimeError` if compiling could wait forever."""
        if self._lost:
            raise RuntimeError(
                "this process was forked after OpenVINO had run and its network had "
                "been dropped, and OpenVINO would wait for threads that are not in the "
                'fork; start processes with multiprocessing.get_context("spawn")'
            )

    def fork(self) -> None:
        """Note in a forked process that all threads so far were its parent's."""
        self._lock = Lock()
        self._lost = self._lost or self._count() < self._most
        self._parents += self._users
        self._users, self._most = WeakSet(), 0

    def _count(self) -> int:
        return sum(len(user.stages) for user in self._users)


_threads = _Threads()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.fork)


class CompiledGraph:
    """A graph that is compiled for each size; several engines and threads share it.

    `keep` sizes stay compiled when no engine uses them any more; `can_mix` is whether
    the processor has bfloat16.
    """

    def __init__(self, graph: Graph, keep: int = 0) -> None:
        self._graph = graph
        can = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.can_mix = "BF16" in can
        self._sizes: WeakValueDictionary[Any, _Size] = WeakValueDictionary()
        self._recent: deque[_Size] = deque(maxlen=keep)
        self._lock = Lock()
        self._process = 0

    def check(self) -> None:
        """Raise a `RuntimeError` if the process was forked since a compilation.

        A fork lacks OpenVINO's threads, and some calls would wait for them forever.
        """
        if self._process not in (0, os.getpid()):
            raise RuntimeError(
                "this Matter had compiled its network before the process was forked, "
                "and OpenVINO's threads are not in the fork; make a Matter in each "
                'process, or start them with multiprocessing.get_context("spawn")'
            )

    def at(self, size: tuple[int, int], refined: bool, mixed: bool) -> "_Size":
        """Return the models for a size of the coarse pass, compiled at its first use.

        If `refined`, they make the guided filter's maps, else alpha and foreground; if
        `mixed`, the decoder runs in bfloat16.
        """
        self.check()
        key = size, refined, mixed
        with self._lock:
            found = self._sizes.setdefault(key, _Size())
            if found in self._recent:
                self._recent.remove(found)
            self._recent.append(found)
        with found.lock:  # other threads wait here, and then need not compile
            if not found.stages:
                self._build(found, *key)
        return found

    def _build(
        self, made: "_Size", size: tuple[int, int], refined: bool, mixed: bool
    ) -> None:
        _threads.check()
        maps = "refined" if refined else "plain"
        model = self._read(size)
        self._process = os.getpid()
        if mixed:
            stages: Any = [
                (("picture",), _FEATURES, "f32"),
                (("picture", *_FEATURES, *_STATES), ("hidden", *_NEW), "bf16"),
                (("picture", "hidden"), (maps,), "f32"),
            ]
        else:
            stages = [(INPUTS, (maps, *_NEW), "f32")]
        ports = [model.input(name) for name in _STATES]
        made.states = [[port.shape[n] for n in (0, 2, 3, 1)] for port in ports]
        found = model.output(maps)
        made.maps = found.shape[1:]
        parts = [channels(part) for part in joined(found.get_node().input_value(0))]
        made.parts = [0, *accumulate(parts)]
        made.stages = [self._compile(model.clone(), *stage) for stage in stages]
        _threads.add(made)

    def _read(self, size: tuple[int, int]) -> Any:
        """Read the graph for a picture of some height and width."""
        model = read(self._graph)
        shapes = {}
        for name in INPUTS:
            count = model.input(name).partial_shape[1].get_length()
            shapes[name] = [1, count, *size]
            size = (size[0] + 1) // 2, (size[1] + 1) // 2
        model.reshape(shapes)
        rewrite(model)
        return model

    def _compile(
        self, model: Any, inputs: Sequence[str], outputs: Sequence[str], precision: str
    ) -> Any:
        """Compile the part of a model between some inputs and some outputs.

        All are channels last, except the maps, which are read as planes. Tensors
        between parts have the decoder's precision, to which they would be rounded
        there anyway, and which takes half as long. Picture and states are float32, so
        that small changes are not rounded away.
        """
        openvino = import_openvino()
        found = {
            port.get_any_name(): port.get_node().input_value(0)
            for port in model.outputs
        }
        # The parts of the maps are outputs of their own, written side by side.
        ends = [(name, part) for name in outputs for part in joined(found[name])]
        starts = []
        for name in inputs:
            if name in INPUTS:
                starts.append(model.input(name).get_node())
                continue
            start = openvino.opset13.parameter(found[name].shape, np.float32)
            start.output(0).set_names({name})
            replace(found[name], start)
            starts.append(start)
        whole = openvino.Model([end for _, end in ends], starts)
        steps = openvino.preprocess.PrePostProcessor(whole)
        planar, last = map(openvino.Layout, ("NCHW", "NHWC"))
        for index, name in enumerate(inputs):
            steps.input(index).tensor().set_layout(last)
            steps.input(index).model().set_layout(planar)
            if name not in INPUTS:
                steps.input(index).tensor().set_element_type(openvino.Type.bf16)
        for index, (name, _) in enumerate(ends):
            if name in ("plain", "refined"):
                continue
            steps.output(index).model().set_layout(planar)
            steps.output(index).tensor().set_layout(last)
            if name not in _NEW:
                steps.output(index).tensor().set_element_type(openvino.Type.bf16)
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        threads = os.environ.get("OMP_NUM_THREADS", "")
        if threads.isdigit():  # as torch does
            settings["INFERENCE_NUM_THREADS"] = int(threads)
        return openvino_core().compile_model(steps.build(), "CPU", settings)


class OpenVINOEngine:
    """Runs the network with OpenVINO, which compiles it for each size.

    In float32 there is one model. In mixed precision, on processors with bfloat16,
    there are three: the decoder runs in bfloat16, between the encoder and the fit of
    the guided filter in float32. Rounding those too moved edges more; figures are in
    docs/performance.md. See `Engine` for the attributes; a `CompiledGraph` may be
    shared with other engines.
    """

    def __init__(self, graph: Graph | CompiledGraph, mixed: bool) -> None:
        self._openvino = import_openvino()
        self.name = "openvino" if mixed else "openvino-float32"
        self.reason, self.setup, self.chunk = "", 0.0, 1
        if isinstance(graph, Graph):
            graph = CompiledGraph(graph)
        self._compiled = graph
        self._mixed, self._ratio = mixed and graph.can_mix, 1.0
        self._built: tuple[tuple[int, int], bool] | None = None

    def prepare(self, shape: tuple[int, ...], ratio: float) -> None:
        """Compile the models for this size, unless that is done."""
        size = max(_LEAST, int(shape[0] * ratio)), max(_LEAST, int(shape[1] * ratio))
        self._ratio = ratio
        if self._built == (size, ratio != 1):
            return
        self._size = self._compiled.at(size, ratio != 1, self._mixed)
        self._requests = [each.create_infer_request() for each in self._size.stages]
        for before, after in pairwise(self._requests):
            for port in before.get_compiled_model().outputs:
                name = port.get_any_name()
                if name not in _NEW:
                    after.set_tensor(name, before.get_tensor(name))
        self._recurrent = self._requests[1 if len(self._requests) > 1 else 0]
        self._zeros = self._new_state()
        for tensor in self._zeros:
            tensor.data[:] = 0
        self._built = size, ratio != 1

    def _new_state(self) -> tuple[Any, ...]:
        """Make memory for a state."""
        make, kind = self._openvino.Tensor, self._openvino.Type.f32
        return tuple(make(kind, shape) for shape in self._size.states)

    def step(self, frames: list[Frame], state: State) -> tuple[list[Matted], State]:
        """Matte frames one after the other."""
        self._compiled.check()
        mattes = []
        for frame in frames:
            picture = shrink(frame.pixels, self._ratio)
            height, width = picture.shape[:2]
            if min(height, width) < _LEAST:
                more = max(0, _LEAST - height), max(0, _LEAST - width)
                edges = (0, more[0]), (0, more[1]), (0, 0)
                picture = np.pad(picture, edges, mode="edge")
            # Two sets of states take turns; new memory for each would cost a
            # millisecond.
            before, after = state or (self._zeros, self._new_state())
            maps = self._step(picture, before, after)
            mattes.append(Matted(frame, maps[:, :height, :width]))
            state = after, before if state else self._new_state()
        return mattes, state

    def _step(self, picture: Floats, before: Any, after: Any) -> Floats:
        source = self._openvino.Tensor(picture[None], shared_memory=True)
        maps = np.empty(self._size.maps, np.float32)
        for index, (first, end) in enumerate(pairwise(self._size.parts)):
            made = self._openvino.Tensor(maps[None, first:end], shared_memory=True)
            self._requests[-1].set_output_tensor(index, made)
        for name, old, new in zip(_STATES, before, after, strict=True):
            self._recurrent.set_tensor(name, old)
            self._recurrent.set_tensor(f"{name}o", new)
        for request in self._requests:
            request.set_tensor("picture", source)
            request.infer()
        return maps

    def pack(self, state: State) -> list[NDArray[Any]]:
        """Copy a state into contiguous arrays (1, C, h, w)."""
        return [np.moveaxis(each.data, -1, 1).copy() for each in state[0]]

    def unpack(self, arrays: list[NDArray[Any]]) -> State:
        """Restore a state from what `pack` gave."""
        make = self._openvino.Tensor
        rows = [np.moveaxis(each, 1, -1).copy() for each in arrays]
        return tuple(make(each) for each in rows), self._new_state()
