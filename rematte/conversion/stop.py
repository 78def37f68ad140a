"""Stops a conversion from outside: by an event, or after some time."""

import time
from dataclasses import dataclass, field
from threading import Event

from rematte.errors import Cancelled, TimedOut


@dataclass
class Stop:
    """Says when a conversion must stop early; by default never.

    Attributes:
        cancel: An event that stops the conversion when it is set, or None.
        timeout: The longest time that the conversion may take [s]; None for no limit.

    Raises:
        ValueError: If the timeout is not above 0.
    """

    cancel: Event | None = None
    timeout: float | None = None
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {self.timeout}")

    def check(self, frames: int = 0) -> None:
        """Raise an error, which says how many frames are done, if it is time to stop.

        Raises:
            Cancelled: If `cancel` is set.
            TimedOut: If more time has passed than `timeout`.
        """
        done = f"{frames} frame{'s' * (frames != 1)}; no output is left behind"
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled(f"cancelled after {done}")
        late = self.timeout is not None and (
            time.monotonic() - self._started > self.timeout
        )
        if late:
            raise TimedOut(
                f"stopped by timeout={self.timeout} seconds after {done}; allow more "
                "time, or convert a part (start, end, limit)"
            )
