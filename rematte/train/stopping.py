"""Stops a run at a signal or after some time, within seconds and between two steps."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

GRACE = 3.0  # seconds that a step may still take
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
_HANGUP = getattr(signal, "SIGHUP", None)
_ALARM = hasattr(signal, "setitimer")  # Windows has no such timer


class StepAbandonedError(Exception):
    """Raised inside a step that takes too long, so that it is abandoned."""


class Stop:
    """Records the first SIGINT, SIGTERM or SIGHUP, and the end of a time limit.

    A second signal ends the process as usual, except SIGHUP. With `abandon`, a step
    that does not end within `GRACE` after the first raises `StepAbandonedError` inside
    `abandoning`.
    """

    def __init__(self, minutes: float | None, abandon: bool = True) -> None:
        self.signals: list[int] = []  # received so far
        self._abandon, self._inside = abandon, False
        self._minutes = math.inf if minutes is None else minutes
        self._end = time.monotonic() + 60 * self._minutes
        self._before: dict[int, Any] = {}

    @property
    def over(self) -> bool:
        """Whether to stop after the current step."""
        return bool(self.signals) or time.monotonic() >= self._end

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Catch signals in this block; outside of the main thread, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        for each in _SIGNALS:
            if (before := signal.getsignal(each)) != signal.SIG_IGN:  # as by nohup
                self._before[each] = before
                signal.signal(each, self._catch)
        if _ALARM:
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._alarm)
            if self._minutes < math.inf:
                signal.setitimer(signal.ITIMER_REAL, 60 * self._minutes + GRACE, 1)
        try:
            yield
        finally:
            if _ALARM:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for each, handler in self._before.items():
                signal.signal(each, handler)

    def _catch(self, number: int, frame: object) -> None:
        self.signals.append(number)
        for each in _SIGNALS:
            if each in self._before:
                # A terminal that is closed sends SIGHUP twice, to all processes.
                again = signal.SIG_IGN if each == _HANGUP else self._before[each]
                signal.signal(each, again)
        if _ALARM:
            signal.setitimer(signal.ITIMER_REAL, GRACE, 1)

    def _alarm(self, number: int, frame: object) -> None:
        if self._inside and self.over:
            self._inside = False
            raise StepAbandonedError

    @contextmanager
    def abandoning(self) -> Iterator[None]:
        """Allow this block to be abandoned."""
        self._inside = self._abandon
        try:
            yield
        finally:
            self._inside = False
