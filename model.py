"""The network under the name that RobustVideoMatting's documentation imports."""

from rematte.network.matting_network import MattingNetwork

__all__ = ["MattingNetwork"]
