"""Exports TensorFlow.js's graph model for `tf.loadGraphModel`: any size and ratio.

A folder with `model.json`, which holds the graph, and the weights in shards. Inputs and
outputs are called as documented; states start as scalar zeros.

float16 and int8 are how the weights are stored; TensorFlow.js computes in float32. int8
are the large kernels, whose scales, one for each channel, are multiplied in the graph:
the format itself knows one for a whole kernel, and that loses ten times as much.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from numpy.typing import NDArray
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from rematte.export.formats import SMALLEST_INT8, Request, Step
from rematte.export.tensorflow.network import INPUTS, OUTPUTS
from rematte.export.tensorflow.saved_model import carried_over, function, step_of
from rematte.network.matting_network import MattingNetwork
from rematte.version import __version__

_SHARD = 4 << 20  # bytes; what a browser's cache takes
_SMALLEST_FLOAT16 = 16  # elements; smaller constants belong to the arithmetic


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the file."""
    carried = carried_over(network)  # a trace does not keep its variables alive
    traced = function(carried).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced)
    graph = frozen.graph.as_graph_def()
    # Nodes behind the outputs only wait for all variables to be read.
    kept = [node for node in graph.node if not any("^" in name for name in node.input)]
    graph = GraphDef(node=kept, versions=graph.versions)
    if request.precision == "int8":
        graph = _with_int8_kernels(graph)
    manifest, data = _take_weights(graph, request.precision)
    path.mkdir()
    pieces = [data[at : at + _SHARD] for at in range(0, len(data), _SHARD)]
    names = [f"group1-shard{n}of{len(pieces)}.bin" for n in range(1, len(pieces) + 1)]
    for name, piece in zip(names, pieces, strict=True):
        (path / name).write_bytes(piece)
    model = {
        "format": "graph-model",
        "generatedBy": tf.__version__,
        "convertedBy": f"rematte {__version__}",
        "signature": {"inputs": _entries(INPUTS), "outputs": _entries(OUTPUTS)},
        "modelTopology": json_format.MessageToDict(graph),
        "weightsManifest": [{"paths": names, "weights": manifest}],
    }
    (path / "model.json").write_text(json.dumps(model))


def _entries(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: {"name": f"{name}:0", "dtype": "DT_FLOAT"} for name in names}


def _with_int8_kernels(graph: GraphDef) -> GraphDef:
    """Replace each large kernel by integers times a scale per channel."""
    result = GraphDef(versions=graph.versions)
    for node in graph.node:
        if not _is_large_kernel(node):
            result.node.append(node)
            continue
        value = tf.make_ndarray(node.attr["value"].tensor)
        # The channels of a depthwise kernel are its third dimension.
        others = (0, 1) if value.shape[3] == 1 else (0, 1, 2)
        scale = np.abs(value).max(others, keepdims=True) / np.float32(127)
        scale[scale == 0] = 1
        parts = {"int8": np.round(value / scale), "scale": scale}
        for name, part in parts.items():
            result.node.append(_constant(f"{node.name}/{name}", part))
        product = NodeDef(name=node.name, op="Mul")
        product.input.extend(f"{node.name}/{name}" for name in parts)
        product.attr["T"].type = tf.float32.as_datatype_enum
        result.node.append(product)
    return result


def _is_large_kernel(node: NodeDef) -> bool:
    if node.op != "Const":
        return False
    shape = [side.size for side in node.attr["value"].tensor.tensor_shape.dim]
    return len(shape) == 4 and int(np.prod(shape)) >= SMALLEST_INT8


def _constant(name: str, value: NDArray[Any]) -> NodeDef:
    node = NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.float32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return node


def _take_weights(
    graph: GraphDef, precision: str
) -> tuple[list[dict[str, Any]], bytes]:
    """Remove the constants from a graph, and return their manifest and bytes."""
    manifest = []
    data = []
    for node in graph.node:
        if node.op != "Const":
            continue
        tensor = node.attr["value"].tensor
        value = tf.make_ndarray(tensor)
        shape = tensor.tensor_shape
        tensor.Clear()
        tensor.dtype = node.attr["dtype"].type
        tensor.tensor_shape.CopyFrom(shape)
        entry = {
            "name": node.name,
            "shape": list(value.shape),
            "dtype": value.dtype.name,
        }
        if node.name.endswith("/int8"):
            entry["quantization"] = {"dtype": "uint8", "scale": 1.0, "min": -128.0}
            value = (value + 128).astype(np.uint8)
        elif (
            precision == "float16"
            and value.dtype == np.float32
            and value.size >= _SMALLEST_FLOAT16
        ):
            entry["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
            value = value.astype(np.float16)
        manifest.append(entry)
        data.append(value.tobytes())
    return manifest, b"".join(data)


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Return a step that runs the files in TensorFlow.

    This checks graph, names and stored weights. The tests run the files in
    TensorFlow.js, in Node and in a browser.
    """
    model = json.loads((path / "model.json").read_text())
    graph = json_format.ParseDict(model["modelTopology"], GraphDef())
    weights = _read_weights(path, *model["weightsManifest"])
    for node in graph.node:
        if node.op == "Const":
            proto = tf.make_tensor_proto(weights[node.name])
            node.attr["value"].tensor.CopyFrom(proto)
    everything = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph, name=""), []
    )
    find = everything.graph.as_graph_element
    run = everything.prune(
        [find(f"{name}:0") for name in INPUTS],
        {name: find(f"{name}:0") for name in OUTPUTS},
    )
    return step_of(lambda inputs: run(*inputs), ratio)


def _read_weights(path: Path, group: dict[str, Any]) -> dict[str, NDArray[Any]]:
    data = b"".join((path / name).read_bytes() for name in group["paths"])
    weights = {}
    at = 0
    for entry in group["weights"]:
        how = entry.get("quantization", {})
        stored = np.dtype(how.get("dtype", entry["dtype"]))
        count = int(np.prod(entry["shape"]))
        value = np.frombuffer(data, stored, count, at).reshape(entry["shape"])
        at += value.nbytes
        if "scale" in how:
            value = value * np.float32(how["scale"]) + np.float32(how["min"])
        weights[entry["name"]] = value.astype(entry["dtype"])
    if at != len(data):
        raise ValueError(f"{path}: {len(data)} bytes of weights, but {at} are listed")
    return weights
