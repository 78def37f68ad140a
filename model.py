"""The name `model` of RobustVideoMatting's documentation; see `rematte.rvm.model`."""

from rematte.rvm.model import MattingNetwork

__all__ = ["MattingNetwork"]
