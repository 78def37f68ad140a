"""The network in other runtimes' files, each checked before it gets its name.

A leaf: only the command line knows it.
"""

from rematte.export.core import Exported, export
from rematte.export.formats import FORMATS

__all__ = ["FORMATS", "Exported", "export"]
