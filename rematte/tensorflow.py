"""The public name of `rematte.export.tensorflow.network`."""

from rematte.export.tensorflow.network import MattingNetwork

__all__ = ["MattingNetwork"]
