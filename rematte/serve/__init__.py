"""A local page over the converter; see docs/serve.md."""

from rematte.serve.server import serve

__all__ = ["serve"]
