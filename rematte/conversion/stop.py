"""Stops a conversion from outside: by an event, or after some time."""

import time
from dataclasses import dataclass, field
from threading import Event

from rematte.errors import Cancelled, TimedOut


@dataclass
class Stop:
    """Says when a conversion must stop early; by default never."""

    cancel: Event | None = None  # stops the conversion when it is set
    timeout: float | None = None  # the longest time that it may take, above 0 [s]
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {self.timeout}")

    def check(self, frames: int = 0) -> None:
        """Raise `Cancelled` or `TimedOut` after so many frames, if it is time."""
        done = f"{frames} frame{'s' * (frames != 1)}; no output is left behind"
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled(f"cancelled after {done}")
        taken = time.monotonic() - self._started
        if self.timeout is not None and taken > self.timeout:
            raise TimedOut(
                f"stopped by timeout={self.timeout} seconds after {done}; allow more "
                "time, or convert a part (start, end, limit)"
            )
