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


@pytest.mark.parametrize(
    ("error", "all_done"), [(OSError("elsewhere"), False), (KeyboardInterrupt(), True)]
)
def test_what_waits_is_left_after_an_error_and_done_after_ctrl_c(
    error: BaseException, all_done: bool
) -> None:
    done: list[int] = []

    def act(item: int) -> None:
        time.sleep(0.1)
        done.append(item)

    def stopped(sink: WriterThread[int]) -> None:
        for item in range(3):
            sink.put(item)
        raise error

    with pytest.raises(type(error)), WriterThread(act) as sink:
        stopped(sink)
    assert (done == [0, 1, 2]) is all_done


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
