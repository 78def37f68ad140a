"""A process that holds the model and does one thing after another.

What came through the browser is decoded and converted here: what breaks, or is to be
stopped at once, takes its process with it and nothing else.
"""

import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any

import torch
from tqdm import tqdm

from rematte.errors import explain
from rematte.pipeline import share_heap


class WorkError(Exception):
    """What was asked for did not work out; the message is for people."""


class Worker:
    """Starts the process; `close` ends it.

    Args:
        load: Loads the model, in the process; must be picklable.
        threads: How many torch may use there.
    """

    def __init__(self, load: Callable[[], Any], threads: int) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_main, args=(theirs, load, threads), daemon=True
        )
        self._process.start()
        theirs.close()  # so that reading ends when the process does

    @property
    def alive(self) -> bool:
        """Whether it can be given work."""
        return self._process.is_alive()

    def run(
        self,
        act: Callable[..., Any],
        *args: Any,
        tell: Callable[..., object] | None = None,
        patience: float | None = None,
    ) -> Any:
        """Call `act(model, *args)` in the process, and give what it returns.

        Args:
            act: A function of a module; where there is `tell`, it is called with one
                more argument, to which it may report.
            *args: Must be picklable, as must the result.
            tell: Called here with what is reported there.
            patience: After how many seconds without any word to give up.

        Raises:
            WorkError: If it raised, took too long, or its process was killed.
        """
        try:
            self._pipe.send((act, args, tell is not None))
            while self._pipe.poll(patience):
                kind, value = self._pipe.recv()
                if kind == "failed":
                    raise WorkError(value)
                if kind == "done":
                    return value
                if tell is not None:
                    tell(*value)
        except (EOFError, OSError) as error:
            raise WorkError(
                "its process was killed, perhaps for its memory; try a smaller video"
            ) from error
        self.kill()
        raise WorkError(f"nothing came of it within {patience:.0f} seconds")

    def kill(self) -> None:
        """End it from another thread; what runs raises."""
        self._process.kill()

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self.kill()
        self._process.join()
        self._pipe.close()


def _main(pipe: Connection, load: Callable[[], Any], threads: int) -> None:
    # Ctrl-C reaches all processes of a terminal; the server decides for this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Its own lock would be left over in the system when this process is killed.
    tqdm.set_lock(threading.RLock())
    share_heap()
    torch.set_num_threads(threads)
    model = None
    while True:
        try:
            act, args, telling = pipe.recv()
        except EOFError:  # the server has ended
            return
        try:
            model = load() if model is None else model
            more = (lambda *value: pipe.send(("told", value)),) if telling else ()
            answer = "done", act(model, *args, *more)
        except Exception as error:
            answer = "failed", explain(error)[1]
        pipe.send(answer)


def _end_with_parent() -> None:
    """A server that was killed cannot end its processes itself."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
