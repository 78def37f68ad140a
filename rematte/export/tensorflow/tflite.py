"""Exports to TensorFlow Lite (LiteRT) at a fixed size and ratio, channels last.

float16 applies to weights only. int8 applies to large kernels, with a scale for each
channel. In the encoder their inputs are rounded at run time, so that it computes in
integers and needs no calibration. In the decoder only weights are rounded: the states
would accumulate the errors of rounded inputs.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import qtyping, quantizer, recipe_manager
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from rematte.export.fixed_shape import quiet
from rematte.export.formats import SMALLEST_INT8, Floats, Request, Step, as_step
from rematte.export.tensorflow.network import INPUTS, OUTPUTS
from rematte.export.tensorflow.saved_model import carried_over, channels_last, planar
from rematte.network.matting_network import MattingNetwork


def write(network: MattingNetwork, path: Path, request: Request) -> None:
    """Write the file, with a signature of the documented names."""
    function = _function(network, *request.fixed)
    module = tf.Module()
    module.serve = function
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], module
    )
    if request.precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    path.write_bytes(converter.convert())
    if request.precision == "int8":
        _quantise(path)


def _function(network: MattingNetwork, size: tuple[int, int], ratio: float) -> Any:
    """Return a function that runs one step, with the weights as constants."""
    model = carried_over(network)
    src = tf.zeros([1, *size, 3])
    exact = tf.constant(ratio, tf.float64)
    out = model([src, *[tf.constant(0.0)] * 4, exact])
    shapes = [src.shape, *(out[name].shape for name in OUTPUTS[2:])]
    specs = [
        tf.TensorSpec(shape, name=name)
        for shape, name in zip(shapes, INPUTS, strict=False)
    ]
    step = tf.function(lambda *inputs: model([*inputs, exact]), input_signature=specs)
    # With variables, the converter silently writes a file without the weights.
    frozen = convert_variables_to_constants_v2(step.get_concrete_function())
    return tf.function(
        lambda *inputs: dict(zip(OUTPUTS, frozen(*inputs), strict=True)),
        input_signature=specs,
    )


def _quantise(path: Path) -> None:
    """Round large kernels to int8."""
    recipe = recipe_manager.RecipeManager()
    every = qtyping.TFLOperationName.ALL_SUPPORTED
    recipe.add_dynamic_config(".*", every, 8)
    recipe.add_weight_only_config(".*decoder.*", every, 8)
    entries = recipe.get_quantization_recipe()
    for entry in entries:
        entry["op_config"]["min_weight_elements"] = SMALLEST_INT8
    model = path.read_bytes()
    path.unlink()
    with quiet():
        quantizer.Quantizer(model, entries).quantize().export_model(str(path))


def open_model(path: Path, request: Request, ratio: float) -> Step:
    """Return a step that runs the file."""
    interpreter = Interpreter(model_path=str(path))
    signature = interpreter.get_signature_runner()
    details = signature.get_input_details()
    shapes = [details[name]["shape"] for name in INPUTS[1:5]]

    def run(*given: Floats) -> list[Floats]:
        inputs = zip(INPUTS, map(channels_last, given), strict=False)  # without a ratio
        out = signature(**dict(inputs))
        return [planar(out[name]) for name in OUTPUTS]

    return as_step(run, [planar(np.zeros(shape, np.float32)) for shape in shapes])
