"""Worker processes that hold a loaded model: one by itself, or several as a pool.

A process that breaks, or has to be stopped at once, takes nothing else with it. All of
them end with their parent, even if that is killed.
"""

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from rematte.prefetch import share_heap

T = TypeVar("T")
R = TypeVar("R")

_OVER_LIMIT = 77  # exit code of a process that used too much memory
_MEMORY_PERIOD = 0.05  # between two measurements of the memory in use [s]
_INTERRUPT_TIMEOUT = 30  # for an interrupted process to save what it has [s]


class ProcessKilledError(MemoryError):
    """A process ended before it answered, most likely for lack of memory.

    With a `limit` [bytes], it exceeded that.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__(
            "its process was killed, perhaps for its memory"
            if limit is None
            else f"it needs more than {limit / 1e9:.1f} GB of memory"
        )


def run_all(
    load: Callable[[], Any],
    function: Callable[[Any, T], R],
    items: Iterable[T],
    workers: int,
    cleanup: Callable[[T], object] = lambda item: None,
) -> Iterator[tuple[T, R | ProcessKilledError]]:
    """Call a function for every item in a pool of processes.

    Each process loads the model once, before its first item, and is given its share of
    the cores. An item whose process was killed is tried once more at the end, when
    nothing else needs memory. Closing the generator, Ctrl-C, or an error interrupts
    what is running, as Ctrl-C would, and ends all processes.

    Yields each item with its result, in order of completion; the result is a
    `ProcessKilledError` where the second attempt was lost as well. Whatever `load` or
    `function` raised is raised, with the traceback in its notes.

    Args:
        load: Loads the model; must be picklable, as must all else that is passed on.
        function: A function of a module; called with the model and an item.
        items: Handed out in order, each when a process is free.
        workers: Processes at a time.
        cleanup: Called here with an item whose process was killed, to remove what it
            left behind.
    """
    waiting, retries = deque(items), deque[T]()
    threads = max(1, (os.cpu_count() or 1) // workers)
    idle: list[WorkerProcess] = []
    busy: dict[Connection, tuple[WorkerProcess, T, bool]] = {}

    def start(item: T, again: bool) -> None:
        process = idle.pop() if idle else WorkerProcess(load, threads)
        busy[process.pipe] = process, item, again
        process.send(function, item)

    try:
        while waiting or retries or busy:
            while waiting and len(busy) < workers:
                start(waiting.popleft(), False)
            if not busy:
                while len(idle) > 1:
                    idle.pop().close()
                start(retries.popleft(), True)
            for pipe in wait(list(busy)):
                process, item, again = busy[pipe]  # type: ignore[index]
                result = _receive(process)
                del busy[pipe]  # type: ignore[arg-type]
                if not isinstance(result, ProcessKilledError):
                    idle.append(process)
                    yield item, result
                    continue
                process.close()
                cleanup(item)
                if again:
                    yield item, result
                else:
                    retries.append(item)
    finally:
        _interrupt([(process, item) for process, item, _ in busy.values()], cleanup)
        for process in idle:
            process.close()


def _receive(process: "WorkerProcess") -> Any:
    try:
        return process.receive()
    except ProcessKilledError as error:
        return error


def _interrupt(
    busy: list[tuple["WorkerProcess", T]], cleanup: Callable[[T], object]
) -> None:
    for process, _ in busy:
        process.interrupt()
    for process, item in busy:
        whole = process.has_ended(_INTERRUPT_TIMEOUT)
        process.close()
        if not whole:
            cleanup(item)


class WorkerProcess:
    """A process that loads a model at its first call and makes one call at a time.

    `load`, which must be picklable, is called in the process, where the network has
    `threads`. Except on Windows, it is killed if it uses more than `memory` [bytes].
    The pipe becomes readable when a call was answered or the process has ended.
    """

    def __init__(
        self, load: Callable[[], Any], threads: int, memory: int | None = None
    ) -> None:
        context = get_context("spawn")
        self._memory = memory
        self.pipe, child = context.Pipe()
        self._process = context.Process(
            target=_main, args=(child, load, threads, memory), daemon=True
        )
        with _interrupts_blocked():
            self._process.start()
        child.close()  # so that reading ends when the process does

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.is_alive()

    def call(
        self,
        function: Callable[..., R],
        *args: Any,
        report: Callable[..., object] | None = None,
        timeout: float | None = None,
    ) -> R:
        """Call `function(model, *args)` in the process, and return what it returns.

        Function, arguments and result must be picklable. Where there is a `report`, the
        function gets one more argument, which calls it here. After `timeout` seconds
        without an answer or report the process is killed. Whatever `load` or the
        function raised is raised, with the traceback in its notes; `ProcessKilledError`
        if the process ended before it answered.
        """
        self.send(function, *args, reports=report is not None)
        return self.receive(report, timeout)  # type: ignore[no-any-return]

    def send(
        self, function: Callable[..., Any], *args: Any, reports: bool = False
    ) -> None:
        """Start a call without waiting; `receive` returns its result."""
        with suppress(BrokenPipeError):  # `receive` finds that it has ended
            self.pipe.send((function, args, reports))

    def receive(
        self, report: Callable[..., object] | None = None, timeout: float | None = None
    ) -> Any:
        """Wait for the result of the call that was sent; see `call`."""
        while True:
            try:
                if not self.pipe.poll(timeout):
                    break
                kind, value = self.pipe.recv()
            except (EOFError, OSError) as error:
                self._process.join(1)
                over = self._process.exitcode == _OVER_LIMIT
                raise ProcessKilledError(self._memory if over else None) from error
            if kind == "result":
                return value
            if kind == "error":
                raise value
            if report is not None:
                report(*value)
        self.kill()
        raise TimeoutError(f"no answer came within {timeout:.0f} seconds")

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the call that runs; on Windows, kill."""
        self._process.terminate()

    def has_ended(self, timeout: float) -> bool:
        """Wait for the process to end by itself; gives whether it did."""
        self._process.join(timeout)
        return self._process.exitcode == 0

    def kill(self) -> None:
        """End the process, from any thread; the call that runs raises."""
        self._process.kill()

    def close(self) -> None:
        """End the process, and wait until it has ended."""
        self.kill()
        self._process.join()
        self.pipe.close()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start processes that a terminal's signals never reach; they inherit the mask."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it within would unblock SIGINT
    blocked = {signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _main(
    pipe: Connection, load: Callable[[], Any], threads: int, memory: int | None
) -> None:
    # Ctrl-C reaches all processes of a terminal; the parent decides for this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt_once)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if memory is not None:
        threading.Thread(target=_limit_memory, args=(memory,), daemon=True).start()
    # The default lock is a semaphore of the system, which a kill would leave there.
    tqdm.set_lock(threading.RLock())
    share_heap()
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        _answer_calls(pipe, load, threads)


def _answer_calls(pipe: Connection, load: Callable[[], Any], threads: int) -> None:
    model: Any = None
    loaded = False
    while True:
        function, args, reports = pipe.recv()
        try:
            if not loaded:
                _set_threads(threads)
                model, loaded = load(), True
                _set_threads(threads)
            more = (lambda *value: pipe.send(("report", value)),) if reports else ()
            answer = "result", function(model, *args, *more)
        except Exception as error:
            answer = "error", _sendable(error)
        pipe.send(answer)


def _set_threads(count: int) -> None:
    """Set the threads of OpenVINO, and of torch whether it has been imported or not."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def _sendable(error: Exception) -> Exception:
    """The error with its traceback as a note, or a plain one if it is not picklable."""
    text = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"\nin a worker process:\n{text}")
    return error


def _interrupt_once(*args: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """End this process when its parent has ended, which a kill makes it do silently."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _limit_memory(memory: int) -> None:
    """End this process once it uses more memory [bytes] than it may.

    A limit on addresses (RLIMIT_AS) would count what torch, OpenVINO and CUDA reserve
    and never use. Decoders, encoders and networks release Python's lock, so that this
    thread runs beside them.
    """
    while (used := _used_memory()) is not None:
        if used > memory:
            os._exit(_OVER_LIMIT)
        time.sleep(_MEMORY_PERIOD)


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
