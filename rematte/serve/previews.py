"""The previews of a page: images that a thread makes one after the other."""

import threading
from collections.abc import Callable
from pathlib import Path

from rematte.serve import work
from rematte.serve.processes import SharedProcess, WorkError
from rematte.workers.pool import WorkerProcess


class Previews:
    """Makes the previews that are asked for, in a process of their own.

    Args:
        start: Starts the process.
    """

    def __init__(self, start: Callable[[], WorkerProcess]) -> None:
        self._process = SharedProcess(start)
        self._wanted: dict[Path, tuple[str, Path, float | None]] = {}
        self._failed: dict[Path, str] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def check_model(self) -> None:
        """Load the model in the process.

        Raises:
            WorkError: If it cannot be loaded.
        """
        self._process.call("", work.check_model, Path())

    def get(
        self, name: str, source: Path, target: Path, ratio: float | None
    ) -> Path | None:
        """Give a preview, or have it made.

        Args:
            name: What errors call the video.
            source: The video.
            target: The image.
            ratio: As of `work.preview`.

        Returns:
            The image's path; None while it is being made, so ask again.

        Raises:
            WorkError: If it cannot be made.
        """
        with self._changed:
            if target in self._failed:
                raise WorkError(self._failed[target])
            if target.exists():
                return target
            self._wanted.setdefault(target, (name, source, ratio))
            self._changed.notify_all()
        return None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closing)
                if self._closing:
                    return
                target, (name, source, ratio) = next(iter(self._wanted.items()))
            try:
                if source.exists():  # else the job was removed
                    self._process.call(name, work.preview, source, target, ratio)
            except (WorkError, OSError) as error:
                self._failed[target] = str(error)
            with self._changed:
                del self._wanted[target]

    def close(self) -> None:
        """End the process and the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._process.close()
        self._thread.join()
