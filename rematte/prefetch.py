"""Threads between the stages of a conversion, with bounded queues.

Decoding, the network and encoding each wait for different things; side by side they
keep all cores busy. Order is kept, memory is bounded, and an error in one thread ends
the others.
"""

import ctypes
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

_DEPTH = 1  # items in each queue; more were not faster, and a 4K frame is 25 MB
_PATIENCE = 0.2  # between two looks at whether to stop [s]


def share_heap() -> None:
    """Keep glibc from giving every thread a heap of its own.

    What they leave unused takes 100 MB at HD. For a process that is ours, not for a
    library: it changes the allocator for everybody.
    """
    with suppress(AttributeError, OSError):  # another C library
        arena_max = -8  # M_ARENA_MAX of malloc.h
        ctypes.CDLL(None).mallopt(arena_max, 1)


def trim_heap() -> None:
    """Give memory that is free back to the system; glibc keeps it otherwise.

    What building an engine leaves is 20 MB.
    """
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


class Ahead(Generic[T]):
    """Makes the items of an iterable in a thread of its own, a few ahead.

    Iterate it once, in a `with` statement, which ends the thread.

    Args:
        items: Iterated, and closed if it is a generator, in the thread.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._queue: queue.Queue[tuple[T | None, BaseException | None]]
        self._queue = queue.Queue(_DEPTH)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._give()

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                self._put(item, None)
                del item  # 4K frames are large: not to be held while the next is made
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
        while not self._stop.is_set():
            try:
                self._queue.put((item, error), timeout=_PATIENCE)
            except queue.Full:
                continue
            return

    def _give(self) -> Iterator[T]:
        while not self._stop.is_set():
            try:
                item, error = self._queue.get(timeout=_PATIENCE)
            except queue.Empty:
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
            del item


class Behind(Generic[T]):
    """Does something with each item, in order, in a thread of its own.

    Use it in a `with` statement, which waits until everything is done, and raises what
    was raised meanwhile.

    Args:
        act: What to do.
    """

    def __init__(self, act: Callable[[T], None]) -> None:
        self._act = act
        self._queue: queue.Queue[T | None] = queue.Queue(_DEPTH)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=_PATIENCE)
            except queue.Empty:
                continue
            if item is None:
                return
            try:
                self._act(item)
            except BaseException as error:  # raised again in `put` or `finish`
                self._error = error
                return
            del item

    def put(self, item: T) -> None:
        """Hand over an item; waits while there are too many.

        Raises:
            BaseException: What `act` raised for an earlier item.
        """
        while self._error is None:
            try:
                self._queue.put(item, timeout=_PATIENCE)
            except queue.Full:
                continue
            return
        raise self._error

    def __enter__(self) -> "Behind[T]":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: object
    ) -> None:
        # What has been handed over is still done after Ctrl-C; an error ends it.
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self._drain()
        self._stop.set()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _drain(self) -> None:
        while self._thread.is_alive():
            try:
                self._queue.put(None, timeout=_PATIENCE)
            except queue.Full:
                continue
            self._thread.join()
