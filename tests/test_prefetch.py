"""Threads between stages: what conversions do not show of them."""

import time
from collections.abc import Iterator

import pytest

from rematte.prefetch import Prefetch, WriterThread


def test_no_more_is_made_than_fits() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            made.append(item)
            yield item

    with Prefetch(items()) as taken:
        for count, _ in enumerate(taken):
            time.sleep(0.001)
            assert len(made) <= count + 1 + 1 + 1  # taken, waiting, being made
            if count == 20:
                break
    assert len(made) < 30


def test_after_an_error_what_waits_is_left() -> None:
    done: list[int] = []

    def act(item: int) -> None:
        time.sleep(0.5)
        done.append(item)

    def broken(sink: WriterThread[int]) -> None:
        for item in range(3):
            sink.put(item)
        raise OSError("elsewhere")

    with pytest.raises(OSError, match="elsewhere"), WriterThread(act) as sink:
        broken(sink)
    assert len(done) < 3


def test_leaving_early_closes_the_source_in_its_thread() -> None:
    closed: list[bool] = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    with Prefetch(items()) as taken:
        next(taken)
    assert closed == [True]


def test_an_error_behind_comes_at_the_next_item_or_the_end() -> None:
    def fail(item: int) -> None:
        raise OSError(f"no room for {item}")

    def fill(sink: WriterThread[int]) -> None:
        for item in range(100):
            sink.put(item)

    with pytest.raises(OSError, match="no room for 0"), WriterThread(fail) as sink:
        fill(sink)
    with pytest.raises(OSError, match="no room for 7"), WriterThread(fail) as sink:
        sink.put(7)


def test_after_ctrl_c_what_was_handed_over_is_done() -> None:
    done: list[int] = []

    def act(item: int) -> None:
        time.sleep(0.02)
        done.append(item)

    def stopped(sink: WriterThread[int]) -> None:
        for item in range(3):
            sink.put(item)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), WriterThread(act) as sink:
        stopped(sink)
    assert done == [0, 1, 2]
