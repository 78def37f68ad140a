"""Worker processes of the page: their networks, and calls with errors as sentences."""

import re
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from rematte.errors import explain
from rematte.workers.pool import ProcessKilledError, WorkerProcess

_TIMEOUT = 120.0  # of examining a file or making a preview [s]


class WorkError(Exception):
    """A request of the page failed; the message is a sentence for the page."""


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


def start_process(
    load: Callable[[], Any], threads: int, memory: int | None
) -> WorkerProcess:
    """Start a worker process; see `WorkerProcess`."""
    try:
        return WorkerProcess(load, threads, memory)
    except OSError as error:
        raise WorkError(
            f"no process can be started ({error.strerror or error}); close other "
            "programs, and try again"
        ) from error


def call(
    process: WorkerProcess,
    function: Callable[..., Any],
    *args: Any,
    report: Callable[..., object] | None = None,
    timeout: float | None = None,
) -> Any:
    """Call a function in a worker process; any error becomes a `WorkError`."""
    try:
        return process.call(function, *args, report=report, timeout=timeout)
    except ProcessKilledError as error:
        raise WorkError(f"{error}; try a smaller video") from error
    except Exception as error:
        raise WorkError(without_flags(explain(error)[1])) from error


def without_flags(text: str) -> str:
    """Leave flags, and remedies that name them, out of a message."""
    what, *remedies = text.split("; ")
    clauses = [
        ", or ".join(
            part for part in clause.split(", or ") if not re.search("--[a-z]", part)
        )
        for clause in (re.sub(r" \(--[a-z-]+\)", "", what), *remedies)
    ]
    return "; ".join(filter(None, clauses))


class SharedProcess:
    """A process for short calls, made one at a time; it is replaced when it ended."""

    def __init__(self, start: Callable[[], WorkerProcess]) -> None:
        self._start, self._lock = start, threading.Lock()
        self._process: WorkerProcess | None = None
        self._closed = False

    def call(
        self, name: str, function: Callable[..., Any], path: Path, *args: Any
    ) -> Any:
        """Call a function with the model, a file that errors call `name`, and more."""
        with self._lock:
            if self._closed:
                raise WorkError("the server is about to end")
            if self._process is None or not self._process.alive:
                if self._process is not None:
                    self._process.close()
                self._process = self._start()
                if self._closed:
                    self._process.kill()
            try:
                return call(self._process, function, path, *args, timeout=_TIMEOUT)
            except WorkError as error:
                raise WorkError(str(error).replace(str(path), name)) from error

    def close(self) -> None:
        """End the process; a call that runs raises."""
        self._closed = True
        if (process := self._process) is not None:
            process.kill()
        with self._lock:
            if self._process is not None:
                self._process.close()
