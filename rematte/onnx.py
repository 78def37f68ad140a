"""The public name of `rematte.export.run_onnx`."""

from rematte.export.run_onnx import OnnxMatting

__all__ = ["OnnxMatting"]
