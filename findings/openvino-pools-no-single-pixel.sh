#!/bin/sh
# Expected: AveragePool by 2 with ceil_mode=1 maps one pixel to one, as it maps three to two,
# where the last window is also cut off. ONNX Runtime and torch do. Actual: OpenVINO accepts
# three pixels and refuses one, so a pyramid of maps that works at every size elsewhere
# fails for small pictures.
# Source: ONNX operators, AveragePool (ceil_mode).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet \
	numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1
ORT_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnx.helper as make
import onnxruntime
import openvino

FLOAT = 1


def pool(side):
    ends = [
        make.make_tensor_value_info(name, FLOAT, [1, 1, size, size])
        for name, size in (("x", side), ("y", -(-side // 2)))
    ]
    node = make.make_node(
        "AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1
    )
    graph = make.make_graph([node], "pool", ends[:1], ends[1:])
    opset = make.make_opsetid("", 19)
    return make.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


print("onnxruntime", onnxruntime.__version__, "openvino", openvino.__version__)
found, refused = {}, {}
for side in (3, 1):
    x = np.arange(1, 1 + side * side, dtype=np.float32).reshape(1, 1, side, side)
    found[side] = onnxruntime.InferenceSession(pool(side)).run(None, {"x": x})[0].ravel()
    print(f"ONNX Runtime, {side}x{side}:", found[side])
    core = openvino.Core()
    try:
        made = core.compile_model(core.read_model(pool(side)), "CPU")([x])[0].ravel()
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if "larger than" in line]
        refused[side] = lines[0] if lines else ""
        print(f"OpenVINO, {side}x{side}:", refused[side])
    else:
        print(f"OpenVINO, {side}x{side}:", made)
as_met = found[3][-1] == 9 and found[1][-1] == 1 and refused.keys() == {1}
as_met = as_met and "larger than the data shape" in refused[1]
print("as met" if as_met else "this has changed")
sys.exit(not as_met)
PYTHON
