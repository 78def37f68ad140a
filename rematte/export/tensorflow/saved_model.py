"""Exports a SavedModel: any size, ratio and batch; needs nothing of rematte to run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rematte.export.formats import Floats, Request, States, Step
from rematte.export.tensorflow.network import INPUTS, OUTPUTS
from rematte.export.tensorflow.network import MattingNetwork as TensorFlowNetwork
from rematte.network.matting_network import MattingNetwork
from rematte.weights.checkpoint import recognise

# Of unknown rank: scalars for the first frame, then (B, h, w, C).
_STATE = tf.TensorSpec(None)
SPECS = (tf.TensorSpec([None, None, None, 3]), *[_STATE] * 4, tf.TensorSpec([]))


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the folder, with the documented call and the same as serving signature."""
    module = tf.Module()
    module.model = carried_over(network)
    module.__call__ = tf.function(module.model, input_signature=[list(SPECS)])
    serve = function(module.model)
    tf.saved_model.save(module, str(path), signatures=serve)


def carried_over(network: MattingNetwork) -> TensorFlowNetwork:
    """Convert a network to TensorFlow."""
    state = network.state_dict()
    model = TensorFlowNetwork(*recognise(state, "the network"))
    model.load_torch_weights(state)
    return model


def function(model: TensorFlowNetwork) -> Any:
    """Return a function to trace, whose nodes have the names of inputs and outputs."""

    def serve(*inputs: Any) -> dict[str, Any]:
        out = model(list(inputs))
        return {name: tf.identity(out[name], name) for name in OUTPUTS}

    specs = [
        tf.TensorSpec(spec.shape, name=name)
        for spec, name in zip(SPECS, INPUTS, strict=True)
    ]
    return tf.function(serve, input_signature=specs)


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Return a step that runs the file."""
    return step_of(tf.saved_model.load(str(path)), ratio)


def step_of(model: Callable[[list[Any]], Any], ratio: float) -> Step:
    """Return a step that calls a model in the documented way, on the CPU."""

    def step(src: Floats, states: States) -> tuple[Floats, Floats, States]:
        with tf.device("CPU"):
            rec = [np.float32(0)] * 4 if states is None else map(channels_last, states)
            given = [channels_last(src), *rec, np.float32(ratio)]
            out = model([tf.constant(array) for array in given])
        fgr, pha, *after = (planar(out[name].numpy()) for name in OUTPUTS)
        return fgr, pha, after

    return step


def channels_last(x: Any) -> Floats:
    """Map (B, C, H, W) to (B, H, W, C)."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def planar(x: Floats) -> Floats:
    """Map (B, H, W, C) to (B, C, H, W)."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))
