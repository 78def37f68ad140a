"""Runs jobs one after the other with one model, or side by side in a pool of processes.

A job that fails is recorded and the rest continues. An output gets its name only when
it is complete, so a run that was stopped continues with `skip_existing`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rematte.conversion.report import Progress, Report
from rematte.convert import convert
from rematte.errors import explain
from rematte.options import Options
from rematte.video.output_paths import sweep
from rematte.workers import storage
from rematte.workers.planning import Job, skip
from rematte.workers.pool import ProcessKilledError, run_all


def run(
    jobs: Sequence[Job],
    load: Callable[[], Any],
    options: Options,
    *,
    workers: int = 1,
    skip_existing: bool = False,
    progress: bool = False,
) -> Iterator[Job]:
    """Convert every job, and yield each with its result, in order of completion.

    Args:
        jobs: From `plan`; modified in place, but for those that other processes do.
        load: Loads the model; called once in each process. Must be picklable where
            there are several.
        options: How to convert.
        workers: Number of processes; they share the cores.
        skip_existing: Skip jobs all of whose outputs exist.
        progress: Show a bar of frames on stderr.
    """
    if workers < 1:
        raise ValueError(f"jobs must be 1 or more, got {workers}")
    waiting = yield from skip(jobs, skip_existing)
    if workers == 1:
        model = load() if waiting else None
        for job in waiting:
            yield convert_job(model, job, options, progress)
        return
    function = partial(convert_job, options=options)
    for job, done in run_all(load, function, waiting, workers, clear):
        if isinstance(done, ProcessKilledError):
            job.status, job.code = "failed", 5
            job.error = "its process was killed; try --resize or fewer --jobs"
            yield job
        else:
            yield done


def convert_job(
    model: Any, job: Job, options: Options, progress: bool | Progress = False
) -> Job:
    """Attempt a job once, record in it how that went, and return it."""
    with recorded(job), TemporaryDirectory(prefix="rematte-") as folder:
        scratch = Path(folder)
        made = {
            kind: storage.local_target(path, scratch / kind, options.overwrite)
            for kind, path in job.outputs.items()
        }
        source = storage.fetch(job.input, scratch)
        report = convert(model, source, made, options, progress=progress)
        storage.publish({job.outputs[kind]: path for kind, path in made.items()})
        finish(job, report)
    return job


@contextmanager
def recorded(job: Job) -> Iterator[None]:
    """Record in a job what is raised within, and how long that took."""
    begin = time.perf_counter()
    try:
        yield
    except Exception as error:
        job.status = "failed"
        job.code, job.error = explain(error)
    except KeyboardInterrupt as stop:  # files in the temporary folder are deleted
        saved = [name for name in stop.args if Path(name).exists()]
        raise KeyboardInterrupt(*saved) from None
    finally:
        job.seconds = time.perf_counter() - begin


def finish(job: Job, report: Report) -> None:
    """Record a conversion that succeeded."""
    job.status, job.frames, job.notes = "done", report.frames, report.notes


def clear(job: Job) -> None:
    """Remove the temporary files that a killed process left beside local outputs."""
    for path in job.outputs.values():
        if not storage.is_remote(path):
            sweep(path)


def as_table(jobs: Sequence[Job]) -> str:
    """Format the results, one line per job and a line of totals."""
    width = max(len(str(job.input)) for job in jobs)
    lines = []
    for job in jobs:
        took = f"{job.frames} frames in {job.seconds:.1f} s" if job.frames else ""
        what = job.error or took or ", ".join(map(str, job.outputs.values()))
        lines.append(f"{job.status:<8} {job.input!s:<{width}}  {what}")
    counts = Counter(job.status for job in jobs)
    lines.append(", ".join(f"{count} {status}" for status, count in counts.items()))
    return "\n".join(lines)
