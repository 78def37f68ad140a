"""The queue of jobs of a work folder, and the threads that convert them.

Every change of a job is on disk at once, so a server that was killed resumes its queue;
a conversion that was running starts again. A job keeps the results of its last
conversions, each in a folder of its own.
"""

import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rematte.serve import look, work
from rematte.serve.backgrounds import Backgrounds
from rematte.serve.delivery import copy_out, file_name, folder_size, zip_files
from rematte.serve.job import PILLOW_IMAGES, Job, read_job
from rematte.serve.pictures import Pictures
from rematte.serve.processes import (
    Networks,
    SharedProcess,
    WorkError,
    call,
    start_process,
    without_flags,
)
from rematte.serve.settings import (
    FILES,
    NETWORK_SHARE,
    SHORT_PRESETS,
    check_fits,
    check_settings,
)
from rematte.serve.store import Store
from rematte.workers.pool import ProcessKilledError, WorkerProcess

_MOST_AT_ONCE = 64
_MEASURE_PERIOD = 5.0  # between two measurements of the space in use [s]
_VERSIONS = 3  # results of a job that are saved
_MISSING = (
    "its files are no longer in the work folder; remove it, and upload the video again"
)


def _no_networks() -> None:
    """Stand in for the networks where none is needed: to examine files."""


class Jobs:
    """All jobs of a work folder, and the threads that convert `at_once` of them.

    `load`, which must be picklable, loads the networks in processes that may use so
    many `threads` and so much `memory` [bytes]. Finished files are copied to `output`.
    `version` increases whenever a job changes.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[], Networks],
        at_once: int,
        threads: int,
        memory: int | None = None,
        output: Path | None = None,
    ) -> None:
        if not 1 <= at_once <= _MOST_AT_ONCE:
            raise ValueError(f"jobs must be 1 to {_MOST_AT_ONCE}, got {at_once}")
        self.version, self._output = 0, output
        self._start_process = partial(start_process, load, threads, memory)
        self.store = Store(folder)
        self._changed = threading.Condition(threading.RLock())
        self._processes: dict[str, WorkerProcess] = {}  # of running jobs, by id
        self._closing = False
        # Uploads do not wait behind previews.
        self._examiner = SharedProcess(
            partial(start_process, _no_networks, threads, memory)
        )
        self._viewer = SharedProcess(self._start_process)
        self._stills, self._cutouts = Pictures(self._examiner), Pictures(self._viewer)
        self.backgrounds = Backgrounds(self.store, self._examiner, self._notify)
        self._used, self._measured = 0, float("-inf")
        self._jobs: dict[str, Job] = {}
        self._read()
        self._threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(at_once)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        """Read the list of jobs; queue those again that a killed server was running."""
        for id, text in self.store.entries():
            try:
                self._jobs[id] = read_job(id, text)
            except ValueError as error:
                note = f"{error}; it and its folder were left as they are"
                self.store.notes.append(note)
        for job in self._jobs.values():
            if self._is_missing(job):
                job.state, job.error, job.results = "failed", _MISSING, []
                continue
            self._delete_old_outputs(job)
            if job.state == "running":
                job.state, job.done = "queued", 0
                self._save(job)

    def _is_missing(self, job: Job) -> bool:
        folder = self.store.folder(job.id)
        return folder.is_symlink() or not (folder / job.file).is_file()

    def check_model(self) -> None:
        """Load the network in the process for pictures of a moment, or raise."""
        self._viewer.call("", work.check_model, Path())

    def _save(self, job: Job) -> None:
        with self._changed:
            if job.id not in self._jobs:  # removed meanwhile
                return
            try:
                self.store.save(job.id, json.dumps(asdict(job)))
            except sqlite3.Error as error:  # the queue must go on on a full disk
                job.notes.append(
                    f"the list of jobs could not be written ({error}), so that a new "
                    "start of the server does not know how this went; free some space"
                )
            self._notify()

    def _notify(self) -> None:
        with self._changed:
            self.version += 1
            self._changed.notify_all()

    # What the page asks for

    def listing(self) -> list[dict[str, Any]]:
        """Return all jobs as plain data."""
        with self._changed:
            return [asdict(job) for job in self._jobs.values()]

    def state(self) -> dict[str, Any]:
        """Return all that the page shows, as plain data."""
        if time.monotonic() - self._measured > _MEASURE_PERIOD:
            self._used = folder_size(self.store.folder(""))
            self._measured = time.monotonic()
        return {
            "jobs": self.listing(),
            "backgrounds": self.backgrounds.listing(),
            "speeds": self.store.speeds(),
            "output": None if self._output is None else str(self._output),
            "used": self._used,
            "free": shutil.disk_usage(self.store.folder("")).free,
        }

    def all_files(self) -> Iterator[bytes]:
        """Return the files of the newest result of each job, as the parts of a ZIP."""
        with self._changed:
            newest = [
                (job, job.results[0]) for job in self._jobs.values() if job.results
            ]
        return zip_files(
            pair for job, result in newest for pair in self._results(job, result)
        )

    def _results(self, job: Job, result: dict[str, Any]) -> Iterator[tuple[Path, str]]:
        """Yield the files of a result, and their names for the user."""
        for key in result["settings"]["outputs"]:
            path = self.outputs(job, result["run"]) / FILES[key]
            yield path, file_name(job.name, path.name)

    def get(self, id: str) -> Job | None:
        """Return the job with this id, or None."""
        return self._jobs.get(id)

    def add(self, id: str, name: str, file: str) -> None:
        """Add a job for a complete upload; `WorkError` if it is no video or photo."""
        folder = self.store.folder(id)
        size = (folder / file).stat().st_size
        if file.endswith(PILLOW_IMAGES):
            upload, file = folder / file, "source.png"
            self._examiner.call(name, work.read_by_pillow, upload, folder / file)
            upload.unlink()
        info = self._examiner.call(name, work.examine, folder / file)
        job = Job(id, name, file, {**info, "bytes": size}, frames=info["frames"])
        with self._changed:
            self.store.save(id, json.dumps(asdict(job)))
            self._jobs[id], self._measured = job, float("-inf")
            self._notify()

    def look(
        self, job: Job, function: Callable[..., Any], suffix: str, *args: Any
    ) -> Path | None:
        """Give what a function of `look` makes of a job; None while it is made."""
        with self._changed:
            if self._is_missing(job):
                raise WorkError(_MISSING)
        source = self.store.folder(job.id) / job.file
        # Frames alone need no network, and do not wait for it.
        pictures = self._stills if function is look.still else self._cutouts
        return pictures.get(job.name, function, source, suffix, *args)

    def start(self, job: Job, settings: dict[str, Any]) -> None:
        """Put a job into the queue; its earlier results stay until this one is done."""
        settings = check_settings(settings)
        check_fits(settings["outputs"], job.info.get("photo", False))
        self.backgrounds.resolve(settings["background"])
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
            if job.id not in self._jobs:
                return
            self.store.remove(job.id)
            del self._jobs[job.id]
            self._notify()
            busy = job.id in self._processes
        if not busy:  # else its thread does that
            self.store.discard(job.id)
            self._measured = float("-inf")
            self._notify()

    def close(self) -> None:
        """Stop; running jobs are queued again when the folder is opened again."""
        with self._changed:
            self._closing = True
            for process in self._processes.values():
                process.kill()
            self._changed.notify_all()
        for each in (self._examiner, self._viewer, self._stills, self._cutouts):
            each.close()
        for thread in self._threads:
            thread.join()
        self.store.close()

    # What the threads do

    def outputs(self, job: Job, run: int) -> Path:
        """Return the folder of what a conversion of a job has made."""
        # The first version of this page had one folder for all runs.
        return self.store.folder(job.id) / (f"out-{run}" if run else "out")

    def _delete_old_outputs(self, job: Job) -> None:
        """Delete all outputs but those listed in the results."""
        saved = {self.outputs(job, result["run"]) for result in job.results}
        for path in self.store.folder(job.id).glob("out*"):
            if path not in saved:
                shutil.rmtree(path, ignore_errors=True)  # refuses links

    def _work(self) -> None:
        warm: WorkerProcess | None = None  # has loaded the network for an earlier job
        while (taken := self._take(warm)) is not None:
            job, process = taken
            result: dict[str, Any] = {"run": job.turn, "settings": job.settings}
            try:
                result["notes"] = self._convert(job, process, result, process is warm)
                error = ""
                if job.state == "running":
                    self._deliver(job, result)
            except (WorkError, ValueError, OSError) as caught:
                result["notes"], error = [], str(caught)
            process = self._processes[job.id]
            error = _named(error, {self.store.folder(job.id) / job.file: job.name})
            with self._changed:
                if self._closing:
                    warm = process
                    self._take_back(result)
                    break
                whole = job.state == "running" and not error
                if job.state == "running" and job.id in self._jobs:
                    self._record(job, result, error)
                removed = job.id not in self._jobs
            warm = process if whole else None
            if not whole:
                process.close()
                self._take_back(result)
            if removed:
                self.store.discard(job.id)
            else:
                self._delete_old_outputs(job)
            self._measured = float("-inf")
            with self._changed:
                del self._processes[job.id]
                self._notify()  # it may have been started again meanwhile
        if warm is not None:
            warm.close()

    def _record(self, job: Job, result: dict[str, Any], error: str) -> None:
        """Write down how a conversion ended."""
        job.state = "failed" if error else "done"
        job.error, job.notes = error, result["notes"]
        if not error:
            job.results = [result, *job.results][:_VERSIONS]
        self._save(job)

    def _deliver(self, job: Job, result: dict[str, Any]) -> None:
        """Note the sizes of a result's files, and copy them to the user's folder."""
        files = [*self._results(job, result)]
        sizes = [path.stat().st_size for path, _ in files]
        result["sizes"] = dict(zip(result["settings"]["outputs"], sizes, strict=True))
        if self._output is None:
            return
        result["copies"] = []
        try:
            for path, name in files:
                if job.state != "running":  # it was cancelled meanwhile
                    return
                result["copies"].append(copy_out(path, self._output, name).name)
        except OSError as error:
            why = error.strerror or error
            result["notes"].append(f"could not be copied to {self._output}: {why}")

    def _take_back(self, result: dict[str, Any]) -> None:
        """Delete the copies of a result that a job did not get in the end."""
        for name in result.get("copies", ()) if self._output else ():
            with suppress(OSError):  # it stays where the folder allows no deletion
                (self._output / name).unlink()

    def _learn_speed(self, job: Job, seconds: float) -> None:
        megapixels = job.info["width"] * job.info["height"] / 1e6
        if job.done > 1 and job.settings["preset"] not in SHORT_PRESETS:
            # The network's share of a frame does not depend on the frame's size.
            cost = seconds / (job.done * (NETWORK_SHARE + megapixels))
            with suppress(sqlite3.Error):  # a full disk; it is no more than an estimate
                self.store.save_speed(job.settings["quality"], cost)

    def _take(self, warm: WorkerProcess | None) -> tuple[Job, WorkerProcess] | None:
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
                    if warm is not None and not warm.alive:
                        warm.close()
                        warm = None
                    job.state, job.step = "running", "look" if warm else "load"
                    self._save(job)
                    try:
                        process = warm or self._start_process()
                    except WorkError as error:
                        self._record(job, {"notes": []}, str(error))
                        continue
                    self._processes[job.id] = process
                    return job, process
                self._changed.wait()
        return None

    def _convert(
        self, job: Job, process: WorkerProcess, result: dict[str, Any], warm: bool
    ) -> list[str]:
        """Convert a job, and return notes; `WorkError` if it failed."""
        settings, folder = result["settings"], self.store.folder(job.id)
        target = self.outputs(job, result["run"])
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        background = self.backgrounds.resolve(settings["background"])
        arguments = folder / job.file, target, settings, background
        report = partial(self._set_progress, job)
        try:
            done = call(process, work.convert, *arguments, report=report)
        except WorkError as error:
            killed = isinstance(error.__cause__, ProcessKilledError)
            with self._changed:
                if not warm or not killed or job.state != "running":
                    raise
                # What earlier jobs left in its memory must not fail this one.
                process.close()
                process = self._processes[job.id] = self._start_process()
            done = call(process, work.convert, *arguments, report=report)
        names = {folder / job.file: job.name, Path(background): "the background"}
        names |= {target / file: file_name(job.name, file) for file in FILES.values()}
        if done.error:
            raise WorkError(_named(without_flags(done.error), names))
        if job.state == "running":
            self._learn_speed(job, done.seconds)
        notes = [_named(without_flags(text), names) for text in done.notes]
        # A note may have named nothing but flags, such as those of a preset.
        return list(filter(None, notes))

    def _set_progress(self, job: Job, step: str, done: int, frames: int | None) -> None:
        with self._changed:
            job.step, job.done = step, done
            job.frames = frames or job.frames
            self._notify()


def _named(text: str, names: dict[Path, str]) -> str:
    """Replace paths of the work folder by the names that the user knows."""
    for path, name in names.items():
        if path.is_absolute():
            text = text.replace(str(path), name)
        if text.startswith(f"{path.name}: "):
            text = name + text.removeprefix(path.name)
    return text
