"""Writes the graphs of the bundled weights into the package.

python tools/write_graph.py

A graph's constants are read from the files of the weights, so that the package stores
them once. Other constants go into a small file of their own. Tensors that two files
share are removed from one of them.
"""

import json
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save

from rematte.engines.convert_graph import convert
from rematte.engines.graph import ALL_BUNDLED, Graph
from rematte.engines.runtimes import import_openvino
from rematte.train.checkpoint import METADATA
from rematte.weights.checkpoint import read_metadata, read_state_dict
from rematte.weights.load import load_network


def main() -> None:
    for graph in ALL_BUNDLED:
        own, *shared, _ = graph.constants
        for other in shared:
            _leave_out(own, other)
        _write(graph)


def _leave_out(own: Path, other: Path) -> None:
    """Drop the tensors that another file holds too, bit for bit, and name them."""
    tensors, others = read_state_dict(own), read_state_dict(other)
    shared = sorted(
        name
        for name, tensor in tensors.items()
        if name in others and save({"": tensor}) == save({"": others[name]})
    )
    rest = {name: tensor for name, tensor in tensors.items() if name not in shared}
    facts = {"shared": " ".join(shared), "shared_with": other.name}
    facts = read_metadata(own) | facts
    own.write_bytes(save(rest, {METADATA: json.dumps(facts)}))


def _write(graph: Graph) -> None:
    *weights, rest = graph.constants
    stored = b"".join(path.read_bytes() for path in weights)
    openvino = import_openvino()
    model = convert(load_network(weights[0]))
    _store_as_float16(openvino, model, stored)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        tree = ElementTree.parse(path)
        constants = path.with_suffix(".bin").read_bytes()
    added = b""
    for data in tree.iter("data"):
        if "offset" not in data.attrib:
            continue
        begin, size = int(data.attrib["offset"]), int(data.attrib["size"])
        value = constants[begin : begin + size]
        place = _find(stored, value) if data.attrib["element_type"] == "f16" else -1
        if place < 0:
            place = len(stored) + len(added)
            added += value + b"\0" * (-size % 8)
        data.set("offset", str(place))
    root = tree.getroot()
    for info in root.findall("rt_info"):  # how the conversion was done
        root.remove(info)
    tree.write(graph.model, encoding="utf-8")
    rest.write_bytes(added)
    share = 1 - len(added) / len(constants)
    print(f"{graph.model}: {share:.2%} of the constants are in files of weights")


def _store_as_float16(openvino: Any, model: Any, stored: bytes) -> None:
    """Replace constants that the file of the weights holds in float16."""
    ops = openvino.opset13
    for node in model.get_ops():
        if node.get_type_name() != "Constant" or node.data.dtype != np.float32:
            continue
        short = node.data.astype(np.float16)
        if _find(stored, short.tobytes()) < 0:
            continue
        # Norms that hardly do anything were multiplied in, by channel.
        axes = tuple(range(1, short.ndim))
        exact = short.astype(np.float64)
        scale = (node.data * exact).sum(axes, keepdims=True)
        scale /= np.maximum((exact**2).sum(axes, keepdims=True), 1e-30)
        if not np.allclose(exact * scale, node.data, rtol=1e-6, atol=1e-12):
            continue
        value = ops.convert(ops.constant(short), "f32")
        if not np.allclose(scale, 1, rtol=1e-7, atol=0):
            value = ops.multiply(value, ops.constant(scale.astype(np.float32)))
        for use in node.output(0).get_target_inputs():
            use.replace_source_output(value.output(0))


def _find(stored: bytes, value: bytes) -> int:
    """Find numbers of two bytes, more than a few, in whole steps of two; or give -1."""
    place = stored.find(value) if len(value) >= 16 else -1
    while place % 2 and place > 0:
        place = stored.find(value, place + 1)
    return place


if __name__ == "__main__":
    main()
