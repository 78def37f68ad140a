"""The jobs: what was uploaded, what is to be made of it, and the threads that do it.

All that is known of a job is in SQLite as soon as it changes, so that a server that was
killed goes on where it was; a conversion under way then begins anew. Each job has a
folder of its own, with names that do not come from outside.
"""

import json
import re
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rematte.compositing import COLOURS
from rematte.errors import OutputError
from rematte.serve import work
from rematte.serve.worker import Worker, WorkError

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_LONGEST_NAME = 255
_PATIENCE = 120.0  # with looking at a file [s]


@dataclass
class Job:
    """An upload and what is made of it.

    Attributes:
        id: Random; also the name of its folder.
        name: Of the file as uploaded, to be shown; never a path here.
        file: Where it is, in the job's folder.
        info: From `work.examine`.
        state: "ready", "queued", "running", "done", "failed" or "cancelled".
        turn: Place in the queue; lower comes first.
        settings: As given to `Jobs.start`.
        backdrop: The background image's name in the job's folder, or empty.
        done: Frames done.
        frames: Of how many, as far as is known.
        error: Why it failed.
        notes: What is not as in the source, in words.
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
            f"outputs must be a list of {', '.join(work.FILES)}, got {outputs!r}"
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
            f"{background!r}"
        )
    ratio = settings.get("ratio", "auto")
    number = isinstance(ratio, int | float) and not isinstance(ratio, bool)
    if ratio != "auto" and not (number and 0 < ratio <= 1):
        raise ValueError(f"ratio must be auto or a number in (0, 1], got {ratio!r}")
    return {"outputs": outputs, "background": background, "ratio": ratio}


class Jobs:
    """All jobs of a work folder, and the threads that convert them.

    Args:
        folder: The work folder; made if it is not there.
        load: Loads the model in another process; must be picklable.
        at_once: How many are converted at a time.
        threads: How many torch may use for each.

    Attributes:
        version: Changes whenever a job does.

    Raises:
        OutputError: If another server uses the folder, or it cannot be written.
    """

    def __init__(
        self, folder: Path, load: Callable[[], Any], at_once: int, threads: int
    ) -> None:
        if at_once < 1:
            raise ValueError(f"jobs must be 1 or more, got {at_once}")
        self.version = 0
        self._start_worker = partial(Worker, load, threads)
        self._database = _open(folder)
        self._folder = folder / "jobs"
        rows = self._database.execute("SELECT data FROM job ORDER BY rowid").fetchall()
        self._jobs = {
            job.id: job for job in (Job(**json.loads(row[0])) for row in rows)
        }
        self._changed = threading.Condition(threading.RLock())
        self._workers: dict[str, Worker] = {}
        self._closing = False
        self._looker: Worker | None = None
        self._looking = threading.Lock()
        self._tidy()
        self._threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(at_once)
        ]
        for thread in self._threads:
            thread.start()

    def _tidy(self) -> None:
        """Take up what a killed server left."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for path in self._folder.iterdir():
            if path.name not in self._jobs:  # an upload that was not completed
                shutil.rmtree(path, ignore_errors=True)
        for job in self._jobs.values():
            if job.state == "running":
                job.state, job.done = "queued", 0
                self._save(job)

    def _save(self, job: Job) -> None:
        with self._changed:
            if job.id not in self._jobs:  # removed meanwhile
                return
            self._database.execute(
                "INSERT INTO job VALUES (?, ?) "
                "ON CONFLICT (id) DO UPDATE SET data = excluded.data",
                (job.id, json.dumps(asdict(job))),
            )
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
        return self._folder / id

    def new_id(self) -> str:
        """Make a folder for an upload, and give its name."""
        id = secrets.token_hex(8)
        self.folder(id).mkdir()
        return id

    def discard(self, id: str) -> None:
        """Delete the folder of an upload that came to nothing."""
        shutil.rmtree(self.folder(id), ignore_errors=True)

    def add(self, id: str, name: str, file: str) -> Job:
        """Take up an upload that is complete.

        Raises:
            WorkError: If it is no video.
        """
        info = self._look(name, work.examine, self.folder(id) / file)
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
        self._look(name, work.examine_image, self.folder(job.id) / file)
        with self._changed:
            if job.backdrop:
                (self.folder(job.id) / job.backdrop).unlink(missing_ok=True)
            job.backdrop = file
            self._save(job)

    def preview(self, job: Job, which: int) -> Path:
        """The first frame (0), or how it is cut out at one of the ratios (1 to 3).

        Raises:
            WorkError: If it cannot be made.
        """
        path = self.folder(job.id) / f"preview{which}.webp"
        if not path.exists():
            source = self.folder(job.id) / job.file
            ratio = [None, *job.info["ratios"]][which]
            self._look(job.name, work.preview, source, path, ratio)
        return path

    def _look(self, name: str, act: Callable[..., Any], path: Path, *args: Any) -> Any:
        """Do something short in a process that is kept for that."""
        with self._looking:
            if self._looker is None or not self._looker.alive:
                self._looker = self._start_worker()
            try:
                return self._looker.run(act, path, *args, patience=_PATIENCE)
            except WorkError as error:
                raise WorkError(str(error).replace(str(path), name)) from error

    def start(self, job: Job, settings: dict[str, Any]) -> None:
        """Put a job into the queue; what it made before is deleted.

        Raises:
            ValueError: If it is there already, or the settings do not fit it.
        """
        settings = check_settings(settings)
        if settings["background"] == "image" and not job.backdrop:
            raise ValueError("background: upload an image first")
        with self._changed:
            if job.state in ("queued", "running"):
                raise ValueError(f"{job.name} is {job.state} already; cancel it first")
            self._delete_outputs(job)
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
            self._jobs.pop(job.id, None)
            self._database.execute("DELETE FROM job WHERE id = ?", (job.id,))
            self._notify()
            if job.id not in self._workers:  # else its thread does that
                self.discard(job.id)

    def close(self) -> None:
        """Stop; what is under way is taken up when the folder is opened again."""
        with self._changed:
            self._closing = True
            for worker in self._workers.values():
                worker.kill()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        if self._looker is not None:
            self._looker.kill()
            with self._looking:
                self._looker.close()
        self._database.close()

    # What the threads do

    def _outputs(self, job: Job) -> Path:
        return self.folder(job.id) / "out"

    def output(self, job: Job, file: str) -> Path:
        """Where a file that a job made is."""
        return self._outputs(job) / file

    def _delete_outputs(self, job: Job) -> None:
        shutil.rmtree(self._outputs(job), ignore_errors=True)

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            job, worker = taken
            try:
                notes, error = self._convert(job, worker), ""
            except (WorkError, OSError) as caught:
                source = self.folder(job.id) / job.file
                notes, error = [], str(caught).replace(str(source), job.name)
            worker.close()
            with self._changed:
                del self._workers[job.id]
                if self._closing:
                    return
                if job.id not in self._jobs:
                    self.discard(job.id)
                elif job.state == "cancelled":
                    self._delete_outputs(job)
                elif job.state == "running":
                    job.state = "failed" if error else "done"
                    job.error, job.notes = error, notes
                    self._save(job)
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

    def _convert(self, job: Job, worker: Worker) -> list[str]:
        folder = self.folder(job.id)
        self._delete_outputs(job)
        self._outputs(job).mkdir()
        background = job.settings["background"]
        notes: list[str] = worker.run(
            work.convert,
            folder / job.file,
            self._outputs(job),
            job.settings["outputs"],
            str(folder / job.backdrop) if background == "image" else background,
            job.settings["ratio"],
            tell=partial(self._tell, job),
        )
        return notes

    def _tell(self, job: Job, done: int, frames: int | None) -> None:
        with self._changed:
            job.done, job.frames = done, frames
            self._notify()


def _open(folder: Path) -> sqlite3.Connection:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = sqlite3.connect(
            folder / "jobs.sqlite", timeout=0.5, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
        # The lock is held until this process ends, however it does.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        database.execute(
            "CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY, data TEXT NOT NULL)"
        )
        database.execute("COMMIT")
    except (OSError, sqlite3.Error) as error:
        raise OutputError(
            f"folder {folder} cannot be used ({error}); end the other `rematte serve` "
            "that uses it, or give another (--folder)"
        ) from error
    return database
