"""The networks that a worker process of the page has loaded."""

from collections.abc import Callable
from functools import cache
from typing import Any


class Networks:
    """Loads a network, and the one of the quality "fast" when it is first needed.

    Where `fast` is None, there is no network of its own for that quality.
    """

    def __init__(
        self, load: Callable[[], Any], fast: Callable[[], Any] | None = None
    ) -> None:
        self._network, self._fast = load(), fast and cache(fast)

    def choose(self, quality: str) -> tuple[Any, str]:
        """Give the network for a quality, and the quality that it then works with."""
        if quality == "fast" and self._fast is not None:
            return self._fast(), "balanced"
        return self._network, quality
