"""The public name of `rematte.live.sessions`."""

from rematte.live.sessions import Streams

__all__ = ["Streams"]
