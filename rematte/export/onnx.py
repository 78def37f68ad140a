"""ONNX with the documented inputs and outputs, for any size and ratio or one of each.

torch exports the network's two parts that hold weights and do not depend on the ratio:
the recurrent core and the fit of the guided filter. The few operators around them are
written here in ONNX's text format.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rematte.engines.runtimes import import_onnxruntime
from rematte.export.fixed_shape import first_inputs, in_precision, sampling
from rematte.export.formats import SMALLEST_INT8, Floats, Request, Step, as_step
from rematte.network.matting_network import MattingNetwork
from rematte.network.parts import CoarseDecoder, CoarseEncoder

# The lowest that torch's exporter writes, and the first file version that may hold it.
OPSET, _IR = 18, 8
_BILINEAR = 'Resize <mode = "linear", coordinate_transformation_mode = "half_pixel">'


class _Core(nn.Module):
    """Everything that runs at the downsampled size, except the guided filter."""

    def __init__(self, network: MattingNetwork) -> None:
        super().__init__()
        self.encoder = CoarseEncoder(network)
        self.decoder = CoarseDecoder(network)
        self.project = network.project_mat

    def forward(
        self, picture: Tensor, r1: Tensor, r2: Tensor, r3: Tensor, r4: Tensor
    ) -> tuple[Tensor, ...]:
        features = self.encoder(picture)
        hidden, *states = self.decoder(picture, *features, r1, r2, r3, r4)
        return self.project(hidden), hidden, *states


class _Filter(nn.Module):
    """The fit of the guided filter: its slopes, followed by its intercepts."""

    def __init__(self, network: MattingNetwork) -> None:
        super().__init__()
        self.refiner = network.refiner

    def forward(self, picture: Tensor, coarse: Tensor, hidden: Tensor) -> Tensor:
        return torch.cat(self.refiner(picture, coarse, hidden), 1)


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the file."""
    import onnx

    half = request.precision == "float16"
    network = in_precision(network, "float16" if half else "float32")
    module: Any
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # which the exporter would take long to undo
    free = request.size is None
    # A free model is traced with an arbitrary size and ratio.
    (height, width), ratio = ((97, 161), 1.0) if free else request.fixed
    src, *states = first_inputs(network, (height, width), ratio)
    inputs = [src[..., : int(height * ratio), : int(width * ratio)], *states]
    if free:  # two clips: torch would make a batch of one a constant
        inputs = [tensor.repeat(2, 1, 1, 1) for tensor in inputs]
    core = _Core(network).eval()
    with torch.inference_mode():
        coarse, hidden, *_ = core(*inputs)
    fitted = [inputs[0], coarse.clone(), hidden.clone()]
    parts = {
        "Core": _exported(core, inputs, free),
        "Filter": _exported(_Filter(network).eval(), fitted, free),
    }
    if request.precision == "int8":
        _quantise(parts["Core"])
    text = _free_text(states, half) if free else _fixed_text(src, states, ratio, half)
    head = f'<ir_version: {_IR}, opset_import: ["": {OPSET}]>'
    model = onnx.parser.parse_model(head + text)
    for name, value in (("low", 0), ("high", 1)):
        bound = np.array(value, np.float16 if half else np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(bound, name))
    _insert(parts, model.graph, model.graph)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _free_text(states: list[Tensor], half: bool) -> str:
    """Return the operators around the parts of a model for any size and ratio."""
    kind = "float16" if half else "float"
    channels = {n: state.shape[1] for n, state in enumerate(states, 1)}
    given = [f"{kind}[?, ?, ?, ?] r{n}i" for n in channels]
    after = [f"{kind}[batch, {c}, ?, ?] r{n}o" for n, c in channels.items()]
    # Expands the first states, 1x1x1x1 zeros; a state of the right shape is unchanged.
    expand = [
        f"""
        odd{n} = Add (size{n - 1}, one)
        size{n} = Div (odd{n}, two)
        channels{n} = Constant <value_ints = [{c}]> ()
        shape{n} = Concat <axis = 0> (count, channels{n}, size{n})
        r{n} = Expand (r{n}i, shape{n})
        """
        for n, c in channels.items()
    ]
    return f"""
    network (
        {kind}[batch, 3, height, width] src, {", ".join(given)},
        float[1] downsample_ratio
    ) => (
        {kind}[batch, 3, height, width] fgr,
        {kind}[batch, 1, height, width] pha, {", ".join(after)}
    ) {{
        unit = Constant <value_floats = [1.0]> ()
        one = Constant <value_ints = [1]> ()
        two = Constant <value_ints = [2]> ()
        {_POSITIONS}
        {_sampling(half)}
        count = Shape <start = 0, end = 1> (picture)
        size0 = Shape <start = 2> (picture)
        {"".join(expand)}
        coarse, hidden, r1o, r2o, r3o, r4o = Core (picture, r1, r2, r3, r4)
        whole = Equal (downsample_ratio, unit)
        out = If (whole) <
            then_branch = plain () => (unrefined) {{ unrefined = Identity (coarse) }},
            else_branch = guided () => (refined) {{
                eight = Constant <value_ints = [8]> ()
                sizes = Concat <axis = 0> (count, eight, sides)
                {_REFINE}
            }}
        >
        {_FINISH}
    }}
    """


def _fixed_text(src: Tensor, states: list[Tensor], ratio: float, half: bool) -> str:
    """Return the operators around the parts of a model for one size and ratio."""
    kind = "float16" if half else "float"
    _, _, height, width = src.shape
    given = [f"{kind}{list(s.shape)} r{n}i" for n, s in enumerate(states, 1)]
    after = [f"{kind}{list(s.shape)} r{n}o" for n, s in enumerate(states, 1)]
    core = "hidden, r1o, r2o, r3o, r4o = Core ({}, r1i, r2i, r3i, r4i)"
    if ratio == 1:
        body = f"out, {core.format('src')}"
    else:
        rows, columns = sampling(height, ratio), sampling(width, ratio)
        body = f"""
        upper = Constant <value_ints = {rows.before}> ()
        lower = Constant <value_ints = {rows.after}> ()
        left = Constant <value_ints = {columns.before}> ()
        right = Constant <value_ints = {columns.after}> ()
        flat_down = Constant <value_floats = {rows.fraction}> ()
        axis_last = Constant <value_ints = [1]> ()
        down = Unsqueeze (flat_down, axis_last)
        across = Constant <value_floats = {columns.fraction}> ()
        {_sampling(half)}
        coarse, {core.format("picture")}
        sizes = Constant <value_ints = [1, 8, {height}, {width}]> ()
        {_REFINE}
        out = Identity (refined)
        """
    return f"""
    network ({kind}[1, 3, {height}, {width}] src, {", ".join(given)}) => (
        {kind}[1, 3, {height}, {width}] fgr,
        {kind}[1, 1, {height}, {width}] pha, {", ".join(after)}
    ) {{ {body} {_FINISH} }}
    """


# Applies the guided filter at the full `sizes`, as `network.refine` does.
_REFINE = f"""
        maps = Filter (picture, coarse, hidden)
        full = {_BILINEAR} (maps, , , sizes)
        slopes, intercepts = Split <axis = 1, num_outputs = 2> (full)
        axis = Constant <value_ints = [1]> ()
        gray = ReduceMean (src, axis)
        guide = Concat <axis = 1> (src, gray)
        scaled = Mul (slopes, guide)
        refined = Add (scaled, intercepts)
"""
_FINISH = """
        channels = Constant <value_ints = [3, 1]> ()
        residual, alpha = Split <axis = 1> (out, channels)
        coloured = Add (src, residual)
        fgr = Clip (coloured, low, high)
        pha = Clip (alpha, low, high)
"""

_FLOAT, _HALF, _INT64 = 1, 10, 7  # of onnx.TensorProto


def _positions(name: str, index: int, before: str, after: str, fraction: str) -> str:
    """Compute sampling positions along a side, as `fixed_shape.sampling` does."""
    return f"""
        at_{name} = Constant <value_ints = [{index}]> ()
        side_{name} = Gather <axis = 0> (sides, at_{name})
        float_{name} = Cast <to = {_FLOAT}> (side_{name})
        small_{name} = Mul (float_{name}, downsample_ratio)
        floor_{name} = Cast <to = {_INT64}> (small_{name})
        count_{name} = Squeeze (floor_{name})
        number_{name} = Range (none, count_{name}, each)
        middle_{name} = Cast <to = {_FLOAT}> (number_{name})
        centre_{name} = Add (middle_{name}, half)
        scaled_{name} = Mul (centre_{name}, step)
        shifted_{name} = Sub (scaled_{name}, half)
        position_{name} = Max (shifted_{name}, nought)
        whole_{name} = Floor (position_{name})
        {fraction} = Sub (position_{name}, whole_{name})
        {before} = Cast <to = {_INT64}> (whole_{name})
        next_{name} = Add ({before}, one)
        last_{name} = Sub (side_{name}, one)
        {after} = Min (next_{name}, last_{name})
    """


_POSITIONS = f"""
        sides = Shape <start = 2> (src)
        half = Constant <value_floats = [0.5]> ()
        nought = Constant <value_floats = [0.0]> ()
        none = Constant <value_int = 0> ()
        each = Constant <value_int = 1> ()
        step = Div (unit, downsample_ratio)
        {_positions("rows", 0, "upper", "lower", "flat_down")}
        down = Unsqueeze (flat_down, one)
        {_positions("columns", 1, "left", "right", "across")}
"""


def _sampling(half: bool) -> str:
    """Sample the coarse frame, linearly between four pixels.

    Not Resize: runtimes round its positions differently than torch does, by up to 1e-4
    of a pixel in a wide frame, which changes alpha.
    """
    widen, narrow = "Identity", "Identity"
    if half:
        widen, narrow = f"Cast <to = {_FLOAT}>", f"Cast <to = {_HALF}>"
    return f"""
        exact = {widen} (src)
        above = Gather <axis = 2> (exact, upper)
        below = Gather <axis = 2> (exact, lower)
        rise = Sub (below, above)
        part_down = Mul (rise, down)
        rows = Add (above, part_down)
        first = Gather <axis = 3> (rows, left)
        second = Gather <axis = 3> (rows, right)
        run = Sub (second, first)
        part_across = Mul (run, across)
        sampled = Add (first, part_across)
        picture = {narrow} (sampled)
    """


def _exported(module: nn.Module, inputs: list[Tensor], free: bool) -> Any:
    """Export a module and return its graph."""
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                module, tuple(inputs), dynamo=True, verbose=False, opset_version=OPSET,
                dynamic_shapes=(sizes,) * len(inputs) if free else None,
            )  # fmt: skip
    finally:
        logger.setLevel(level)
    return program.model_proto.graph


def _quantise(graph: Any) -> None:
    """Store the large weights in 8 bits, with a scale for each output channel.

    Arithmetic stays in float32: with 8-bit activations, calibrated on real frames, the
    mean loss in alpha was 0.06, a hundred times as much.
    """
    from onnx import helper, numpy_helper

    for tensor in [t for t in graph.initializer if len(t.dims) == 4]:
        weights = numpy_helper.to_array(tensor)
        if weights.size < SMALLEST_INT8:
            continue
        most = np.abs(weights).max((1, 2, 3), keepdims=True)
        scales = np.maximum(most / np.float32(127), np.finfo(np.float32).tiny)
        stored = {
            f"{tensor.name}.int8": np.round(weights / scales).astype(np.int8),
            f"{tensor.name}.scales": scales.ravel(),
        }
        node = helper.make_node("DequantizeLinear", list(stored), [tensor.name], axis=0)
        graph.node.insert(0, node)
        graph.initializer.remove(tensor)
        graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in stored.items()
        )


def _insert(parts: dict[str, Any], graph: Any, top: Any) -> None:
    """Replace operators that stand for parts, by name, in a graph and its branches.

    `top` is the graph that gets the weights.
    """
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _insert(parts, attribute.g, top)
        part = parts.get(node.op_type)
        nodes += [node] if part is None else _connected(part, node, top)
    del graph.node[:]
    graph.node.extend(nodes)


def _connected(part: Any, node: Any, top: Any) -> list[Any]:
    """Return the operators of a part with the inputs and outputs of a node."""
    ends = [entry.name for entry in (*part.input, *part.output)]
    known = dict(zip(ends, (*node.input, *node.output), strict=True)) | {"": ""}

    def rename(name: str) -> str:
        return str(known.get(name, f"{node.op_type}/{name}"))

    for tensor in part.initializer:
        tensor.name = rename(tensor.name)
    top.initializer.extend(part.initializer)
    for inner in part.node:
        inner.name = rename(inner.name)
        inner.input[:] = map(rename, inner.input)
        inner.output[:] = map(rename, inner.output)
        # Holds paths of this machine: where in torch's code the operator comes from.
        inner.ClearField("metadata_props")
    return list(part.node)


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Return a step that runs the file."""
    onnxruntime = import_onnxruntime()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    dtype = np.float16 if request.precision == "float16" else np.float32
    names = [f"r{n}i" for n in range(1, 5)]
    shapes = {entry.name: entry.shape for entry in session.get_inputs()}
    single = [1, 1, 1, 1]
    zeros = [np.zeros(shapes[n] if request.size else single, dtype) for n in names]
    fixed = {} if request.size else {"downsample_ratio": np.array([ratio], np.float32)}

    def run(src: Floats, *states: Floats) -> list[Floats]:
        given = {"src": src.astype(dtype), **dict(zip(names, states, strict=True))}
        fgr, pha, *after = session.run(None, given | fixed)
        return [fgr.astype(np.float32), pha.astype(np.float32), *after]

    return as_step(run, zeros)
