"""Write what the page in web/ loads: two models, a few frames to check them, a clip.

The ONNX file is a copy for browsers of what `rematte export onnx` writes:

- The native WebGPU build of ONNX Runtime Web 1.30 computes convolutions wrongly, with no
  word, where the number of input channels is not a multiple of four. So channels of
  zeros are added where needed; they change no sum.
- The weights are stored in 16 bits and made float32 on loading: half the download.
  They lose nothing, since the bundled weights are float16.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rematte import load_model
from rematte.export import export
from rematte.export.parity import real_frames
from rematte.network import MattingNetwork

ROOT = Path(__file__).parents[1]
# Of the frames by which the page checks a model: height, width, how many, ratio.
_CHECK = (96, 160, 3, 0.5)
_SMALLEST = 16  # elements of a weight that is stored in 16 bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default=None, help="as of rematte convert")
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "web/public")
    words = parser.parse_args()
    network = load_model(weights=words.weights) if words.weights else load_model()
    models = words.folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    export(network, "tfjs", models / "tfjs", precision="float16", overwrite=True)
    export(network, "onnx", models / "network.onnx", overwrite=True)
    for_browsers(models / "network.onnx")
    write_check(network, models / "check.json")
    shutil.copyfile(ROOT / "demo" / "clip.mp4", words.folder / "sample.mp4")


def write_check(network: MattingNetwork, path: Path) -> None:
    """Write frames and the alpha that the last of them has to get.

    Args:
        network: In float32, on the CPU.
        path: Of the JSON file: "frames", a list of RGB bytes; "alpha", of 0 to 255.
    """
    height, width, count, ratio = _CHECK
    frames = [
        np.moveaxis(src[0] * 255, 0, -1).round().astype(np.uint8)
        for src in real_frames((height, width), count)
    ]
    rec: list[Any] = [None] * 4
    for frame in frames:
        src = torch.from_numpy(frame).movedim(-1, 0)[None] / 255
        with torch.inference_mode():
            _, pha, *rec = network(src, *rec, ratio)
    check = {
        "width": width,
        "height": height,
        "ratio": ratio,
        "frames": [frame.ravel().tolist() for frame in frames],
        "alpha": (pha * 255).round().to(torch.uint8).ravel().tolist(),
    }
    path.write_text(json.dumps(check, separators=(",", ":")))


def for_browsers(path: Path) -> None:
    """Change an ONNX file of any size in place; see the module."""
    import onnx

    model = onnx.load(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    _pad_channels(model.graph, weights)
    _store_in_16_bits(model.graph, weights)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _pad_channels(graph: Any, weights: dict[str, Any]) -> None:
    """Add channels of zeros to what convolutions read, up to a multiple of four."""
    from onnx import helper, numpy_helper

    nodes = []
    for node in graph.node:
        groups = [each.i for each in node.attribute if each.name == "group"]
        if node.op_type == "Conv" and groups in ([], [1]):
            kernel = numpy_helper.to_array(weights[node.input[1]])
            more = -kernel.shape[1] % 4
            if more:
                kernel = np.pad(kernel, ((0, 0), (0, more), (0, 0), (0, 0)))
                weights[node.input[1]].CopyFrom(
                    numpy_helper.from_array(kernel, node.input[1])
                )
                pads = f"{node.name}/pads"
                padded = f"{node.name}/padded"
                values = np.array([0, 0, 0, 0, 0, more, 0, 0])
                graph.initializer.append(numpy_helper.from_array(values, pads))
                nodes.append(helper.make_node("Pad", [node.input[0], pads], [padded]))
                node.input[0] = padded
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _store_in_16_bits(graph: Any, weights: dict[str, Any]) -> None:
    """Halve the file; the runtime makes float32 of it once, when it loads it."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for name, tensor in weights.items():
        value = numpy_helper.to_array(tensor)
        if value.dtype != np.float32 or value.size < _SMALLEST:
            continue
        stored = numpy_helper.from_array(value.astype(np.float16), f"{name}.float16")
        tensor.CopyFrom(stored)
        casts.append(helper.make_node("Cast", [stored.name], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)


if __name__ == "__main__":
    main()
