"""The queue of jobs of a work folder, and the threads that convert them.

Every change of a job is on disk at once, so a server that was killed resumes its queue;
a conversion that was running starts again. A job keeps the results of its last
conversions, each in a folder of its own.
"""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rematte.serve import look, work
from rematte.serve.choice import Choice, read_choice
from rematte.serve.job import Job, check_settings, read_job
from rematte.serve.pictures import Pictures
from rematte.serve.processes import SharedProcess, WorkError, call, without_flags
from rematte.serve.store import Store
from rematte.workers.pool import WorkerProcess

_MOST_AT_ONCE = 64
_VERSIONS = 3  # results of a job that are saved
_MISSING = (
    "its files are no longer in the work folder; remove it, and upload the video again"
)


def _no_model() -> None:
    """Stand in for the model where none is needed: to examine files."""


class Jobs:
    """All jobs of a work folder, and the threads that convert them.

    Args:
        folder: The work folder; created if it does not exist.
        load: Loads the model in another process; must be picklable.
        at_once: Number of jobs that are converted at a time.
        threads: How many threads the network has in each.
        memory: Memory limit of each process [bytes], or None.

    Attributes:
        version: Increases whenever a job changes.
        notes: Remarks about the work folder, one sentence each.

    Raises:
        ValueError: If `at_once` is out of its range.
        OutputError: If another server uses the folder, or it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[], Any],
        at_once: int,
        threads: int,
        memory: int | None = None,
    ) -> None:
        if not 1 <= at_once <= _MOST_AT_ONCE:
            raise ValueError(f"jobs must be 1 to {_MOST_AT_ONCE}, got {at_once}")
        self.version = 0
        self._start_process = partial(WorkerProcess, load, threads, memory)
        self._store = Store(folder)
        self.notes = self._store.notes
        self._changed = threading.Condition(threading.RLock())
        self._processes: dict[str, WorkerProcess] = {}  # of running jobs, by id
        self._closing = False
        # Uploads do not wait behind previews.
        self._examiner = SharedProcess(
            partial(WorkerProcess, _no_model, threads, memory)
        )
        self._viewer = SharedProcess(self._start_process)
        self._stills, self._cutouts = Pictures(self._examiner), Pictures(self._viewer)
        self._jobs = self._read()
        self._threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(at_once)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> dict[str, Job]:
        """Read the list of jobs; queue those again that a killed server was running."""
        jobs: dict[str, Job] = {}
        for id, text in self._store.entries():
            try:
                jobs[id] = read_job(id, text)
            except ValueError as error:
                self.notes.append(f"{error}; it and its folder were left as they are")
        self._jobs = jobs
        for job in jobs.values():
            if self._is_missing(job):
                job.state, job.error, job.results = "failed", _MISSING, []
                continue
            self._delete_old_outputs(job)
            if job.state == "running":
                job.state, job.done = "queued", 0
                self._save(job)
        return jobs

    def _is_missing(self, job: Job) -> bool:
        folder = self.folder(job.id)
        return folder.is_symlink() or not (folder / job.file).is_file()

    def check_model(self) -> None:
        """Load the model in the process for pictures of a moment.

        Raises:
            WorkError: If it cannot be loaded.
        """
        self._viewer.call("", work.check_model, Path())

    def token(self) -> str:
        """The secret part of the page's address."""
        return self._store.token()

    def _save(self, job: Job) -> None:
        with self._changed:
            if job.id not in self._jobs:  # removed meanwhile
                return
            self._store.save(job.id, json.dumps(asdict(job)))
            self._notify()

    def _notify(self) -> None:
        self.version += 1
        self._changed.notify_all()

    # What the page asks for

    def listing(self) -> list[dict[str, Any]]:
        """All jobs as plain data."""
        with self._changed:
            return [asdict(job) for job in self._jobs.values()]

    def get(self, id: str) -> Job | None:
        """The job with this id, or None."""
        return self._jobs.get(id)

    def folder(self, id: str) -> Path:
        """The folder of a job's files."""
        return self._store.folder(id)

    def new_id(self) -> str:
        """Create a folder for an upload and return its name."""
        return self._store.new_folder()

    def discard(self, id: str) -> None:
        """Delete the folder of an upload that failed or of a job that was removed."""
        self._store.discard(id)

    def add(self, id: str, name: str, file: str) -> Job:
        """Add a job for an upload that is complete.

        Raises:
            WorkError: If it is not a video.
        """
        info = self._examiner.call(name, work.examine, self.folder(id) / file)
        job = Job(id, name, file, info, frames=info["frames"])
        with self._changed:
            self._jobs[id] = job
            self._save(job)
        return job

    def set_backdrop(self, job: Job, name: str, file: str) -> None:
        """Set the background of a job to an uploaded image.

        Raises:
            WorkError: If it is not an image.
        """
        self._examiner.call(name, work.examine_image, self.folder(job.id) / file)
        with self._changed:
            if job.backdrop:
                (self.folder(job.id) / job.backdrop).unlink(missing_ok=True)
            job.backdrop = file
            self._save(job)

    def still(self, job: Job, at: float, side: int) -> Path | None:
        """Give the frame at a time as an image, or have it made; see `look.still`."""
        return self._look(self._stills, job, look.still, ".jpg", at, side)

    def cutout(self, job: Job, at: float, ratio: float, choice: Choice) -> Path | None:
        """Give the cut-out at a time, or have it made; see `look.cutout`."""
        return self._look(self._cutouts, job, look.cutout, ".png", at, ratio, choice)

    def judgement(self, job: Job, at: float, ratio: float) -> Path | None:
        """Give what `look.judge` says of a time, or have it made."""
        return self._look(self._cutouts, job, look.judge, ".json", at, ratio)

    def _look(
        self,
        pictures: Pictures,
        job: Job,
        function: Callable[..., Any],
        suffix: str,
        *args: Any,
    ) -> Path | None:
        with self._changed:
            if self._is_missing(job):
                raise WorkError(_MISSING)
        source = self.folder(job.id) / job.file
        return pictures.get(job.name, function, source, suffix, *args)

    def start(self, job: Job, settings: dict[str, Any]) -> None:
        """Put a job into the queue; its earlier results stay until this one is done.

        Raises:
            ValueError: If it is queued or running, or a setting is not allowed.
        """
        settings = check_settings(settings)
        if settings["background"] == "image" and not job.backdrop:
            raise ValueError("background: upload an image first")
        with self._changed:
            if self._is_missing(job):
                raise ValueError(f"{job.name}: {_MISSING}")
            if job.state in ("queued", "running"):
                raise ValueError(f"{job.name} is {job.state} already; cancel it first")
            job.settings, job.state, job.done = settings, "queued", 0
            job.error, job.notes = "", []
            job.turn = 1 + max((other.turn for other in self._jobs.values()), default=0)
            self._save(job)

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue, or stop it; its results stay."""
        with self._changed:
            if job.state in ("queued", "running"):
                job.state = "cancelled"
                self._save(job)
                if job.id in self._processes:
                    self._processes[job.id].kill()

    def remove(self, job: Job) -> None:
        """Delete a job with all of its files."""
        with self._changed:
            self.cancel(job)
            if self._jobs.pop(job.id, None) is None:
                return
            self._store.remove(job.id)
            self._notify()
            busy = job.id in self._processes
        if not busy:  # else its thread does that
            self.discard(job.id)

    def close(self) -> None:
        """Stop; running jobs are queued again when the folder is opened again."""
        with self._changed:
            self._closing = True
            for process in self._processes.values():
                process.kill()
            self._changed.notify_all()
        self._examiner.close()
        self._viewer.close()
        self._stills.close()
        self._cutouts.close()
        for thread in self._threads:
            thread.join()
        self._store.close()

    # What the threads do

    def _outputs(self, job: Job, run: int) -> Path:
        # The first version of this page had one folder for all runs.
        return self.folder(job.id) / (f"out-{run}" if run else "out")

    def output(self, job: Job, run: int, file: str) -> Path:
        """The path of a file that a conversion of a job has made."""
        return self._outputs(job, run) / file

    def _delete_old_outputs(self, job: Job) -> None:
        """Delete all outputs but those listed in the results."""
        saved = {self._outputs(job, result["run"]) for result in job.results}
        for path in self.folder(job.id).glob("out*"):
            if path not in saved:
                shutil.rmtree(path, ignore_errors=True)  # refuses links

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            job, process = taken
            run, settings = job.turn, job.settings
            try:
                notes, error = self._convert(job, process, run, settings)
            except (WorkError, OSError) as caught:
                notes, error = [], str(caught)
            process.close()
            source = self.folder(job.id) / job.file
            error = error.replace(str(source), job.name)
            with self._changed:
                if self._closing:
                    return
                if job.state == "running" and job.id in self._jobs:
                    job.state = "failed" if error else "done"
                    job.error, job.notes = error, notes
                    if not error:
                        result = {"run": run, "settings": settings, "notes": notes}
                        job.results = [result, *job.results][:_VERSIONS]
                    self._save(job)
                removed = job.id not in self._jobs
            if removed:
                self.discard(job.id)
            else:
                self._delete_old_outputs(job)
            with self._changed:
                del self._processes[job.id]
                self._notify()  # it may have been started again meanwhile

    def _take(self) -> tuple[Job, WorkerProcess] | None:
        """Wait for the next job; None when there will be no more."""
        with self._changed:
            while not self._closing:
                # A job that was cancelled and started again waits for its process.
                waiting = [
                    job
                    for job in self._jobs.values()
                    if job.state == "queued" and job.id not in self._processes
                ]
                if waiting:
                    job = min(waiting, key=lambda job: job.turn)
                    job.state = "running"
                    self._save(job)
                    self._processes[job.id] = self._start_process()
                    return job, self._processes[job.id]
                self._changed.wait()
        return None

    def _convert(
        self, job: Job, process: WorkerProcess, run: int, settings: dict[str, Any]
    ) -> tuple[list[str], str]:
        """Convert a job; returns notes, and why it failed or ""."""
        folder, target = self.folder(job.id), self._outputs(job, run)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        background = settings["background"]
        done = call(
            process,
            work.convert,
            folder / job.file,
            target,
            settings["outputs"],
            str(folder / job.backdrop) if background == "image" else background,
            settings["ratio"],
            read_choice(settings.get("choice")),
            report=partial(self._set_progress, job),
        )
        return list(map(without_flags, done.notes)), without_flags(done.error)

    def _set_progress(self, job: Job, done: int, frames: int | None) -> None:
        with self._changed:
            job.done, job.frames = done, frames
            self._notify()
