"""Exports to CoreML's ML program (.mlpackage): images in and out, fixed size, ratio."""

import functools
import platform
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rematte.export.coreml.run_mlprogram import Program
from rematte.export.coreml.run_neuralnetwork import NeuralNetwork
from rematte.export.fixed_shape import FixedSize, exported, first_inputs, quiet
from rematte.export.formats import Floats, Request, States, Step
from rematte.network.matting_network import MattingNetwork

# Convolutions with fewer weights stay in 16 bits: they are 7 % of MobileNetV3, but
# cause most of the error of 8 bits.
LARGE = 20_000
_STATES = (1, 2, 3, 4)
# Maps inputs by name, and whether the frame is the first, to outputs by name.
_Predict = Callable[[dict[str, Floats], bool], dict[str, Floats]]


class Pictures(nn.Module):
    """Runs one step, with foreground and alpha in [0, 255] as in CoreML's images."""

    def __init__(self, network: MattingNetwork, request: Request) -> None:
        super().__init__()
        size, ratio = request.fixed
        self.step = FixedSize(network, size, ratio)

    def forward(
        self, src: Tensor, r1: Tensor, r2: Tensor, r3: Tensor, r4: Tensor
    ) -> tuple[Tensor, ...]:
        """Run one step; `src` is in [0, 1], CoreML scales it."""
        fgr, pha, *states = self.step(src, r1, r2, r3, r4)
        return fgr * 255, pha * 255, *states


class StatefulPictures(Pictures):
    """Runs one step like `Pictures`, with the states in buffers."""

    def __init__(self, network: MattingNetwork, request: Request) -> None:
        super().__init__(network, request)
        _, self.r1, self.r2, self.r3, self.r4 = map(
            nn.Buffer, first_inputs(network, *request.fixed)
        )

    def forward(self, src: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Run one step."""
        kept = self.r1, self.r2, self.r3, self.r4
        fgr, pha, *states = super().forward(src, *kept)
        for before, after in zip(kept, states, strict=True):
            before.copy_(after)
        return fgr, pha


def coremltools() -> Any:
    """Import coremltools without its warnings about other packages.

    TensorFlow and scikit-learn are hidden from it: it would import them to convert
    their models, which takes seconds.
    """
    unused = {"tensorflow", "sklearn"} - sys.modules.keys()
    sys.modules.update(dict.fromkeys(unused))  # type: ignore[arg-type]
    try:
        with quiet():
            return import_module("coremltools")
    finally:
        for name in unused:
            del sys.modules[name]


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the file."""
    ct = coremltools()
    if request.stateful and request.precision == "float32":
        raise ValueError(
            "CoreML keeps states in float16 only: use --precision float16 or int8 "
            "with --stateful"
        )
    exact = request.precision == "float32"
    target = ct.target.iOS18 if request.stateful else ct.target.iOS16
    model = convert(
        network, request, convert_to="mlprogram", minimum_deployment_target=target,
        compute_precision=ct.precision.FLOAT32 if exact else ct.precision.FLOAT16,
    )  # fmt: skip
    if request.precision == "int8":
        optimize = ct.optimize.coreml
        linear = optimize.OpLinearQuantizerConfig("linear", weight_threshold=LARGE)
        # Convolutions only: the matrices that may sample the frame are no weights.
        config = optimize.OptimizationConfig(op_type_configs={"conv": linear})
        with quiet():
            model = optimize.linear_quantize_weights(model, config)
    save(model, path)


def convert(network: MattingNetwork, request: Request, **options: Any) -> Any:
    """Convert a network, with the documented names of inputs and outputs.

    `options` are those of `coremltools.convert`.
    """
    ct = coremltools()
    src, *states = first_inputs(network, *request.fixed)
    inputs = [
        ct.ImageType("src", src.shape, scale=1 / 255, color_layout=ct.colorlayout.RGB)
    ]
    single = functools.partial(ct.TensorType, dtype=np.float32)
    outputs = [single("fgr"), single("pha")]
    if request.stateful:
        program = exported(StatefulPictures(network, request), (src,))
        options["states"] = [
            ct.StateType(ct.TensorType(shape=state.shape, dtype=np.float16), f"r{n}")
            for n, state in zip(_STATES, states, strict=True)
        ]
    else:
        program = exported(Pictures(network, request), (src, *states))
        # With default values, the first frame needs no states.
        inputs += [
            single(
                f"r{n}i", state.shape, default_value=np.zeros(state.shape, np.float32)
            )
            for n, state in zip(_STATES, states, strict=True)
        ]
        outputs += [single(f"r{n}o") for n in _STATES]
    with quiet():
        return ct.convert(
            program, inputs=inputs, outputs=outputs, skip_model_load=True, **options
        )


def save(model: Any, path: Path) -> None:
    """Save a model with an RGB image as foreground and a gray one as alpha."""
    ct = coremltools()
    spec = model.get_spec()
    # `ct.ImageType` in `convert` would break the neural network.
    image = ct.proto.FeatureTypes_pb2.ImageFeatureType
    frame = spec.description.input[0].type.imageType
    size = {"width": frame.width, "height": frame.height}
    fgr, pha = spec.description.output[:2]
    fgr.type.imageType.CopyFrom(image(colorSpace=image.RGB, **size))
    pha.type.imageType.CopyFrom(image(colorSpace=image.GRAYSCALE, **size))
    ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True).save(
        str(path)
    )


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Return a step that runs the file, by CoreML on a Mac."""
    ct = coremltools()
    model = ct.models.MLModel(str(path), skip_model_load=True)
    mac = platform.system() == "Darwin"
    run = _coreml(model, request) if mac else interpreter(model)

    def step(src: Floats, states: States) -> tuple[Floats, Floats, States]:
        given: dict[str, Any] = {"src": src * np.float32(255)}
        if states:
            given |= {f"r{n}i": state for n, state in zip(_STATES, states, strict=True)}
        found = run(given, states is None)
        fgr, pha = found["fgr"] / np.float32(255), found["pha"] / np.float32(255)
        return fgr, pha, [found[f"r{n}o"] for n in _STATES if not request.stateful]

    return step


def interpreter(model: Any) -> _Predict:
    """Return a function that predicts without CoreML."""
    spec = model.get_spec()
    defaults = {
        entry.name: torch.full(
            tuple(entry.type.multiArrayType.shape),
            entry.type.multiArrayType.floatDefaultValue,
        )
        for entry in spec.description.input
        if entry.type.isOptional
    }
    is_program = spec.WhichOneof("Type") == "mlProgram"
    program = Program(model) if is_program else NeuralNetwork(model)

    def run(given: dict[str, Floats], first: bool) -> dict[str, Floats]:
        if isinstance(program, Program) and first:
            program.states.clear()
        inputs = {name: torch.from_numpy(array) for name, array in given.items()}
        with torch.inference_mode():
            found = program.run(defaults | inputs)
        return {name: value.numpy() for name, value in found.items()}

    return run


def _coreml(model: Any, request: Request) -> _Predict:
    """Return a function that predicts by CoreML, with arrays: images have 8 bits."""
    ct = coremltools()
    spec = model.get_spec()
    arrays = ct.proto.FeatureTypes_pb2.ArrayFeatureType
    for entry in (spec.description.input[0], *spec.description.output[:2]):
        image = entry.type.imageType
        shape = 1, 1 if entry.name == "pha" else 3, image.height, image.width
        array = arrays(shape=shape, dataType=arrays.FLOAT32)
        entry.type.multiArrayType.CopyFrom(array)
    # A program scales its input itself; for a neural network CoreML scales images.
    scale = np.float32(1)
    if spec.WhichOneof("Type") == "neuralNetwork":
        scale = np.float32(spec.neuralNetwork.preprocessing[0].scaler.channelScale)
        del spec.neuralNetwork.preprocessing[:]
    with quiet():
        copy = ct.models.MLModel(
            spec, weights_dir=model.weights_dir, compute_units=ct.ComputeUnit.CPU_ONLY
        )
    kept: Any = None

    def run(given: dict[str, Floats], first: bool) -> dict[str, Floats]:
        nonlocal kept
        given = given | {"src": given["src"] * scale}
        if not request.stateful:
            return dict(copy.predict(given))
        kept = copy.make_state() if first else kept
        return dict(copy.predict(given, state=kept))

    return run
