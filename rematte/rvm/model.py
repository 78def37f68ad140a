"""RobustVideoMatting's documented module `model`: the network."""

from rematte.network.matting_network import MattingNetwork

__all__ = ["MattingNetwork"]
