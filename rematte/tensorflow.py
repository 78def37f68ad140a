"""The public name of `rematte.export.tensorflow_network`."""

from rematte.export.tensorflow_network import MattingNetwork

__all__ = ["MattingNetwork"]
