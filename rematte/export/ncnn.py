"""Exports to ncnn by pnnx: .ncnn.param, and weights in .ncnn.bin; one size."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from rematte.errors import OutputError
from rematte.export.fixed_shape import FixedSize, exported, first_inputs, quiet
from rematte.export.formats import INPUTS, OUTPUTS, Floats, Request, Step, as_step
from rematte.network.matting_network import MattingNetwork


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the file."""
    import pnnx

    size, ratio = request.fixed
    inputs = first_inputs(network, size, ratio)
    # ncnn cannot gather, and its resize computes positions in float64: at 1280x720 and
    # ratio 0.375 alpha differed by 1.0e-4. Matrices give 1.6e-5, for 16% more time.
    fixed = FixedSize(network, size, ratio, samples="multiply")
    step = exported(fixed, inputs).module()
    with quiet(), tempfile.TemporaryDirectory() as folder:
        torch.jit.trace(step, inputs, check_trace=False).save(f"{folder}/net.pt")
        shapes = ",".join(f"{list(t.shape)}f32".replace(" ", "") for t in inputs)
        half = int(request.precision == "float16")
        command = [pnnx.EXEC_PATH, "net.pt", f"inputshape={shapes}", f"fp16={half}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        param, weights = Path(folder, "net.ncnn.param"), Path(folder, "net.ncnn.bin")
        if done.returncode or not weights.is_file():
            raise OutputError(f"pnnx failed: {done.stderr.strip().splitlines()[-1:]}")
        path.write_text(_named(param.read_text(), inputs))
        path.with_suffix(".bin").write_bytes(weights.read_bytes())


def _named(param: str, inputs: tuple[torch.Tensor, ...]) -> str:
    """Rename inputs and outputs as documented, and add the inputs' shapes."""
    names = {f"in{n}": name for n, name in enumerate(INPUTS)}
    names |= {f"out{n}": name for n, name in enumerate(OUTPUTS)}
    shapes = {
        name: f"0={tensor.shape[3]} 1={tensor.shape[2]} 2={tensor.shape[1]}"
        for name, tensor in zip(INPUTS, inputs, strict=True)
    }
    lines = []
    for line in param.splitlines():
        words = [names.get(word, word) for word in line.split()]
        if words[0] == "Input":
            words.append(shapes[words[1]])
        lines.append(" ".join(words))
    return "\n".join(lines) + "\n"


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Return a step that runs the file."""
    import ncnn

    net = ncnn.Net()
    # By default, ncnn computes in 16 bits where the processor can.
    net.opt.use_fp16_arithmetic = net.opt.use_fp16_storage = False
    net.opt.use_fp16_packed = net.opt.use_bf16_storage = False
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise OutputError(f"ncnn cannot read {path}")
    zeros = [np.zeros(shape, np.float32) for shape in _state_shapes(path.read_text())]

    def run(*given: Floats) -> list[Floats]:
        once = net.create_extractor()
        for name, array in zip(INPUTS, given, strict=True):
            # `Mat` neither copies an array nor keeps it alive.
            planes = np.ascontiguousarray(array[0])
            once.input(name, ncnn.Mat(planes).clone())
        return [np.array(once.extract(name)[1])[None] for name in OUTPUTS]

    return as_step(run, zeros)


def _state_shapes(param: str) -> list[tuple[int, ...]]:
    """Return the shapes (1, C, H, W) of r1 to r4."""
    shapes: list[tuple[int, ...]] = []
    for line in param.splitlines():
        words = line.split()
        if words[0] == "Input" and words[1] != "src":
            width, height, channels = (int(word[2:]) for word in words[-3:])
            shapes.append((1, channels, height, width))
    return shapes
