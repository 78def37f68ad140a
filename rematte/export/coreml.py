"""CoreML's ML program (.mlpackage): pictures in and out, at a fixed size and ratio."""

import functools
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rematte.export.fixed import FixedSize, exported, first_inputs
from rematte.export.formats import Floats, Request, States, Step
from rematte.export.layers import NeuralNetwork
from rematte.export.mil import Program
from rematte.network import MattingNetwork

_STATES = (1, 2, 3, 4)


class Pictures(nn.Module):
    """One step with foreground and alpha in [0, 255], as CoreML's images hold them.

    Args:
        network: Whose parameters it shares.
        request: What the file is to hold.
    """

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
    """The same, with the states kept in here."""

    def __init__(self, network: MattingNetwork, request: Request) -> None:
        super().__init__(network, request)
        _, *states = first_inputs(network, *request.fixed)
        for n, state in zip(_STATES, states, strict=True):
            self.register_buffer(f"r{n}", state)

    def forward(self, src: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Run one step."""
        fgr, pha, *states = super().forward(src, self.r1, self.r2, self.r3, self.r4)
        for n, state in zip(_STATES, states, strict=True):
            getattr(self, f"r{n}").copy_(state)
        return fgr, pha


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write it."""
    import coremltools as ct

    if request.stateful and request.precision == "float32":
        raise ValueError(
            "CoreML keeps states in float16 only: use --precision float16 or int8 "
            "with --stateful"
        )
    exact = request.precision == "float32"
    precision = ct.precision.FLOAT32 if exact else ct.precision.FLOAT16
    target = ct.target.iOS18 if request.stateful else ct.target.iOS16
    model = convert(
        network,
        request,
        convert_to="mlprogram",
        compute_precision=precision,
        minimum_deployment_target=target,
    )
    if request.precision == "int8":
        linear = ct.optimize.coreml.OpLinearQuantizerConfig("linear_symmetric")
        model = ct.optimize.coreml.linear_quantize_weights(
            # Only these: matrices that sample the frame are no weights.
            model,
            ct.optimize.coreml.OptimizationConfig(op_type_configs={"conv": linear}),
        )
    save(model, path)


def convert(network: MattingNetwork, request: Request, **options: Any) -> Any:
    """Convert with the documented names.

    Args:
        network: To convert.
        request: What the file is to hold.
        options: Of `coremltools.convert`.
    """
    import coremltools as ct

    src, *states = first_inputs(network, *request.fixed)
    inputs = [
        ct.ImageType(
            "src", src.shape, scale=1 / 255, color_layout=ct.colorlayout.RGB
        )
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
        # With a value to begin with, the first frame needs none.
        inputs += [
            single(
                f"r{n}i", state.shape, default_value=np.zeros(state.shape, np.float32)
            )
            for n, state in zip(_STATES, states, strict=True)
        ]
        outputs += [single(f"r{n}o") for n in _STATES]
    return ct.convert(
        program, inputs=inputs, outputs=outputs, skip_model_load=True, **options
    )


def save(model: Any, path: Path) -> None:
    """Write it, its foreground an RGB image and its alpha a gray one."""
    import coremltools as ct

    spec = model.get_spec()
    # Not by `ct.ImageType` in `convert`: that breaks the neural network.
    image = ct.proto.FeatureTypes_pb2.ImageFeatureType
    spaces = {"fgr": image.RGB, "pha": image.GRAYSCALE}
    frame = spec.description.input[0].type.imageType
    for entry in spec.description.output:
        if entry.name in spaces:
            entry.type.imageType.CopyFrom(
                image(
                    width=frame.width,
                    height=frame.height,
                    colorSpace=spaces[entry.name],
                )
            )
    ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True).save(
        str(path)
    )


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Give a step that runs what was written: by CoreML where there is one."""
    run = _predictor(path, request)

    def step(src: Floats, states: States) -> tuple[Floats, Floats, States]:
        given = {"src": src * np.float32(255)}
        if states:
            given |= {f"r{n}i": state for n, state in zip(_STATES, states, strict=True)}
        found = run(given, states is None)
        after = () if request.stateful else [found[f"r{n}o"] for n in _STATES]
        return found["fgr"] / 255, found["pha"] / 255, after

    return step


def _predictor(
    path: Path, request: Request
) -> Callable[[dict[str, Floats], bool], dict[str, Floats]]:
    """A function from inputs by name, and whether they are the first, to outputs."""
    import coremltools as ct

    model = ct.models.MLModel(str(path), skip_model_load=True)
    if platform.system() == "Darwin":
        return _coreml(model, request)
    spec = model.get_spec()
    is_program = spec.WhichOneof("Type") == "mlProgram"
    interpreter = Program(model) if is_program else NeuralNetwork(model)
    defaults = {
        entry.name: torch.full(
            tuple(entry.type.multiArrayType.shape),
            entry.type.multiArrayType.floatDefaultValue,
        )
        for entry in spec.description.input
        if entry.type.isOptional
    }

    def run(given: dict[str, Floats], first: bool) -> dict[str, Floats]:
        if first and is_program:
            interpreter.states.clear()
        inputs = {name: torch.from_numpy(array) for name, array in given.items()}
        with torch.inference_mode():
            found = interpreter.run(defaults | inputs)
        return {name: value.numpy() for name, value in found.items()}

    return run


def _coreml(
    model: Any, request: Request
) -> Callable[[dict[str, Floats], bool], dict[str, Floats]]:
    """Predict with a copy whose pictures are arrays: images are rounded to 8 bits."""
    import coremltools as ct

    spec = model.get_spec()
    for entry in (spec.description.input[0], *spec.description.output[:2]):
        image = entry.type.imageType
        channels = 1 if entry.name == "pha" else 3
        array = ct.proto.FeatureTypes_pb2.ArrayFeatureType(
            shape=(1, channels, image.height, image.width),
            dataType=ct.proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32,
        )
        entry.type.multiArrayType.CopyFrom(array)
    copy = ct.models.MLModel(
        spec, weights_dir=model.weights_dir, compute_units=ct.ComputeUnit.CPU_ONLY
    )
    kept: Any = None

    def run(given: dict[str, Floats], first: bool) -> dict[str, Floats]:
        nonlocal kept
        if not request.stateful:
            return dict(copy.predict(given))
        kept = copy.make_state() if first else kept
        return dict(copy.predict(given, state=kept))

    return run
