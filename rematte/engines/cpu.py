"""What runs the coarse part of a network on a CPU: torch, OpenVINO or ONNX Runtime.

All take one small picture and the recurrent state, and give the maps that
`refining.render` turns into pixels, and the next state. Which is fastest depends on the
machine and the size, so `choose_engine` measures them and remembers.
"""

import copy
import hashlib
import io
import logging
import platform
import tempfile
import warnings
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rematte.engines.kernels.guided_filter_fit import Weights, fit
from rematte.engines.kernels.upsample_conv import convolve_doubled, scales
from rematte.engines.parts import Staged
from rematte.engines.runtimes import import_onnxruntime, import_openvino
from rematte.network.matting_network import (
    Coarse,
    CoarseHead,
    DeepGuidedFilter,
    MattingNetwork,
)
from rematte.weights.registry import download_dir

# For each merge of `staged.Staged`: that of stages still lacks the encoder's share.
_LEAST = -np.inf, -np.inf, -np.inf, 0.0

Floats = NDArray[np.float32]
Module = TypeVar("Module", bound=nn.Module)
State = tuple[Any, ...]  # an engine's own; pass on what it gave


class Engine(Protocol):
    """One recurrent step of the coarse part.

    Attributes:
        name: As in `ENGINES`.
    """

    name: str

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Build what pictures of a shape (B, h, w, 3) need, before the first comes."""

    def step(self, picture: Floats, state: State | None) -> tuple[Floats, State]:
        """Run one step.

        Args:
            picture: The downsampled frames, (B, h, w, 3) in [0, 1].
            state: What the step before gave, or None to begin. It is used up: its
                memory may hold the state after next.

        Returns:
            The maps of `network.Coarse`, (B, 8 or 4, h, w), and the next state.
        """

    def pack(self, state: State) -> list[Tensor]:
        """Copy a state into tensors of its own precision, to be kept."""

    def unpack(self, kept: list[Tensor]) -> State:
        """Make a state, bit for bit, of what `pack` gave."""


class TorchEngine:
    """Torch itself, with batch norm folded away and channels last, in `Staged` parts.

    Args:
        network: The network; it stays as it is.
        refined: See `network.Coarse`.
    """

    def __init__(self, network: MattingNetwork, refined: bool) -> None:
        self.name = "torch"
        coarse = folded(Coarse(network, refined))
        self._staged = Staged(coarse)
        # torch's stubs do not know it
        self._staged.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._weights = _weights(coarse.head)

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Do nothing, since any shape will do; see `Engine`."""

    def step(self, picture: Floats, state: State | None) -> tuple[Floats, State]:
        """Run one step; see `Engine`."""
        before = state or (None,) * 4
        pictures = scales(np.ascontiguousarray(picture))
        with torch.inference_mode():
            f1, f2, f3 = self._staged.encoder(torch.from_numpy(picture).movedim(-1, 1))
            r4, products = self._staged.bottom(before[3], f3)
            after = [r4]
            for index, (stage, skip) in enumerate(
                zip(self._staged.stages, (f3, f2, f1), strict=True)
            ):
                sums = self._merge(index, products, pictures[3 - index])
                state_, products = stage(before[2 - index], skip, sums)
                after.append(state_)
            hidden = self._staged.last(self._merge(3, products, pictures[0]))
        maps = _fit(self._weights, pictures[0], hidden.contiguous().numpy())
        return maps, tuple(after[::-1])

    def _merge(self, index: int, products: Tensor, picture: Floats) -> Tensor:
        """Make what a part takes of what the one below gave."""
        weights = self._staged.merges[index]
        sums = np.empty((*picture.shape[:3], weights.shape[1]), np.float32)
        rows = np.ascontiguousarray(products.movedim(1, -1).numpy())
        convolve_doubled(rows, picture, weights, _LEAST[index], sums)
        return torch.from_numpy(sums).movedim(-1, 1)

    def pack(self, state: State) -> list[Tensor]:
        """See `Engine`."""
        return [t.clone(memory_format=torch.contiguous_format) for t in state]

    def unpack(self, kept: list[Tensor]) -> State:
        """See `Engine`."""
        return tuple(t.contiguous(memory_format=torch.channels_last) for t in kept)


class OpenVINOEngine:
    """OpenVINO, compiled for each size that comes, in the parts of `staged.Staged`.

    In mixed precision all but the encoder runs in bfloat16 where the processor can, and
    the encoder in float32: rounding there too moved edges more, which
    docs/performance.md has figures of. What is between the parts and after them,
    `doubling.convolve_doubled` and `fitting.fit`, computes in float32 too.

    Args:
        network: The network.
        refined: See `network.Coarse`.
        mixed: Whether precision may be mixed.
    """

    def __init__(self, network: MattingNetwork, refined: bool, mixed: bool) -> None:
        self._openvino = openvino = import_openvino()
        self.name = "openvino" if mixed else "openvino-float32"
        self._network, self._refined = network, refined
        self._core = openvino.Core()
        can = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._precision = "bf16" if mixed and can else "f32"
        kinds = {"bf16": openvino.Type.bf16, "f32": openvino.Type.f32}
        self._between = kinds[self._precision]
        self._shape: tuple[int, ...] = ()

    def _convert(self, part: str, module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        """Convert a module, or take what an earlier run converted.

        That takes most of the time that building does, and depends on no size.
        """
        path = download_dir() / "openvino" / f"{part}-{self._key}.xml"
        with suppress(RuntimeError):  # none there, or damaged: it is made anew
            if path.is_file():
                return self._core.read_model(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Not torch.export, which takes 100 MB and two seconds more.
            program = torch.jit.trace(module, inputs, check_trace=False)
            model = self._openvino.convert_model(program, example_input=inputs)
        with suppress(OSError):  # a cache: where it cannot be written, it is not
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                made = Path(folder) / path.name
                self._openvino.save_model(model, made, compress_to_fp16=False)
                for part_of in (made.with_suffix(".bin"), made):
                    part_of.replace(path.with_name(part_of.name))
            # As every later run reads it: one just converted rounds otherwise.
            return self._core.read_model(path)
        return model

    def _compile(self, part: str, module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        """Make a model whose inputs and outputs are channels last.

        The hidden features alone, which the last part gives, are planar: `fitting`
        reads them a channel at a time.

        What passes from one part to the next has the decoder's precision: there it
        would be rounded to it anyway, and it takes half as long. The picture and states
        are float32, so that small changes of them are not rounded away.

        Args:
            part: Its name.
            module: What to convert.
            inputs: One of each.
        """
        model = self._convert(part, module, inputs)
        shapes = [list(tensor.shape) for tensor in inputs]
        model.reshape(dict(zip(model.inputs, shapes, strict=True)))
        steps = self._openvino.preprocess.PrePostProcessor(model)
        first, last = map(self._openvino.Layout, ("NCHW", "NHWC"))
        for index in range(len(model.inputs)):
            steps.input(index).tensor().set_layout(last)
            steps.input(index).model().set_layout(first)
            if index or part == "last":
                steps.input(index).tensor().set_element_type(self._between)
        for index in range(len(model.outputs)):
            if part != "last":
                steps.output(index).model().set_layout(first)
                steps.output(index).tensor().set_layout(last)
            if index or part in ("encoder", "last"):
                steps.output(index).tensor().set_element_type(self._between)
        precision = "f32" if part == "encoder" else self._precision
        settings = {
            "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"
        }  # fmt: skip
        compiled = self._core.compile_model(steps.build(), "CPU", settings)
        return compiled.create_infer_request()

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Convert and compile for this shape; see `Engine`."""
        if shape == self._shape:
            return
        batch, *size = shape[:3]
        sizes = [size]
        for _ in range(4):
            sizes.append([(side + 1) // 2 for side in sizes[-1]])
        # Kept no longer than it takes, since it is 20 MB.
        coarse = folded(Coarse(self._network, self._refined))
        staged = Staged(coarse)
        self._key = _fingerprint(coarse)
        self._weights, self._merges = _weights(coarse.head), staged.merges
        # Shapes alone matter: running torch once would take memory for good.
        picture = torch.zeros(shape).movedim(-1, 1)
        features = [
            torch.zeros(batch, count, *size)
            for count, size in zip(staged.skips, sizes[3:0:-1], strict=True)
        ]
        states = [
            torch.zeros(batch, count, *size)
            for count, size in zip(staged.channels, sizes[:0:-1], strict=True)
        ]
        sums = [
            torch.zeros(batch, weights.shape[1], *size)
            for weights, size in zip(self._merges, sizes[3::-1], strict=True)
        ]
        self._encoder = self._compile("encoder", staged.encoder, (picture,))
        self._parts = [self._compile("bottom", staged.bottom, (states[0], features[0]))]
        for index, stage in enumerate(staged.stages):
            inputs = states[1 + index], features[index], sums[index]
            self._parts.append(self._compile(f"stage{3 - index}", stage, inputs))
        self._last = self._compile("last", staged.last, (sums[3],))
        for part, index in zip(self._parts, (2, 2, 1, 0), strict=True):
            part.set_input_tensor(1, self._encoder.get_output_tensor(index))
        make = self._openvino.Tensor
        self._zeros, *self._spare = (
            tuple(
                make(self._openvino.Type.f32, [state.shape[n] for n in (0, 2, 3, 1)])
                for state in reversed(states)
            )
            for _ in range(3)
        )
        for tensor in self._zeros:
            tensor.data[:] = 0
        self._shape = shape

    def step(self, picture: Floats, state: State | None) -> tuple[Floats, State]:
        """Run one step; see `Engine`."""
        self.prepare(picture.shape)
        pictures = scales(np.ascontiguousarray(picture))
        # Two sets of states take turns; new memory for each would cost a millisecond.
        after = self._spare[1] if state is self._spare[0] else self._spare[0]
        source = self._openvino.Tensor(pictures[0], shared_memory=True)
        self._encoder.set_input_tensor(0, source)
        self._encoder.infer()
        for index, part in enumerate(self._parts):
            if index:
                self._merge(index - 1, pictures[4 - index], part.get_input_tensor(2))
            part.set_input_tensor(0, (state or self._zeros)[3 - index])
            part.set_output_tensor(0, after[3 - index])
            part.infer()
        self._merge(3, pictures[0], self._last.get_input_tensor(0))
        self._last.infer()
        hidden = self._last.get_output_tensor(0).data
        return _fit(self._weights, pictures[0], hidden), after

    def _merge(self, index: int, picture: Floats, sums: Any) -> None:
        """Make what a part takes of what the one below gave."""
        products, least = self._parts[index].get_output_tensor(1), _LEAST[index]
        convolve_doubled(products.data, picture, self._merges[index], least, sums.data)

    def pack(self, state: State) -> list[Tensor]:
        """See `Engine`."""
        return [torch.from_numpy(each.data.copy()) for each in state]

    def unpack(self, kept: list[Tensor]) -> State:
        """See `Engine`."""
        return tuple(self._openvino.Tensor(each.numpy().copy()) for each in kept)


def _weights(head: CoarseHead) -> Weights:
    """Take what `fitting.fit` needs out of a network's last part."""
    head = folded(head)

    def rows(convolution: Any) -> Floats:
        weight, added = convolution.weight.flatten(1), convolution.bias[:, None]
        return torch.cat([weight, added], 1).numpy()

    box, none = np.full((4, 9), 1 / 9, np.float32), np.zeros((0, 1), np.float32)
    layers = none, none, none
    with torch.no_grad():
        project = rows(head.project_mat.conv)
        if not head.refined:
            box = box[:0]
        elif isinstance(head.refiner, DeepGuidedFilter):
            box = head.refiner.box_filter.weight.flatten(1).numpy()
            first, _, _, second, _, _, third = head.refiner.conv
            layers = rows(first), rows(second), rows(third)
    return Weights(project, box, layers)


def _fit(weights: Weights, picture: Floats, hidden: NDArray[Any]) -> Floats:
    """Make maps of pictures, (B, h, w, 3), and hidden features, (B, 16, h, w)."""
    batch, height, width, _ = picture.shape
    maps = np.empty((batch, 8 if len(weights.box) else 4, height, width), np.float32)
    for each in zip(picture, hidden, maps, strict=True):
        fit(weights, *each)
    return maps


class OnnxEngine:
    """ONNX Runtime, with a model exported for each size that comes.

    Args:
        network: The network.
        refined: See `network.Coarse`.
    """

    def __init__(self, network: MattingNetwork, refined: bool) -> None:
        self.name = "onnxruntime"
        self._coarse = Coarse(network, refined).eval()
        self._shape: tuple[int, ...] = ()

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Convert and compile for this shape; see `Engine`."""
        if shape == self._shape:
            return
        onnxruntime = import_onnxruntime()
        picture = torch.zeros(shape).movedim(-1, 1)
        with torch.inference_mode():
            _, *states = self._coarse(picture, *[None] * 4)
        self._zeros = tuple(torch.zeros(state.shape).numpy() for state in states)
        inputs = (picture, *map(torch.from_numpy, self._zeros))
        file = io.BytesIO()
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                self._coarse, inputs, dynamo=True, verbose=False
            )
        program.save(file)
        self._session = onnxruntime.InferenceSession(
            file.getvalue(), providers=["CPUExecutionProvider"]
        )
        self._names = [entry.name for entry in self._session.get_inputs()]
        self._shape = shape

    def step(self, picture: Floats, state: State | None) -> tuple[Floats, State]:
        """Run one step; see `Engine`."""
        self.prepare(picture.shape)
        planar = np.ascontiguousarray(np.moveaxis(picture, -1, 1))
        given = dict(zip(self._names, (planar, *(state or self._zeros)), strict=True))
        maps, *states = self._session.run(None, given)
        return maps, tuple(states)

    def pack(self, state: State) -> list[Tensor]:
        """See `Engine`."""
        return [torch.from_numpy(each.copy()) for each in state]

    def unpack(self, kept: list[Tensor]) -> State:
        """See `Engine`."""
        return tuple(each.numpy() for each in kept)


def _fingerprint(coarse: Coarse) -> str:
    """All that the converted model depends on, as a short hash."""
    digest = hashlib.sha256()
    versions = package_versions(("torch", "openvino"))
    digest.update(f"{coarse} {coarse.head.refined} {versions}".encode())
    parts = "network/encoders", "network/matting_network", "engines/parts"
    for part in parts:  # what the model is, and does
        with suppress(OSError):  # installed without its source
            path = Path(__file__).parents[1] / f"{part}.py"
            digest.update(path.read_bytes())
    for tensor in coarse.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor()
    names = [line for line in text.splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor()


def folded(module: Module) -> Module:
    """A copy in which every batch norm is part of the convolution before it."""
    module = copy.deepcopy(module).eval()
    for parent in module.modules():
        before: tuple[str, nn.Module] | None = None
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and before is not None:
                place, conv = before
                if isinstance(conv, nn.Conv2d):
                    setattr(parent, place, fuse_conv_bn_eval(conv, child))
                    setattr(parent, name, nn.Identity())
            before = name, child
    return module
