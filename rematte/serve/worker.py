"""A process that holds the model and does one thing after another.

What came through the browser is decoded and converted here: what breaks, or is to be
stopped at once, takes its process with it and nothing else.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from rematte.errors import explain
from rematte.prefetch import share_heap

_OVER_LIMIT = 77  # exit code of a process that used too much memory
_MEMORY_PAUSE = 0.05  # between two looks at the memory [s]


class WorkError(Exception):
    """What was asked for did not work out; the message is for people."""


class Worker:
    """Starts the process; `close` ends it.

    Args:
        load: Loads the model, in the process; must be picklable.
        threads: How many torch may use there.
        memory: How much memory the process may use [bytes]; None sets no limit.
    """

    def __init__(
        self, load: Callable[[], Any], threads: int, memory: int | None = None
    ) -> None:
        context = get_context("spawn")
        self._memory = memory
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_main, args=(theirs, load, threads, memory), daemon=True
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
            raise WorkError(self._why_it_ended()) from error
        self.kill()
        raise WorkError(f"nothing came of it within {patience:.0f} seconds")

    def _why_it_ended(self) -> str:
        self._process.join(1)
        if self._process.exitcode == _OVER_LIMIT and self._memory is not None:
            return (
                f"it needs more than {self._memory / 1e9:.1f} GB of memory; try a "
                "smaller video, or raise --memory-limit"
            )
        return "its process was killed, perhaps for its memory; try a smaller video"

    def kill(self) -> None:
        """End it from another thread; what runs raises."""
        self._process.kill()

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self.kill()
        self._process.join()
        self._pipe.close()


def _main(
    pipe: Connection, load: Callable[[], Any], threads: int, memory: int | None
) -> None:
    # Ctrl-C reaches all processes of a terminal; the server decides for this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if memory is not None:
        threading.Thread(target=_end_above, args=(memory,), daemon=True).start()
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


def _end_above(memory: int) -> None:
    """End this process once it uses more memory [bytes] than it may.

    A limit on addresses (RLIMIT_AS) would count what torch, OpenVINO and CUDA reserve
    and never use. Decoders, encoders and networks release Python's lock, so that this
    thread runs beside them.
    """
    while (used := _used_memory()) is not None:
        if used > memory:
            os._exit(_OVER_LIMIT)
        time.sleep(_MEMORY_PAUSE)


def _used_memory() -> int | None:
    """Resident memory [bytes]; its peak on macOS, None on Windows."""
    with suppress(OSError):
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    with suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def machine_memory() -> int | None:
    """Memory of this machine [bytes]; None on Windows."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
