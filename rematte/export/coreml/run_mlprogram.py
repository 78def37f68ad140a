"""Interprets a CoreML program in PyTorch where CoreML is missing, to check it.

float16 values are computed in float32 and rounded after each operation: CoreML's
processors accumulate in float32 or better too, but in another order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# Arguments of an operation by name: tensors, and constants as Python objects.
_Arguments = dict[str, Any]


class Program:
    """The ML program of an `MLModel`; its operations must be known."""

    def __init__(self, model: Any) -> None:
        from coremltools.converters.mil.frontend.milproto import load

        spec = model.get_spec()
        program = load.load(spec, spec.specificationVersion, model.weights_dir)
        self._function = program.functions["main"]
        self._operations = [
            op for op in self._function.operations if op.op_type != "const"
        ]
        kinds = {op.op_type for op in self._operations if not _is_stored(op)}
        unknown = kinds - {*_OPERATIONS, "read_state", "coreml_update_state"}
        if unknown:
            raise ValueError(f"cannot run {', '.join(sorted(unknown))} of this program")
        self._constants: dict[Any, Any] = {}
        self.states: dict[str, Tensor] = {}

    def run(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map inputs to outputs by name, all in float32, and keep the states."""
        from coremltools.converters.mil.mil.types import is_state, nptype_from_builtin

        values = {
            var: inputs[name]
            for name, var in self._function.inputs.items()
            if not is_state(var.sym_type)
        }
        for op in self._operations:
            # What `_weight` reads is large, and would become lists of numbers here.
            stored = _is_stored(op)
            inputs = {} if stored else op.inputs
            given = {name: self._value(var, values) for name, var in inputs.items()}
            if op.op_type == "read_state":
                zeros = torch.zeros(op.outputs[0].shape)
                result = self.states.setdefault(op.input.name, zeros)
            elif op.op_type == "coreml_update_state":
                result = self.states[op.state.name] = given["value"]
            elif stored:
                result = self._weight(op)
            else:
                result = _OPERATIONS[op.op_type](given)
            results = result if isinstance(result, tuple | list) else [result]
            for var, value in zip(op.outputs, results, strict=True):
                half = np.dtype(nptype_from_builtin(var.dtype)) == np.float16
                values[var] = value.half().float() if half else value
        return {var.name: values[var] for var in self._function.outputs}

    def _value(self, var: Any, values: dict[Any, Tensor]) -> Any:
        """Return the value of a variable, or of a list of them."""
        if isinstance(var, tuple | list):
            return [self._value(each, values) for each in var]
        if var in values or var.op is None or var.op.op_type != "const":
            return values.get(var)
        if var not in self._constants:
            value = var.val
            if isinstance(value, np.ndarray) and np.issubdtype(
                value.dtype, np.floating
            ):
                value = torch.from_numpy(value.astype(np.float32))
            elif isinstance(value, np.ndarray | np.generic):
                value = value.tolist()
            self._constants[var] = value
        return self._constants[var]

    def _weight(self, op: Any) -> Tensor:
        """Return a weight that is stored in fewer bits."""
        (var,) = op.outputs
        if var not in self._constants:
            value = op.materialized_val_inference()
            self._constants[var] = torch.from_numpy(value.astype(np.float32))
        weight: Tensor = self._constants[var]
        return weight


def _is_stored(op: Any) -> bool:
    """Whether an operation gives a weight that is stored in fewer bits."""
    return bool(op.op_type.startswith("constexpr_"))


def _padded(a: _Arguments, fill: float = 0.0) -> Tensor:
    """Pad the input of a convolution or pooling."""
    x: Tensor = a["x"]
    if a["pad_type"] == "valid":
        return x
    if a["pad_type"] != "custom":
        raise ValueError(f"cannot run padding {a['pad_type']!r} of this program")
    top, bottom, left, right = a["pad"]
    return F.pad(x, [left, right, top, bottom], value=fill)


def _conv(a: _Arguments) -> Tensor:
    return F.conv2d(
        _padded(a), a["weight"], a.get("bias"), a["strides"], 0, a["dilations"],
        a["groups"],
    )  # fmt: skip


def _avg_pool(a: _Arguments) -> Tensor:
    border, count = a["pad"][::2], not a["exclude_padding_from_average"]
    return F.avg_pool2d(
        a["x"], a["kernel_sizes"], a["strides"], border, a["ceil_mode"], count
    )


def _max_pool(a: _Arguments) -> Tensor:
    return F.max_pool2d(_padded(a, -torch.inf), a["kernel_sizes"], a["strides"])


def _upsample(a: _Arguments) -> Tensor:
    # By size: CoreML recomputes the scale factor from the output size.
    factors = a["scale_factor_height"], a["scale_factor_width"]
    size = [int(s * f) for s, f in zip(a["x"].shape[2:], factors, strict=True)]
    return F.interpolate(
        a["x"], size, mode="bilinear", align_corners=a["align_corners"]
    )


def _slice(a: _Arguments) -> Tensor:
    x: Tensor = a["x"]
    none = [False] * x.dim()
    from_first, to_last = a.get("begin_mask") or none, a.get("end_mask") or none
    x = x[
        tuple(
            slice(
                None if from_first[n] else a["begin"][n],
                None if to_last[n] else a["end"][n],
                a["stride"][n] if a.get("stride") else 1,
            )
            for n in range(x.dim())
        )
    ]
    squeezed = [n for n, gone in enumerate(a.get("squeeze_mask") or none) if gone]
    return x.squeeze(squeezed) if squeezed else x


def _split(a: _Arguments) -> tuple[Tensor, ...]:
    x: Tensor = a["x"]
    sizes = a.get("split_sizes") or x.shape[a["axis"]] // a["num_splits"]
    parts: tuple[Tensor, ...] = x.split(sizes, a["axis"])
    return parts


def _matmul(a: _Arguments) -> Tensor:
    x: Tensor = a["x"].mT if a["transpose_x"] else a["x"]
    y: Tensor = a["y"].mT if a["transpose_y"] else a["y"]
    return x @ y


def _expand(a: _Arguments) -> Tensor:
    x: Tensor = a["x"]
    for axis in sorted(a["axes"]):
        x = x.unsqueeze(axis)
    return x


_OPERATIONS: dict[str, Callable[[_Arguments], Any]] = {
    "add": lambda a: a["x"] + a["y"],
    "sub": lambda a: a["x"] - a["y"],
    "mul": lambda a: a["x"] * a["y"],
    "real_div": lambda a: a["x"] / a["y"],
    "matmul": _matmul,
    "relu": lambda a: F.relu(a["x"]),
    "sigmoid": lambda a: torch.sigmoid(a["x"]),
    "sigmoid_hard": lambda a: (a["alpha"] * a["x"] + a["beta"]).clamp(0, 1),
    "tanh": lambda a: torch.tanh(a["x"]),
    "thresholded_relu": lambda a: a["x"] * (a["x"] >= a["alpha"]),
    "clip": lambda a: a["x"].clamp(a["alpha"], a["beta"]),
    "cast": lambda a: a["x"],  # between floating-point types; `run` rounds the result
    "identity": lambda a: a["x"],
    "conv": _conv,
    "avg_pool": _avg_pool,
    "max_pool": _max_pool,
    "reduce_mean": lambda a: a["x"].mean(a["axes"], a["keep_dims"]),
    "upsample_bilinear": _upsample,
    "pixel_shuffle": lambda a: F.pixel_shuffle(a["x"], a["upscale_factor"]),
    "concat": lambda a: torch.cat(a["values"], a["axis"]),
    "split": _split,
    "slice_by_index": _slice,
    "reshape": lambda a: a["x"].reshape(a["shape"]),
    "squeeze": lambda a: a["x"].squeeze(a["axes"]),
    "expand_dims": _expand,
}
