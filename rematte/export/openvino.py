"""Exports to OpenVINO at a fixed size and ratio, with states outside or inside."""

from pathlib import Path
from typing import Any

import numpy as np

from rematte.engines.convert_graph import convert_module
from rematte.engines.runtimes import import_openvino, openvino_core
from rematte.export.fixed_shape import FixedSize, first_inputs
from rematte.export.formats import INPUTS, OUTPUTS, Floats, Request, States, Step
from rematte.network.matting_network import MattingNetwork


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the .xml file, and the weights to a .bin file beside it."""
    openvino = import_openvino()
    from openvino.passes import MakeStateful, Manager  # needs `import_openvino` first

    size, ratio = request.fixed
    inputs = first_inputs(network, size, ratio)
    step = FixedSize(network, size, ratio, samples="gather").eval()
    model = convert_module(step, inputs, INPUTS, OUTPUTS)
    pairs = zip(model.inputs, inputs, strict=True)
    model.reshape({entry: list(tensor.shape) for entry, tensor in pairs})
    if request.stateful:
        states = {f"r{n}i": f"r{n}o" for n in range(1, 5)}
        manager = Manager()
        manager.register_pass(MakeStateful(states))
        manager.run_passes(model)
    openvino.save_model(model, path, compress_to_fp16=request.precision == "float16")


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Return a step that runs the file in float32 arithmetic."""
    core = openvino_core()
    model = core.read_model(path)
    # By default, OpenVINO computes in bfloat16 where the processor can.
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    run: Any = compiled.create_infer_request()
    count = 0 if request.stateful else 4
    shapes = [compiled.input(name).shape for name in INPUTS[1 : 1 + count]]
    zeros = [np.zeros(shape, np.float32) for shape in shapes]

    def step(src: Floats, states: States) -> tuple[Floats, Floats, States]:
        if request.stateful and states is None:
            run.reset_state()
        given = src, *(zeros if states is None else states)
        found = run.infer(dict(zip(INPUTS, given, strict=False)))
        fgr, pha, *after = (found[name].copy() for name in OUTPUTS[: 2 + count])
        return fgr, pha, after

    return step
