"""Runs compiled loops over the rows of a picture on all cores."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

__all__ = ["CORES", "kernels", "run_beside", "run_rows"]

try:
    import _rematte_kernels as kernels
except ModuleNotFoundError:
    raise ImportError(
        "the compiled module _rematte_kernels is missing; install it with "
        "`pip install rematte`, or in a checkout with `pip install -e .`"
    ) from None

# Cores that this process may use; macOS and Windows know no such limit.
CORES = (
    len(os.sched_getaffinity(0))
    if hasattr(os, "sched_getaffinity")
    else os.cpu_count() or 1
)
_pool = ThreadPoolExecutor(CORES, "rematte-rows")


def _start_again() -> None:
    """Make a new pool in a forked process, which lacks the parent's threads."""
    global _pool
    _pool = ThreadPoolExecutor(CORES, "rematte-rows")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_again)


def run_beside(function: Callable[..., None], *arguments: Any) -> Future[None]:
    """Start a function that releases Python's global lock in another thread."""
    return _pool.submit(function, *arguments)


def run_rows(kernel: Callable[..., None], rows: int, *arguments: Any) -> None:
    """Run a kernel over all rows, a range of them on each core.

    The kernel takes the first row, the row after the last, and `arguments`; it releases
    Python's global lock.
    """
    ranges = min(CORES, rows)
    edges = [rows * index // ranges for index in range(ranges + 1)]
    jobs = [
        _pool.submit(kernel, begin, end, *arguments)
        for begin, end in pairwise(edges[1:])
    ]
    kernel(edges[0], edges[1], *arguments)
    for job in jobs:
        job.result()
