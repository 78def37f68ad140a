"""Exports to OpenVINO at a fixed size and ratio, with states outside or inside."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = FixedSize(network, size, ratio, samples="gather").eval()
        program = torch.jit.trace(step, inputs, check_trace=False)
        model = openvino.convert_model(program, example_input=inputs)
    model.reshape(
        {
            entry: list(tensor.shape)
            for entry, tensor in zip(model.inputs, inputs, strict=True)
        }
    )
    for entry, name in zip(model.inputs, INPUTS, strict=True):
        entry.set_names({name})
    for entry, name in zip(model.outputs, OUTPUTS, strict=True):
        entry.set_names({name})
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

    def step(src: Floats, states: States) -> tuple[Floats, Floats, States]:
        given = {"src": src}
        if request.stateful:
            if states is None:
                run.reset_state()
        else:
            for n in range(1, 5):
                shape = compiled.input(f"r{n}i").shape
                given[f"r{n}i"] = (
                    states[n - 1] if states else np.zeros(shape, np.float32)
                )
        found = run.infer(given)
        after = () if request.stateful else OUTPUTS[2:]
        return (
            found["fgr"].copy(),
            found["pha"].copy(),
            [found[name].copy() for name in after],
        )

    return step
