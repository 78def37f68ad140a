"""The public name of `rematte.matter.streams`."""

from rematte.matter.streams import Streams

__all__ = ["Streams"]
