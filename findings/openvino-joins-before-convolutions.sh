#!/bin/sh
# Expected: a convolution of concatenated maps, as in every U-Net, costs no more than the
# sum of the convolutions of each, since the arithmetic is the same. Actual: on a CPU,
# OpenVINO concatenates channels that are last in memory with its reference code, or
# converts all maps to another layout and back. But it fuses the addition of two
# convolutions into the second one, without a node of its own, so the sum is faster.
# Source: OpenVINO's runtime model and its profile.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 openvino==2026.4.1
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from time import perf_counter

import numpy as np
import openvino
from openvino import opset13 as ops

SIZE = 272, 480
draw = np.random.default_rng(0)
kernel = draw.standard_normal((16, 35, 3, 3), np.float32) / 18
parts = [draw.random((1, count, *SIZE), np.float32) for count in (32, 3)]


def convolve(x, weights):
    edge = [weights.shape[2] // 2] * 2
    return ops.convolution(x, weights, [1, 1], edge, edge, [1, 1])


def model(joined):
    inputs = [ops.parameter(part.shape, np.float32) for part in parts]
    # As in a network, what is joined comes from convolutions.
    kernels = [np.eye(x.shape[1], dtype=np.float32)[..., None, None] for x in inputs]
    maps = [ops.relu(convolve(x, k)) for x, k in zip(inputs, kernels, strict=True)]
    if joined:
        out = convolve(ops.concat(maps, 1), kernel)
    else:
        out = ops.add(convolve(maps[0], kernel[:, :32]), convolve(maps[1], kernel[:, 32:]))
    return openvino.Model([ops.relu(out)], inputs)


print("openvino", openvino.__version__)
core, made, nodes, fastest = openvino.Core(), [], [], []
for joined in (True, False):
    request = core.compile_model(
        model(joined), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    ).create_infer_request()
    times = []
    for _ in range(30):
        begin = perf_counter()
        made.append(request.infer(parts)[0].copy())
        times.append(perf_counter() - begin)
    runtime = request.get_compiled_model().get_runtime_model().get_ops()
    kinds = [
        f"{op.get_rt_info()['layerType'].astype(str)} "
        f"{op.get_rt_info()['primitiveType'].astype(str)}"
        for op in runtime
    ]
    nodes.append([kind for kind in kinds if not kind.startswith(("Input", "Output", "Const"))])
    fastest.append(min(times) * 1e3)
    print("joined:" if joined else "added: ", f"{fastest[-1]:.2f} ms;", ", ".join(nodes[-1]))
same = np.abs(made[0] - made[-1]).max() < 1e-4
slow = any(kind.startswith("Concatenation") for kind in nodes[0])
free = not any(kind.startswith(("Eltwise", "Subgraph")) for kind in nodes[1])
as_met = same and slow and free and fastest[1] < fastest[0]
print("as met" if as_met else "this has changed")
sys.exit(not as_met)
PYTHON
