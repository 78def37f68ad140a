"""Runs a batch on Ray: workers on this machine or on many, restarted by Ray.

A worker is an actor that does one call at a time: a file, or with `split` a segment of
one. If it is lost, Ray starts it again and the call is repeated here: Ray's own retries
count one loss twice when they meet an actor that has not restarted yet. An output gets
its name only when it is complete, so it appears once and whole, whichever attempt made
it.
"""

import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

from rematte.engines.runtimes import import_ray, start_ray
from rematte.options import Options
from rematte.version import __version__
from rematte.workers import storage
from rematte.workers.jobs import clear
from rematte.workers.planning import Job, skip
from rematte.workers.ray_actor import Result, Worker

_START_TIMEOUT = 30  # of connecting, and before a message that no worker has started
_RESTART_INTERVAL = 0.2  # between questions whether a worker has restarted [s]
_STOP_TIMEOUT = 10  # for the temporary folders of workers to be removed [s]


def run(
    jobs: Sequence[Job],
    load: Callable[[str], Any],
    options: Options,
    *,
    address: str | None = None,
    workers: int | None = None,
    cpus: int | None = None,
    retries: int = 2,
    split: bool = False,
    skip_existing: bool = False,
    report: Callable[[str], object] = lambda text: None,
) -> Iterator[Job]:
    """Convert every job on Ray, and yield each with its result as it is completed.

    Closing the generator stops all workers.

    Args:
        jobs: From `plan`.
        load: Loads the model for a device; called once in each worker. Must be
            picklable.
        options: How to convert. Where the device may be CUDA, and the cluster has GPUs,
            each worker gets a GPU of its own.
        address: None starts Ray on this machine, unless it runs in this process;
            "auto" is the cluster this machine belongs to; or HOST:PORT.
        workers: Number of workers; None takes as many as there is room for.
        cpus: Cores of each; None takes 2, or on this machine 1 where there are no more.
        retries: How often a file, or a segment, is repeated whose worker was lost.
        split: Distribute segments of files that are on disks, which all machines must
            share; see `resume`.
        skip_existing: Skip jobs all of whose outputs exist.
        report: Called with a line when no worker starts for a long time.
    """
    _check(address, workers, cpus, retries)
    waiting = yield from skip(jobs, skip_existing)
    if not waiting:
        return
    ray, started_here = _connect(address)
    try:
        device = str(options.device or "auto")
        cpus, gpus, room = _share(ray, device, address, workers, cpus)
        count = workers or max(1, room)
        if not split:
            count = min(count, len(waiting))
        scratch = f"rematte-worker-{uuid4().hex}-"
        make = partial(
            ray.remote(
                num_cpus=cpus, num_gpus=gpus, max_restarts=-1
            )(Worker).remote,
            load, options, cpus, os.getcwd(), scratch,  # noqa: PTH109
        )  # fmt: skip
        batch = _Batch(ray, [make() for _ in range(count)], retries, split)
        try:
            yield from batch.run(waiting, report)
        finally:
            batch.stop()
            _remove_everywhere(ray, scratch)
    finally:
        if started_here:
            ray.shutdown()


def _check(
    address: str | None, workers: int | None, cpus: int | None, retries: int
) -> None:
    if address not in (None, "auto") and not str(address).rpartition(":")[2].isdigit():
        raise ValueError(
            f"ray must be auto or HOST:PORT, got {address!r}; write --ray behind the "
            "inputs"
        )
    for name, value, least in (
        ("jobs", workers, 1), ("worker_cpus", cpus, 1), ("retries", retries, 0)
    ):  # fmt: skip
        if value is not None and value < least:
            raise ValueError(f"{name} must be {least} or more, got {value}")


def _share(
    ray: Any, device: str, address: str | None, workers: int | None, cpus: int | None
) -> tuple[int, int, int]:
    """Cores and GPUs of each worker, and the number of workers there is room for."""
    has = ray.cluster_resources()
    if cpus is None:  # another cluster may yet grow
        share = int(has.get("CPU", 0)) // (workers or 1)
        cpus = 2 if address else max(1, min(2, share))
    gpus = int(device.startswith("cuda") or (device == "auto" and "GPU" in has))
    room = int(has.get("GPU", 0) if gpus else has.get("CPU", 0) // cpus)
    if address is None and room < (workers or 1):
        raise ValueError(
            f"{workers or 1} workers of {cpus} cores and {gpus} GPUs do not fit on "
            f"this machine with {has.get('CPU', 0):g} and {has.get('GPU', 0):g}; "
            "use fewer --jobs or --worker-cpus, or another --device"
        )
    return cpus, gpus, room


def _connect(address: str | None) -> tuple[Any, bool]:
    """Ray itself, and whether it was started here."""
    try:
        ray = import_ray(alone=address is None)
    except ModuleNotFoundError as error:
        raise ImportError(
            "a cluster needs an extra: pip install 'rematte[ray]'"
        ) from error
    if ray.is_initialized():
        return ray, False
    try:
        if address not in (None, "auto"):  # Ray itself would try for many minutes
            host, _, port = str(address).rpartition(":")
            socket.create_connection((host, int(port)), _START_TIMEOUT).close()
        settings: dict[str, Any] = {
            "log_to_driver": False, "logging_level": logging.ERROR
        }  # fmt: skip
        if address is None:
            start_ray(**settings)
        else:
            ray.init(address=address, **settings)
    except Exception as error:  # Ray's are of any class
        raise ConnectionError(
            f"no Ray cluster at {address or 'this machine'} ({_cause(error)}); "
            "start one with `ray start --head`, correct --ray, or set RAY_AUTH_MODE as "
            "on the cluster"
        ) from error
    return ray, True


def _cause(error: Exception) -> str:
    """Return the last of Ray's many lines, which names the cause."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:300]


def _remove_everywhere(ray: Any, scratch: str) -> None:
    """Remove the temporary folders of all workers on every machine that is alive."""

    def remove() -> None:  # goes by value, so that it needs no import of ours
        for path in Path(tempfile.gettempdir()).glob(f"{scratch}*"):
            shutil.rmtree(path, ignore_errors=True)

    on_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    task = ray.remote(num_cpus=0, max_retries=0)(remove)
    tasks = [
        task.options(scheduling_strategy=on_node(node["NodeID"], soft=False)).remote()
        for node in ray.nodes()
        if node["Alive"]
    ]
    ray.wait(tasks, num_returns=len(tasks), timeout=_STOP_TIMEOUT)


class _Batch:
    """The jobs of a run, each driven by a thread that waits for free workers.

    A worker gets its first call when its actor has started.
    """

    def __init__(
        self, ray: Any, actors: Sequence[Any], retries: int, split: bool
    ) -> None:
        self._ray, self._actors = ray, actors
        self._retries, self._split = retries, split
        self._idle = SimpleQueue[Any]()
        self._stopped = False
        self._files = ThreadPoolExecutor(len(actors))
        self._segments = ThreadPoolExecutor(len(actors))
        self._starts = ThreadPoolExecutor(len(actors))

    def run(
        self, jobs: Sequence[Job], report: Callable[[str], object]
    ) -> Iterator[Job]:
        """Do all jobs; each worker does one call at a time."""
        starts = {self._starts.submit(self._start, actor) for actor in self._actors}
        files = {self._files.submit(self._convert, job) for job in jobs}
        while files:
            futures: set[Future[Any]] = {*starts, *files}
            done, _ = wait(futures, _START_TIMEOUT, FIRST_COMPLETED)
            if not done and len(starts) == len(self._actors):
                has = self._ray.cluster_resources()
                report(
                    f"waiting for a worker; the cluster has {has.get('CPU', 0):g} "
                    f"cores and {has.get('GPU', 0):g} GPUs"
                )
            for future in done & starts:
                future.result()
            for future in done & files:
                yield future.result()
            starts, files = starts - done, files - done

    def _start(self, actor: Any) -> None:
        """Wait until a worker has started, and check its version."""
        try:
            version = self._ray.get(actor.version.remote())
        except self._ray.exceptions.RayActorError as error:
            raise ConnectionError(
                f"no worker starts ({_cause(error)}); every machine needs rematte "
                f"{__version__} with the same extras"
            ) from error
        if version != __version__:
            raise ConnectionError(
                f"a worker has rematte {version}, and this is {__version__}; install "
                "the same on every machine"
            )
        self._idle.put(actor)

    def _convert(self, job: Job) -> Job:
        """Do a job; the thread ends with it."""
        is_new = not job.exists(any)
        paths = (job.input, *job.outputs.values())
        if self._split and not any(map(storage.is_remote, paths)):
            return self._convert_split(job, is_new)
        return self._call("convert", job, is_new)[0]

    def _convert_split(self, job: Job, is_new: bool) -> Job:
        begin = time.perf_counter()
        done, work = self._call("plan", job, is_new)
        if work is None:
            return done
        parts = [
            self._segments.submit(self._call, "segment", job, work, segment)
            for segment in work.missing()
        ]
        for part in as_completed(parts):
            done, _ = part.result()
            if done.status == "failed":
                break
        else:
            done, _ = self._call("join", job, is_new, work)
        running = [part for part in parts if not part.cancel()]
        if done.status == "failed":
            wait(running)  # they would write into the folder while it is removed
            shutil.rmtree(work.folder, ignore_errors=True)
        done.seconds = time.perf_counter() - begin
        return done

    def _call(self, method: str, job: Job, *args: Any) -> Result:
        """Call a method of the next free worker; the job fails if that is lost."""
        actor = self._idle.get()
        try:
            for attempt in range(self._retries + 1):
                if self._stopped:
                    raise CancelledError
                call = getattr(actor, method).remote(job, *args, retry=attempt > 0)
                with suppress(self._ray.exceptions.RayActorError):
                    result: Result = self._ray.get(call)
                    return result
                clear(job)
                self._wait_for_restart(actor)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None  # such as missing weights
        finally:
            self._idle.put(actor)
        job.status, job.code = "failed", 5
        job.error = (
            f"its worker was lost {self._retries + 1} times, perhaps for its "
            "memory; try --resize or more --worker-cpus"
        )
        return job, None

    def _wait_for_restart(self, actor: Any) -> None:
        """Wait until Ray has started a lost worker again, or all are stopped."""
        while not self._stopped:
            with suppress(self._ray.exceptions.RayActorError):
                self._ray.get(actor.version.remote())
                return
            time.sleep(_RESTART_INTERVAL)
        raise CancelledError

    def stop(self) -> None:
        """Kill all workers; the threads then remove what running calls have written."""
        self._stopped = True
        self._idle.put(None)  # wakes a thread, which puts it back for the next
        for actor in self._actors:
            self._ray.kill(actor)
        for threads in (self._starts, self._files, self._segments):
            threads.shutdown(cancel_futures=True)
