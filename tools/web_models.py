"""Write the files that the page in web/ loads: two networks with checks, and a clip.

Each network is written for both runtimes. The ONNX file is a copy for browsers of what
`rematte export onnx` writes:

- The native WebGPU build of ONNX Runtime Web 1.30 silently computes wrong convolutions
  if the number of input channels is not a multiple of four. So channels of zeros are
  added there, which do not change the result.
- Weights are stored in 16 bits and converted to float32 on loading, which halves the
  download.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from rematte.export import onnx as onnx_format
from rematte.export.formats import Request
from rematte.export.tensorflow import tfjs
from rematte.export.verify import real_frames, true_outputs
from rematte.network.matting_network import MattingNetwork
from rematte.weights.load import load_network
from rematte.weights.registry import DEFAULT, FAST

ROOT = Path(__file__).parents[1]
# Of the frames by which the page checks a model: height, width, how many, ratio.
_CHECK = (96, 160, 3, 0.5)
_SMALLEST = 16  # elements of a weight that is stored in 16 bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, weights in (("fine", DEFAULT), ("fast", FAST)):
        parser.add_argument(
            f"--{name}", default=weights, help="name or file of weights"
        )
    given = vars(parser.parse_args())
    public = ROOT / "web" / "public"
    shutil.rmtree(public / "models", ignore_errors=True)
    shutil.copyfile(ROOT / "demo" / "clip.mp4", public / "sample.mp4")
    for name, weights in given.items():
        write(load_network(weights), public / "models" / name)


def write(network: MattingNetwork, folder: Path) -> None:
    """Write a network's models and its check."""
    folder.mkdir(parents=True)
    tfjs.write(network, folder / "tfjs", Request("float16"))
    onnx_format.write(network, folder / "network.onnx", Request())
    for_browsers(folder / "network.onnx")
    write_check(network, folder / "check.json")  # last: make takes it for all of them


def write_check(network: MattingNetwork, path: Path) -> None:
    """Write frames, as RGB bytes, and the alpha that the last of them has to get."""
    height, width, count, ratio = _CHECK
    seen = list(true_outputs(network, real_frames((height, width), count), ratio))
    check = {
        "width": width,
        "height": height,
        "ratio": ratio,
        "frames": [_bytes(np.moveaxis(each.src[0], 0, -1)) for each in seen],
        "alpha": _bytes(seen[-1].pha),
    }
    path.write_text(json.dumps(check, separators=(",", ":")))


def _bytes(values: np.ndarray[Any, Any]) -> list[int]:
    return [int(value) for value in (values * 255).round().ravel()]


def for_browsers(path: Path) -> None:
    """Change an ONNX file in place; see the module."""
    import onnx

    model = onnx.load(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        nodes += [*_padding(node, model.graph, weights), node]
    del model.graph.node[:]
    model.graph.node.extend(_casts(weights) + nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _padding(node: Any, graph: Any, weights: dict[str, Any]) -> list[Any]:
    """Give what a convolution's input needs to be padded, and widen its kernel."""
    from onnx import helper, numpy_helper

    groups = [each.i for each in node.attribute if each.name == "group"]
    if node.op_type != "Conv" or groups not in ([], [1]):
        return []
    picture, name = node.input[:2]
    kernel = numpy_helper.to_array(weights[name])
    more = -kernel.shape[1] % 4
    if not more:
        return []
    kernel = np.pad(kernel, ((0, 0), (0, more), (0, 0), (0, 0)))
    weights[name].CopyFrom(numpy_helper.from_array(kernel, name))
    pads, node.input[0] = f"{name}.pads", f"{name}.padded"
    sides = np.array([0, 0, 0, 0, 0, more, 0, 0])
    graph.initializer.append(numpy_helper.from_array(sides, pads))
    return [helper.make_node("Pad", [picture, pads], [node.input[0]])]


def _casts(weights: dict[str, Any]) -> list[Any]:
    """Store weights in 16 bits; give what makes float32 of them."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for name, tensor in weights.items():
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size >= _SMALLEST:
            half = numpy_helper.from_array(value.astype(np.float16), f"{name}.float16")
            tensor.CopyFrom(half)
            casts.append(
                helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT)
            )
    return casts


if __name__ == "__main__":
    main()
