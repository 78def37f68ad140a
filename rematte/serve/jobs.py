"""The jobs: what was uploaded, what is to be made of it, and the threads that do it.

All that is known of a job is on disk as soon as it changes, so that a server that was
killed resumes its queue; a conversion that was running starts again. A job keeps the
results of its last conversions, each in a folder of its own.
"""

import json
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from rematte.matting.background import COLOURS
from rematte.serve import work
from rematte.serve.store import Store, is_id
from rematte.serve.worker import Worker, WorkError

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_LONGEST_NAME = 255
_TIMEOUT = 120.0  # of examining a file or making a preview [s]
_MOST_AT_ONCE = 64
_VERSIONS = 3  # results of a job that are kept
_MISSING = (
    "its files are no longer in the work folder; remove it, and upload the video again"
)
_STATES = ("ready", "queued", "running", "done", "failed", "cancelled")


@dataclass
class Job:
    """An upload and what is made of it.

    Attributes:
        id: Random; also the name of its folder.
        name: Of the file as uploaded, to be shown; never a path here.
        file: Where it is, in the job's folder.
        info: From `work.examine`.
        state: One of `_STATES`.
        turn: Place in the queue; lower comes first. It also numbers the conversions of
            a job.
        settings: As given to `Jobs.start`.
        backdrop: The background image's name in the job's folder, or empty.
        done: Frames done.
        frames: Of how many, as far as is known.
        error: Why the last conversion failed.
        notes: What its outputs do not hold of the source, in words.
        results: Finished conversions, the newest first: "run" (their turn), "settings"
            and "notes".
    """

    id: str
    name: str
    file: str
    info: dict[str, Any]
    state: str = "ready"
    turn: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    backdrop: str = ""
    done: int = 0
    frames: int | None = None
    error: str = ""
    notes: list[str] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)


def check_name(name: str, suffixes: tuple[str, ...] | set[str]) -> str:
    """Give the suffix of a file's name that is fit to be shown.

    Raises:
        ValueError: If it is none, or has another suffix.
    """
    if not name or len(name) > _LONGEST_NAME or re.search(r"[\x00-\x1f\x7f/\\]", name):
        raise ValueError(
            f"name {name[:40]!r} must be a plain file name, with no folders or control "
            f"characters and at most {_LONGEST_NAME} characters; rename the file"
        )
    suffix = Path(name).suffix.lower()
    if suffix not in suffixes:
        raise ValueError(
            f"name {name!r} must end in one of {', '.join(sorted(suffixes))}"
        )
    return suffix


def check_settings(settings: Any) -> dict[str, Any]:
    """Give settings that are what they should be: "outputs", "background", "ratio".

    Raises:
        ValueError: If they are not.
    """
    if not isinstance(settings, Mapping):
        raise ValueError("settings must be an object of outputs, background and ratio")
    outputs = settings.get("outputs")
    if (
        not isinstance(outputs, list)
        or not outputs
        or not all(isinstance(kind, str) and kind in work.FILES for kind in outputs)
    ):
        raise ValueError(
            f"outputs must be a list of {', '.join(work.FILES)}, got {_short(outputs)}"
        )
    if {"mov", "webm"} <= set(outputs):
        raise ValueError("outputs: choose one of mov and webm")
    background = settings.get("background", "green")
    known = isinstance(background, str) and (
        background in (*COLOURS, "blur", "image")
        or re.fullmatch("#[0-9a-fA-F]{6}", background)
    )
    if not known:
        raise ValueError(
            f"background must be {', '.join(COLOURS)}, #rrggbb, blur or image, got "
            f"{_short(background)}"
        )
    ratio = settings.get("ratio", "auto")
    number = isinstance(ratio, int | float) and not isinstance(ratio, bool)
    if ratio != "auto" and not (number and 0 < ratio <= 1):
        raise ValueError(
            f"ratio must be auto or a number in (0, 1], got {_short(ratio)}"
        )
    outputs = list(dict.fromkeys(outputs))
    return {"outputs": outputs, "background": background, "ratio": ratio}


def _short(value: object) -> str:
    return repr(value)[:60]


def read_job(id: str, text: str) -> Job:
    """Make a job of what the list holds, which an older version may have written.

    Raises:
        ValueError: If that is no job.
    """
    try:
        data = json.loads(text)
        job = Job(**{each.name: data[each.name] for each in fields(Job)
                     if each.name in data})  # fmt: skip
        if "results" not in data and job.state == "done":
            job.results = [{"run": 0, "settings": job.settings, "notes": job.notes}]
        plain = re.compile(r"[\w.-]+", re.ASCII)
        good = (
            is_id(id)
            and job.id == id
            and job.state in _STATES
            and plain.fullmatch(job.file)
            and (not job.backdrop or plain.fullmatch(job.backdrop))
            and len(job.info["ratios"]) == 3
            and all(
                isinstance(result["run"], int) and check_settings(result["settings"])
                for result in job.results
            )
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"entry {id!r} of the list of jobs is damaged") from error
    if not good:
        raise ValueError(f"entry {id!r} of the list of jobs is damaged")
    return job


class _Keeper:
    """Does short work in a process that is kept, and started again when it ended.

    Args:
        start: Starts the process.
    """

    def __init__(self, start: Callable[[], Worker]) -> None:
        self._start, self._lock = start, threading.Lock()
        self._worker: Worker | None = None
        self._closed = False

    def run(self, name: str, act: Callable[..., Any], path: Path, *args: Any) -> Any:
        """Call `act` with the model, a file and more; errors say `name` for the file.

        Raises:
            WorkError: If it raised or took too long, or its process ended.
        """
        with self._lock:
            if self._closed:
                raise WorkError("the server is about to end")
            if self._worker is None or not self._worker.alive:
                if self._worker is not None:
                    self._worker.close()
                self._worker = self._start()
                if self._closed:
                    self._worker.kill()
            try:
                return self._worker.run(act, path, *args, patience=_TIMEOUT)
            except WorkError as error:
                raise WorkError(str(error).replace(str(path), name)) from error

    def close(self) -> None:
        """End the process; what runs in it raises."""
        self._closed = True
        if (worker := self._worker) is not None:
            worker.kill()
        with self._lock:
            if self._worker is not None:
                self._worker.close()


def _no_model() -> None:
    """Examining a file needs none."""


class Jobs:
    """All jobs of a work folder, and the threads that convert them.

    Args:
        folder: The work folder; made if it is not there.
        load: Loads the model in another process; must be picklable.
        at_once: How many are converted at a time.
        threads: How many torch may use for each.
        memory: How much memory a process may use [bytes], or None.

    Attributes:
        version: Changes whenever a job does.
        notes: What was found in the work folder, one sentence each.

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
        self._start_worker = partial(Worker, load, threads, memory)
        self._store = Store(folder)
        self.notes = self._store.notes
        self._changed = threading.Condition(threading.RLock())
        self._workers: dict[str, Worker] = {}
        self._closing = False
        # Uploads do not wait behind previews.
        self._examiner = _Keeper(partial(Worker, _no_model, threads, memory))
        self._previewer = _Keeper(self._start_worker)
        self._wanted: list[tuple[str, int]] = []  # previews, the first comes next
        self._failed: dict[tuple[str, int], str] = {}
        self._jobs = self._read()
        self._threads = [
            threading.Thread(target=act, daemon=True)
            for act in [self._work] * at_once + [self._make_previews]
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> dict[str, Job]:
        """Read the list of jobs, and queue again what a killed server was doing."""
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
        """Load the model in the process for previews.

        Raises:
            WorkError: If it cannot be loaded.
        """
        self._previewer.run("", work.check_model, Path())

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
        """Everything about all jobs, as plain data."""
        with self._changed:
            return [asdict(job) for job in self._jobs.values()]

    def get(self, id: str) -> Job | None:
        """The job of this id, if there is one."""
        return self._jobs.get(id)

    def folder(self, id: str) -> Path:
        """Where a job's files are."""
        return self._store.folder(id)

    def new_id(self) -> str:
        """Make a folder for an upload, and give its name."""
        return self._store.new_folder()

    def discard(self, id: str) -> None:
        """Delete the folder of an upload that failed or of a job that was removed."""
        self._store.discard(id)

    def add(self, id: str, name: str, file: str) -> Job:
        """Take up an upload that is complete.

        Raises:
            WorkError: If it is no video.
        """
        info = self._examiner.run(name, work.examine, self.folder(id) / file)
        job = Job(id, name, file, info, frames=info["frames"])
        with self._changed:
            self._jobs[id] = job
            self._save(job)
        return job

    def set_backdrop(self, job: Job, name: str, file: str) -> None:
        """Take up an uploaded background, in place of the one before.

        Raises:
            WorkError: If it is no image.
        """
        self._examiner.run(name, work.examine_image, self.folder(job.id) / file)
        with self._changed:
            if job.backdrop:
                (self.folder(job.id) / job.backdrop).unlink(missing_ok=True)
            job.backdrop = file
            self._save(job)

    def preview(self, job: Job, which: int) -> Path | None:
        """The first frame (0), or how it is cut out at one of the ratios (1 to 3).

        Returns:
            The image's path; None while it is being made, so ask again.

        Raises:
            WorkError: If it cannot be made.
        """
        path, key = self._preview_path(job, which), (job.id, which)
        with self._changed:
            if self._is_missing(job):
                raise WorkError(_MISSING)
            if key in self._failed:
                raise WorkError(self._failed[key])
            if path.exists():
                return path
            if key not in self._wanted:
                self._wanted.append(key)
                self._changed.notify_all()
        return None

    def _preview_path(self, job: Job, which: int) -> Path:
        return self.folder(job.id) / f"preview{which}.webp"

    def _make_previews(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closing)
                if self._closing:
                    return
                id, which = key = self._wanted[0]
                job = self._jobs.get(id)
            if job is not None:
                source = self.folder(id) / job.file
                ratio = [None, *job.info["ratios"]][which]
                target = self._preview_path(job, which)
                try:
                    self._previewer.run(job.name, work.preview, source, target, ratio)
                except (WorkError, OSError) as error:
                    self._failed[key] = str(error)
            with self._changed:
                self._wanted.remove(key)

    def start(self, job: Job, settings: dict[str, Any]) -> None:
        """Put a job into the queue; its earlier results stay until this one is done.

        Raises:
            ValueError: If it is there already, or the settings do not fit it.
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
        """Take a job out of the queue, or stop it; nothing else is changed."""
        with self._changed:
            if job.state in ("queued", "running"):
                job.state = "cancelled"
                self._save(job)
                if job.id in self._workers:
                    self._workers[job.id].kill()

    def remove(self, job: Job) -> None:
        """Delete a job with all of its files."""
        with self._changed:
            self.cancel(job)
            if self._jobs.pop(job.id, None) is None:
                return
            self._store.remove(job.id)
            self._notify()
            busy = job.id in self._workers
        if not busy:  # else its thread does that
            self.discard(job.id)

    def close(self) -> None:
        """Stop; what is under way is queued when the folder is opened again."""
        with self._changed:
            self._closing = True
            for worker in self._workers.values():
                worker.kill()
            self._changed.notify_all()
        self._examiner.close()
        self._previewer.close()
        for thread in self._threads:
            thread.join()
        self._store.close()

    # What the threads do

    def _outputs(self, job: Job, run: int) -> Path:
        # The first version of this page had one folder for all runs.
        return self.folder(job.id) / (f"out-{run}" if run else "out")

    def output(self, job: Job, run: int, file: str) -> Path:
        """Where a file is that a conversion of a job made."""
        return self._outputs(job, run) / file

    def _delete_old_outputs(self, job: Job) -> None:
        """Delete all outputs but those of the results."""
        kept = {self._outputs(job, result["run"]) for result in job.results}
        for path in self.folder(job.id).glob("out*"):
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)  # refuses links

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            job, worker = taken
            run, settings = job.turn, job.settings
            try:
                notes, error = self._convert(job, worker, run, settings), ""
            except (WorkError, OSError) as caught:
                source = self.folder(job.id) / job.file
                notes, error = [], str(caught).replace(str(source), job.name)
            worker.close()
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
                del self._workers[job.id]
                self._notify()  # it may have been started again meanwhile

    def _take(self) -> tuple[Job, Worker] | None:
        """Wait for the next job; None when there will be no more."""
        with self._changed:
            while not self._closing:
                # A job that was cancelled and started again waits for its process.
                waiting = [
                    job
                    for job in self._jobs.values()
                    if job.state == "queued" and job.id not in self._workers
                ]
                if waiting:
                    job = min(waiting, key=lambda job: job.turn)
                    job.state = "running"
                    self._save(job)
                    self._workers[job.id] = self._start_worker()
                    return job, self._workers[job.id]
                self._changed.wait()
        return None

    def _convert(
        self, job: Job, worker: Worker, run: int, settings: dict[str, Any]
    ) -> list[str]:
        folder, target = self.folder(job.id), self._outputs(job, run)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        background = settings["background"]
        notes: list[str] = worker.run(
            work.convert,
            folder / job.file,
            target,
            settings["outputs"],
            str(folder / job.backdrop) if background == "image" else background,
            settings["ratio"],
            tell=partial(self._tell, job),
        )
        return notes

    def _tell(self, job: Job, done: int, frames: int | None) -> None:
        with self._changed:
            job.done, job.frames = done, frames
            self._notify()
