"""Records the progress of a run: the log, TensorBoard, and a bar or lines on stderr."""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from rematte.errors import OutputError

LOG = "log.jsonl"


class Journal:
    """The log of a run in the folder `out`, which is created; None writes nothing.

    With `progress` it writes to stderr: a bar on a terminal, lines elsewhere. It raises
    `OutputError` if the folder or the log cannot be written.
    """

    def __init__(self, out: Path | None, progress: bool) -> None:
        self.out = out
        self._progress, self.bar = progress, progress and sys.stderr.isatty()
        self._board: Any = None
        if out is None:
            return
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"run.out {out}: {error}; set another folder") from error
        with suppress(ImportError):  # the extra may not be installed
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(out)

    def note(self, text: str) -> None:
        """Write one line to stderr."""
        if self._progress:
            print(text, file=sys.stderr, flush=True)

    def write(self, line: dict[str, Any], step: int) -> None:
        """Write a line to the log, and its figures to stderr and TensorBoard."""
        if self.out is None:
            return
        path = self.out / LOG
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OutputError(f"run.out {path}: {error}") from error
        shown = {k: v for k, v in line.items() if isinstance(v, float)}
        if shown and not self.bar:  # `note` shows it if anything is to be shown
            values = " ".join(f"{name} {value:.4g}" for name, value in shown.items())
            self.note(f"{line.get('phase', '')} step {step}: {values}")
        for name, value in shown.items():
            if self._board is not None:
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush TensorBoard, which buffers up to two minutes of figures."""
        if self._board is not None:
            self._board.close()
