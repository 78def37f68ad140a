"""Threads between the stages of a conversion, with bounded queues.

Decoding, the network and encoding wait for different resources, so in parallel they
keep all cores busy. Order is preserved, memory is bounded, and an error in one thread
ends the others.
"""

import ctypes
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

_DEPTH = 1  # items in each queue; more were not faster, and a 4K frame is 25 MB
_LARGE = 4 << 20  # bytes from which memory is a mapping of its own; HD takes 6 MB
_POLL_PERIOD = 0.2  # between checks of whether to stop [s]


def share_heap() -> None:
    """Keep glibc from giving every thread a heap of its own, and frames out of it.

    Unused memory in those heaps takes 100 MB at HD, and the gaps that frames leave take
    20 MB. Only for processes of this package, not for a library, since it changes the
    allocator for the whole process.
    """
    with suppress(AttributeError, OSError):  # another C library
        arena_max, mmap_threshold = -8, -3  # of malloc.h
        ctypes.CDLL(None).mallopt(arena_max, 1)
        ctypes.CDLL(None).mallopt(mmap_threshold, _LARGE)


def trim_heap() -> None:
    """Return free memory to the system, which glibc would hold: 20 MB after a build."""
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _offer(items: queue.Queue[T], item: T, is_wanted: Callable[[], bool]) -> None:
    """Put an item into a queue once there is room, unless the consumer has stopped."""
    while is_wanted():
        with suppress(queue.Full):
            items.put(item, timeout=_POLL_PERIOD)
            return


class Prefetch(Generic[T]):
    """Iterates in a thread of its own, ahead of the consumer.

    Iterate it once, in a `with` statement, which ends the thread; a generator is closed
    there. `watch` is called in the consumer's thread, for each item and while it waits;
    it may raise to stop.
    """

    def __init__(
        self, items: Iterable[T], watch: Callable[[], object] = lambda: None
    ) -> None:
        self._items, self._watch = iter(items), watch
        self._queue: queue.Queue[tuple[T | None, BaseException | None]]
        self._queue = queue.Queue(_DEPTH)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._take()

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                self._put(item, None)
                del item  # a 4K frame is large; free it before the next is made
                if self._stop.is_set():
                    break
            else:
                error = StopIteration()
        except BaseException as caught:  # raised again where the items are taken
            error = caught
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
        if error is not None:
            self._put(None, error)

    def _put(self, item: T | None, error: BaseException | None) -> None:
        _offer(self._queue, (item, error), lambda: not self._stop.is_set())

    def _take(self) -> Iterator[T]:
        while not self._stop.is_set():
            self._watch()
            try:
                item, error = self._queue.get(timeout=_POLL_PERIOD)
            except queue.Empty:
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            held = [item]
            del item
            yield held.pop()  # type: ignore[misc]  # the consumer decides how long


class WriterThread(Generic[T]):
    """Calls a function with each item, in order, in a thread of its own.

    Use it in a `with` statement, which waits for all calls and raises the first error
    of the thread.
    """

    def __init__(self, write: Callable[[T], None]) -> None:
        self._write = write
        self._queue: queue.Queue[T | None] = queue.Queue(_DEPTH)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=_POLL_PERIOD)
            except queue.Empty:
                continue
            if item is None:
                return
            try:
                self._write(item)
            except BaseException as error:  # raised again in `put` or `finish`
                self._error = error
                return
            del item

    def put(self, item: T) -> None:
        """Add an item once there is room; raises what an earlier item has raised."""
        _offer(self._queue, item, lambda: self._error is None)
        if self._error is not None:
            raise self._error

    def __enter__(self) -> "WriterThread[T]":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: object
    ) -> None:
        # After Ctrl-C queued items are still written; an error ends the thread.
        if kind is None or issubclass(kind, KeyboardInterrupt):
            _offer(self._queue, None, self._thread.is_alive)
            self._thread.join()
        self._stop.set()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error
