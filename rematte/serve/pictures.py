"""Pictures that the page asks for: a thread makes one after the other.

The page asks again until a picture is made. What it no longer asks for is not made, and
what it asked for last comes first.
"""

import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from rematte.serve.processes import SharedProcess, WorkError

_FORGOTTEN = 5.0  # after which a picture that nobody asked for again is not made [s]
_SAVED = 96  # files of a folder that are not deleted, the newest


class _Wanted(NamedTuple):
    """A picture to make: a call of a function in the process."""

    name: str
    function: Callable[..., Any]
    source: Path
    args: tuple[Any, ...]
    asked: float


class Pictures:
    """Makes files of a video in a process, which others may use too."""

    def __init__(self, process: SharedProcess) -> None:
        self._process = process
        self._wanted: dict[Path, _Wanted] = {}
        self._failed: dict[Path, str] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def get(
        self,
        name: str,
        function: Callable[..., Any],
        source: Path,
        suffix: str,
        *args: Any,
    ) -> Path | None:
        """Give a file that a function makes; None while it is made, so ask again.

        The function is called with the model, `source`, which errors call `name`, the
        file and `args`, which tell files apart. What it raised is raised here once, and
        the next call has it tried again.
        """
        text = repr((function.__name__, args))
        hashed = sha256(text.encode()).hexdigest()[:24]
        target = source.parent / "look" / f"{hashed}{suffix}"
        with self._changed:
            if target in self._failed:
                raise WorkError(self._failed.pop(target))
            if target.exists():
                return target
            self._wanted[target] = _Wanted(
                name, function, source, args, time.monotonic()
            )
            self._changed.notify_all()
        return None

    def _next(self) -> tuple[Path, _Wanted] | None:
        """Wait for what was asked for last; None when the thread is to end."""
        with self._changed:
            while not self._closing:
                oldest = time.monotonic() - _FORGOTTEN
                for target, wanted in [*self._wanted.items()]:
                    if wanted.asked < oldest:
                        del self._wanted[target]
                if self._wanted:
                    return max(self._wanted.items(), key=lambda item: item[1].asked)
                self._changed.wait()
        return None

    def _run(self) -> None:
        while (found := self._next()) is not None:
            target, wanted = found
            try:
                if wanted.source.exists():  # else the job was removed
                    self._make(wanted, target)
            except (WorkError, OSError) as error:
                self._failed[target] = str(error)
            with self._changed:
                self._wanted.pop(target, None)

    def _make(self, wanted: _Wanted, target: Path) -> None:
        """Make a picture, which appears under its name when it is complete."""
        folder = target.parent
        folder.mkdir(exist_ok=True)
        # The folder takes what a process leaves that was killed or found no space.
        with TemporaryDirectory(prefix=".", dir=folder) as scratch:
            part = Path(scratch) / target.name
            try:
                self._process.call(
                    wanted.name, wanted.function, wanted.source, part, *wanted.args
                )
            except WorkError as error:
                raise WorkError(str(error).replace(str(part), "a picture")) from error
            part.replace(target)
        files = [path for path in folder.iterdir() if path.is_file()]
        files.sort(key=lambda path: -path.stat().st_mtime_ns)
        for path in files[_SAVED:]:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """End the thread, whose process was closed before."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
