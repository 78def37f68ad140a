"""Runs the coarse part of a network on a CPU with OpenVINO."""

import hashlib
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rematte.engines.engine import State
from rematte.engines.head import Head
from rematte.engines.kernels.guided_filter import Floats, shrink
from rematte.engines.runtimes import import_openvino, package_versions
from rematte.matting.matte import Matted
from rematte.network.matting_network import MattingNetwork
from rematte.network.parts import Coarse, folded
from rematte.video.frame import Frame
from rematte.weights.registry import download_dir


class OpenVINOEngine:
    """Runs OpenVINO, compiled for each size that comes.

    In float32 one model does all. In mixed precision, where the processor has bfloat16,
    the decoder is a model of its own that runs in it, between the encoder and the fit
    of the guided filter in float32: rounding those too moved edges more, which
    docs/performance.md has figures of.

    See `Engine` for the attributes.

    Args:
        network: On the CPU, in float32.
        mixed: Whether precision may be mixed.
    """

    def __init__(self, network: MattingNetwork, mixed: bool) -> None:
        self._openvino = openvino = import_openvino()
        self.name = "openvino" if mixed else "openvino-float32"
        self.reason, self.setup, self.chunk = "", 0.0, 1
        self._network, self._ratio = network, 1.0
        self._core = openvino.Core()
        can = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._mixed = mixed and can
        self._head = Head(network)
        self._built: tuple[int, int, bool] | None = None

    def prepare(self, shape: tuple[int, ...], ratio: float) -> None:
        """Convert and compile the models for this size, unless that is done."""
        size = int(shape[0] * ratio), int(shape[1] * ratio)
        self._ratio = ratio
        if self._built == (*size, ratio != 1):
            return
        # Held no longer than it takes, since it is 20 MB.
        coarse = folded(Coarse(self._network, ratio != 1))
        key = _fingerprint(coarse)
        sizes = [size]
        for _ in range(4):
            sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
        # Shapes alone matter: running torch once would take memory for good.
        picture = torch.zeros(1, 3, *size)
        features = [
            torch.zeros(1, count, *side)
            for count, side in zip(coarse.features, sizes[1:4], strict=True)
        ]
        states = [
            torch.zeros(1, count, *side)
            for count, side in zip(coarse.states, sizes[1:], strict=True)
        ]
        if self._mixed:
            self._encoder = self._compile("encoder", key, coarse.encoder, (picture,))
            inputs = picture, *features, *states
            self._recurrent = self._compile("decoder", key, coarse.decoder, inputs)
            for index in range(3):
                output = self._encoder.get_output_tensor(index)
                self._recurrent.set_input_tensor(1 + index, output)
        else:
            self._recurrent = self._compile("whole", key, coarse, (picture, *states))
        self._shapes = [[each.shape[n] for n in (0, 2, 3, 1)] for each in states]
        self._zeros = self._new_state()
        for tensor in self._zeros:
            tensor.data[:] = 0
        self._built = (*size, ratio != 1)

    def _new_state(self) -> tuple[Any, ...]:
        """Make memory for a state."""
        make, kind = self._openvino.Tensor, self._openvino.Type.f32
        return tuple(make(kind, shape) for shape in self._shapes)

    def _convert(
        self, part: str, key: str, module: nn.Module, inputs: tuple[Tensor, ...]
    ) -> Any:
        """Convert a module, or read what an earlier run converted.

        Converting takes most of the time that building does, and depends on no size.
        """
        path = download_dir() / "openvino" / f"{part}-{key}.xml"
        with suppress(RuntimeError):  # none there, or damaged: it is converted again
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
                for file in (made.with_suffix(".bin"), made):
                    file.replace(path.with_name(file.name))
            # As every later run reads it: one just converted rounds otherwise.
            return self._core.read_model(path)
        return model

    def _compile(
        self, part: str, key: str, module: nn.Module, inputs: tuple[Tensor, ...]
    ) -> Any:
        """Make a model whose inputs and outputs are channels last.

        The first output after the decoder alone is planar, as it is read later. What
        passes between models has the decoder's precision: there it would be rounded to
        it anyway, and it takes half as long. Picture and states are float32, so that
        small changes of them are not rounded away.
        """
        encoder, decoder = part == "encoder", part == "decoder"
        between = self._openvino.Type.bf16
        model = self._convert(part, key, module, inputs)
        shapes = [list(tensor.shape) for tensor in inputs]
        model.reshape(dict(zip(model.inputs, shapes, strict=True)))
        steps = self._openvino.preprocess.PrePostProcessor(model)
        first, last = map(self._openvino.Layout, ("NCHW", "NHWC"))
        for index in range(len(model.inputs)):
            steps.input(index).tensor().set_layout(last)
            steps.input(index).model().set_layout(first)
            if decoder and 1 <= index <= 3:
                steps.input(index).tensor().set_element_type(between)
        for index in range(len(model.outputs)):
            if encoder or index:
                steps.output(index).model().set_layout(first)
                steps.output(index).tensor().set_layout(last)
            if encoder or (decoder and not index):
                steps.output(index).tensor().set_element_type(between)
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if decoder else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = self._core.compile_model(steps.build(), "CPU", settings)
        return compiled.create_infer_request()

    def step(self, frames: list[Frame], state: State) -> tuple[list[Matted], State]:
        """Matte frames one after the other."""
        mattes = []
        for frame in frames:
            picture = shrink(frame.pixels, self._ratio)
            # Two sets of states take turns; new memory for each would cost a
            # millisecond.
            before, after = state or (self._zeros, self._new_state())
            maps = self._step(picture, before, after)
            mattes.append(Matted.from_maps(frame, maps))
            state = after, before if state else self._new_state()
        return mattes, state

    def _step(self, picture: Floats, before: Any, after: Any) -> Floats:
        refined, model = self._ratio != 1, self._recurrent
        source = self._openvino.Tensor(picture[None], shared_memory=True)
        if self._mixed:
            self._encoder.set_input_tensor(0, source)
            self._encoder.infer()
        model.set_input_tensor(0, source)
        for index in range(4):
            model.set_input_tensor((4 if self._mixed else 1) + index, before[index])
            model.set_output_tensor(1 + index, after[index])
        if self._mixed:
            model.infer()
            return self._head(picture, model.get_output_tensor(0).data[0], refined)
        maps = np.empty((8 if refined else 4, *picture.shape[:2]), np.float32)
        output = self._openvino.Tensor(maps[None], shared_memory=True)
        model.set_output_tensor(0, output)
        model.infer()
        return maps

    def pack(self, state: State) -> list[Tensor]:
        """Copy a state into tensors (1, C, h, w)."""
        return [
            torch.from_numpy(each.data)
            .movedim(-1, 1)
            .clone(memory_format=torch.contiguous_format)
            for each in state[0]
        ]

    def unpack(self, tensors: list[Tensor]) -> State:
        """Make a state of what `pack` gave."""
        make = self._openvino.Tensor
        rows = [each.movedim(1, -1).contiguous().numpy() for each in tensors]
        return tuple(make(each.copy()) for each in rows), self._new_state()


def _fingerprint(coarse: Coarse) -> str:
    """Hash all that the converted models depend on."""
    digest = hashlib.sha256()
    versions = package_versions(("torch", "openvino"))
    digest.update(f"{coarse} {coarse.head.refined} {versions}".encode())
    # What the model is, and does.
    for part in ("encoders", "guided_filter", "matting_network", "parts"):
        with suppress(OSError):  # installed without its source
            path = Path(__file__).parents[1] / "network" / f"{part}.py"
            digest.update(path.read_bytes())
    for tensor in coarse.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
