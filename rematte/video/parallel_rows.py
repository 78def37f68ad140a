"""Runs compiled loops over the rows of a picture on all cores."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

# Not numba's own threads: those of its default layer must not be used by two at once.
_THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4
_pool = ThreadPoolExecutor(_THREADS, "rematte-rows")


def in_bands(kernel: Callable[..., None], rows: int, *arguments: Any) -> None:
    """Run a kernel over bands of rows, one for each core.

    Args:
        kernel: Takes the first row, the one after the last, and the arguments; holds
            no lock of Python's.
        rows: How many there are.
        *arguments: Handed on.
    """
    bands = min(_THREADS, rows)
    edges = [rows * band // bands for band in range(bands + 1)]
    jobs = [
        _pool.submit(kernel, begin, end, *arguments)
        for begin, end in pairwise(edges[1:])
    ]
    kernel(edges[0], edges[1], *arguments)
    for job in jobs:
        job.result()
