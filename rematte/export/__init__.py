"""Writes the network in other runtimes' formats, each checked before it gets its name.

`export` is imported when it is first used: `FORMATS` needs no torch.
"""

from typing import TYPE_CHECKING, Any

from rematte.export.formats import FORMATS

if TYPE_CHECKING:
    from rematte.export.core import Exported, export

__all__ = ["FORMATS", "Exported", "export"]


def __getattr__(name: str) -> Any:
    """Import a public name; see PEP 562."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rematte.export import core

    return getattr(core, name)
