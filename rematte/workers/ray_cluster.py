"""Ray as the engine of a batch: workers on this machine or on many.

A worker is a process that holds the model and does one file at a time. If it is lost,
its file is done again elsewhere. An output has its name only when it is complete, so it
appears once, with every frame, whichever attempt made it.
"""

import logging
import os
import shutil
import socket
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from rematte.engines.device import choose_device
from rematte.engines.runtimes import import_ray, start_ray
from rematte.prefetch import share_heap
from rematte.resume import LEAD_IN
from rematte.resume.join import join
from rematte.resume.plan import Segment, Work, prepare
from rematte.resume.run import SegmentConverter
from rematte.version import __version__
from rematte.workers import jobs as batch
from rematte.workers import storage

_PATIENCE = 30  # until it is told that no worker has started yet [s]
_FAREWELL = 10  # for workers to end [s]


# A job as it is now, and its segments if they have been planned.
_Result: TypeAlias = tuple[batch.Job, Work | None]


class Worker:
    """What runs in the process of a worker.

    Args:
        load: Loads the model for a device.
        device: As of `choose_device`.
        threads: For torch.
        folder: Where relative paths begin, if it is there.
    """

    def __init__(
        self,
        load: Callable[[torch.device], Any],
        device: str,
        threads: int,
        folder: str,
    ) -> None:
        share_heap()
        torch.set_num_threads(threads)
        with suppress(OSError):  # of another machine
            os.chdir(folder)
        self._loader, self._device = load, device
        self._model: Any = None
        self._converter: tuple[Path, SegmentConverter] | None = None
        # All that is temporary goes there, so that others can remove it if we die.
        self._scratch = tempfile.tempdir = tempfile.mkdtemp(prefix="rematte-worker-")

    def where(self) -> tuple[str, str, str]:
        """Version, machine and the folder of what is temporary."""
        node = import_ray().get_runtime_context().get_node_id()
        return __version__, node, self._scratch

    def convert(self, job: batch.Job, settings: Mapping[str, Any]) -> _Result:
        """Do a job; the first one loads the model."""
        return batch.convert(self._load(), job, self._here(settings)), None

    def plan(
        self, job: batch.Job, settings: Mapping[str, Any], resume: bool
    ) -> _Result:
        """Cut a video into segments."""

        def act() -> Work:
            for path in job.outputs.values():
                path.parent.mkdir(parents=True, exist_ok=True)
            paths = batch.arguments(job, {p: p for p in job.outputs.values()})
            return prepare(
                self._load(), job.input, resume=resume, lead_in=LEAD_IN, **paths,
                **self._here(settings),
            )  # fmt: skip

        self._load()  # outside, since wrong weights are nobody's own
        return job, batch.attempt(job, act)

    def part(self, job: batch.Job, work: Work, segment: Segment) -> _Result:
        """Convert a segment."""
        model = self._load()
        if self._converter is None or self._converter[0] != work.folder:
            self._converter = work.folder, SegmentConverter(model, work)
        batch.attempt(job, partial(self._converter[1], segment))
        return job, None

    def join(self, job: batch.Job, work: Work) -> _Result:
        """Join all segments of a video."""
        report = batch.attempt(job, partial(join, work))
        if report is not None:
            batch.finish(job, report)
            seams = [mean for _, mean, _ in report.seams]
            if seams:
                job.notes.append(
                    f"{report.segments} segments; at the worst seam alpha differs by "
                    f"{max(seams):.2f}/255 on average"
                )
        return job, None

    def _here(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {**settings, "device": choose_device(self._device)[0]}

    def _load(self) -> Any:
        if self._model is None:
            self._model = self._loader(choose_device(self._device)[0])
        return self._model

    def close(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._scratch, ignore_errors=True)


def run(
    jobs: Sequence[batch.Job],
    load: Callable[[torch.device], Any],
    *,
    address: str | None = None,
    workers: int | None = None,
    cpus: int | None = None,
    retries: int = 2,
    split: bool = False,
    device: str = "auto",
    skip_existing: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> Iterator[batch.Job]:
    """Convert, and give each job when it is finished; close it to stop all workers.

    Args:
        jobs: From `batch.plan`.
        load: Loads the model for a device; called once in each worker. Picklable.
        address: None starts Ray on this machine, unless it runs in this process;
            "auto" is the cluster this machine belongs to; or HOST:PORT.
        workers: How many; None takes as many as there is room for.
        cpus: Cores of each; None takes 2, or on this machine 1 where there are no more.
        retries: How often a file, or a segment, is done again whose worker was lost.
        split: Hand out segments of files that are on disks, which all machines must
            share; see `segments`.
        device: As of `choose_device`, chosen in the worker. If it may be CUDA, and the
            cluster has GPUs, each worker has one for itself.
        skip_existing: Leave alone what has all of its outputs.
        tell: Is told what takes long.
        **settings: For `convert_video`.

    Yields:
        Each job, as it is finished.

    Raises:
        ValueError: If a number is out of range, or the machine has too little.
        ImportError: If Ray is not installed.
        ConnectionError: If the cluster cannot be reached, or no worker starts there.
    """
    _check(address, workers, cpus, retries)
    waiting = []
    for job in jobs:
        if skip_existing and batch.exists(job):
            job.status = "skipped"
            yield job
        else:
            waiting.append(job)
    if not waiting:
        return
    ray, ours = _connect(address)
    try:
        has = ray.cluster_resources()
        if cpus is None:  # another cluster may yet grow
            share = int(has.get("CPU", 0)) // (workers or 1)
            cpus = 2 if address else max(1, min(2, share))
        gpus = int(device.startswith("cuda") or (device == "auto" and "GPU" in has))
        room = has.get("GPU", 0) if gpus else has.get("CPU", 0) // cpus
        if address is None and room < (workers or 1):
            raise ValueError(
                f"{workers or 1} workers of {cpus} cores and {gpus} GPUs do not fit on "
                f"this machine with {has.get('CPU', 0):g} and {has.get('GPU', 0):g}; "
                "use fewer --jobs or --worker-cpus, or another --device"
            )
        make = partial(
            ray.remote(num_cpus=cpus, num_gpus=gpus)(Worker).remote,
            load, device, cpus, os.getcwd(),  # noqa: PTH109
        )  # fmt: skip
        pool = _Pool(ray, make, retries, settings, tell)
        count = workers or max(1, int(room))
        if not split:
            count = min(count, len(waiting))
        try:
            anew = bool(settings.get("overwrite", True))
            units = [_begin(job, split, anew) for job in waiting]
            yield from pool.convert(units, count)
        finally:
            pool.stop()
    finally:
        if ours:
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


def _connect(address: str | None) -> tuple[Any, bool]:
    """Ray itself, and whether it was begun here."""
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
            socket.create_connection((host, int(port)), _PATIENCE).close()
        settings: dict[str, Any] = {
            "log_to_driver": False, "logging_level": logging.ERROR
        }  # fmt: skip
        if address is None:
            start_ray(**settings)
        else:
            ray.init(address=address, **settings)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConnectionError(
            f"no Ray cluster at {address or 'this machine'} ({_cause(error)}); "
            "start one with `ray start --head`, correct --ray, or set RAY_AUTH_MODE as "
            "on the cluster"
        ) from error
    return ray, True


def _cause(error: Exception) -> str:
    """The line of Ray's many that tells the cause."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:300]


@dataclass(frozen=True)
class _Unit:
    """What is handed out.

    Attributes:
        job: Whose.
        what: The method of a worker.
        more: What it is told besides.
    """

    job: batch.Job
    what: str
    more: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The video."""
        return str(self.job.input)

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from all others."""
        return self.name, self.what, self.more[1].index if self.what == "part" else 0


def _begin(job: batch.Job, split: bool, anew: bool) -> _Unit:
    """How a job begins: what is in object storage has no place for segments."""
    far = any(map(storage.is_remote, (job.input, *job.outputs.values())))
    if far or not split:
        return _Unit(job, "convert")
    return _Unit(job, "plan", (not anew,))


class _Pool:
    """Workers, what each of them does, and what becomes of it.

    Args:
        ray: Ray itself.
        make: Makes a worker.
        retries: As of `run`; likewise `settings` and `tell`.
        settings: See `retries`.
        tell: See `retries`.
    """

    def __init__(
        self,
        ray: Any,
        make: Callable[[], Any],
        retries: int,
        settings: Mapping[str, Any],
        tell: Callable[[str], None],
    ) -> None:
        self._ray, self._make, self._retries = ray, make, retries
        self._settings, self._tell = settings, tell
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, _Unit]] = {}
        self._waiting: deque[_Unit] = deque()
        self._places: dict[Any, tuple[str, str]] = {}  # machine and folder of each
        self._cleaning: list[Any] = []
        self._lost: Counter[Any] = Counter()  # by unit, and "" for none
        self._fresh: set[str] = set()  # inputs without outputs when first sent
        self._seen: set[str] = set()
        self._failed: set[str] = set()
        self._works: dict[str, Work] = {}
        self._left: dict[str, set[int]] = {}  # segments to be done, by input

    def convert(self, units: Sequence[_Unit], workers: int) -> Iterator[batch.Job]:
        """Do jobs; no more is handed out than there are workers that live."""
        self._waiting.extend(units)
        for _ in range(workers):
            self._start()
        while self._waiting or self._running:
            while self._waiting and self._idle:
                self._send(self._waiting.popleft())
            found, _ = self._ray.wait(
                [*self._starting, *self._running], timeout=_PATIENCE
            )
            if not found and not self._places:
                self._tell(f"waiting for a worker; the cluster has {self._has()}")
            for ref in found:
                if ref in self._starting:
                    self._greet(ref)
                else:
                    yield from self._go_on(*self._finish(ref))

    def _send(self, unit: _Unit) -> None:
        if unit.name not in self._seen:
            self._seen.add(unit.name)
            if not batch.exists(unit.job, any):
                self._fresh.add(unit.name)
        settings = self._settings
        if self._again(unit.name) and unit.name in self._fresh:
            # An attempt may have been lost after it had published.
            settings = {**settings, "overwrite": True}
        told = (settings,) if unit.what in ("convert", "plan") else ()
        worker = self._idle.pop()
        ref = getattr(worker, unit.what).remote(unit.job, *told, *unit.more)
        self._running[ref] = worker, unit

    def _again(self, name: str) -> bool:
        return any(key and key[0] == name for key in self._lost)

    def _go_on(self, unit: _Unit, result: _Result | None) -> Iterator[batch.Job]:
        """What follows from what became of a unit; gives a job that is finished."""
        if unit.name in self._failed:  # through another of its segments
            return
        job, work = (unit.job, None) if result is None else result
        if result is None:
            times = self._lost[unit.key]
            if times <= self._retries:
                # Of a join that was lost, who knows how far it came?
                ended = unit.what in ("plan", "join")
                again = _Unit(job, "plan", (True,)) if ended else unit
                self._waiting.append(again)
                return
            job.status, job.code = "failed", 5
            job.error = (
                f"its worker was lost {times} times, perhaps for its memory; try "
                "--resize or more --worker-cpus"
            )
        if job.status == "failed":
            self._failed.add(unit.name)
            self._waiting = deque(u for u in self._waiting if u.name != unit.name)
            self._forget(unit.name)
        elif unit.what in ("plan", "part"):
            self._follow(unit, work)
            return
        self._works.pop(unit.name, None)
        yield job

    def _follow(self, unit: _Unit, work: Work | None) -> None:
        """Put the next units of a video in front, so that few are under way."""
        if work is not None:
            missing = work.missing()
            self._works[unit.name] = work
            self._left[unit.name] = {segment.index for segment in missing}
            parts = [_Unit(unit.job, "part", (work, each)) for each in missing]
            self._waiting.extendleft(reversed(parts))
        else:
            self._left[unit.name].discard(unit.more[1].index)
        if not self._left[unit.name]:
            whole = self._works[unit.name]
            self._waiting.appendleft(_Unit(unit.job, "join", (whole,)))

    def _forget(self, name: str) -> None:
        """Remove the segments of a video that will not be completed."""
        work = self._works.pop(name, None)
        if work is not None:
            shutil.rmtree(work.folder, ignore_errors=True)

    def _has(self) -> str:
        has = self._ray.cluster_resources()
        return f"{has.get('CPU', 0):g} cores and {has.get('GPU', 0):g} GPUs"

    def _start(self) -> None:
        worker = self._make()
        self._starting[worker.where.remote()] = worker

    def _greet(self, ref: Any) -> None:
        """Take in a worker that has started."""
        worker = self._starting.pop(ref)
        try:
            version, node, folder = self._ray.get(ref)
        except self._ray.exceptions.RayActorError as error:
            self._lost[""] += 1
            if self._lost[""] > self._retries:
                raise ConnectionError(
                    f"no worker starts ({_cause(error)}); every machine needs rematte "
                    f"{__version__} with the same extras"
                ) from error
            self._start()
            return
        if version != __version__:
            raise ConnectionError(
                f"a worker has rematte {version}, and this is {__version__}; install "
                "the same on every machine"
            )
        self._lost[""] = 0
        self._places[worker] = node, folder
        self._idle.append(worker)

    def _finish(self, ref: Any) -> tuple[_Unit, _Result | None]:
        """What became of a unit; nothing if its worker was lost."""
        worker, unit = self._running.pop(ref)
        try:
            result: _Result = self._ray.get(ref)
        except self._ray.exceptions.RayActorError:
            self._lost[unit.key] += 1
            self._bury(worker, unit)
            self._start()
            return unit, None
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None  # such as missing weights
        self._idle.append(worker)
        return unit, result

    def _bury(self, worker: Any, unit: _Unit) -> None:
        """End a worker at once, and remove what it leaves."""
        self._ray.kill(worker)
        if unit.what in ("convert", "join"):
            batch.clear(unit.job)
        node, folder = self._places.pop(worker)
        strategy = self._ray.util.scheduling_strategies
        there = strategy.NodeAffinitySchedulingStrategy(node, soft=False)
        remove = self._ray.remote(num_cpus=0)(shutil.rmtree)
        self._cleaning.append(
            remove.options(scheduling_strategy=there).remote(folder, True)
        )

    def stop(self) -> None:
        """End all workers; only finished segments stay, for the next run."""
        ending = [worker.close.remote() for worker in self._idle]
        for worker in self._starting.values():
            self._ray.kill(worker)
        for worker, _ in self._running.values():
            self._ray.kill(worker)
        if self._running:  # only then is nothing written any more
            refs = list(self._running)
            self._ray.wait(refs, num_returns=len(refs), timeout=_FAREWELL)
        for worker, unit in self._running.values():
            self._bury(worker, unit)
        ending += self._cleaning
        if ending:
            self._ray.wait(ending, num_returns=len(ending), timeout=_FAREWELL)
        for worker in self._idle:
            self._ray.kill(worker)
