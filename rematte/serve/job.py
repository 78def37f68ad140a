"""A job of the page: an upload, its settings and what has been made of it."""

import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rematte.serve.settings import check_outputs, check_settings
from rematte.serve.store import is_id

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Photos that Pillow reads, where it and its plug-in for HEIC are installed.
PILLOW_IMAGES = (".avif", ".heic", ".heif")
_OLD_SETTINGS = (
    "its settings were saved by another version of rematte; choose them and start it "
    "again"
)
_LONGEST_NAME = 255
_STATES = ("ready", "queued", "running", "done", "failed", "cancelled")


@dataclass
class Job:
    """An upload and what is made of it."""

    id: str  # a random word; also the name of the job's folder
    name: str  # of the uploaded file, for display alone; never used as a path
    file: str  # the video's name in the job's folder
    info: dict[str, Any]  # the result of `work.examine`, and "bytes" of the upload
    state: str = "ready"  # one of `_STATES`
    turn: int = 0  # in the queue, the lowest first; also numbers a job's conversions
    settings: dict[str, Any] = field(default_factory=dict)  # given to `Jobs.start`
    step: str = ""  # before the first frame: "load", or "look" for people
    done: int = 0  # frames converted
    frames: int | None = None  # of the video; None if unknown
    error: str = ""  # why the last conversion failed
    notes: list[str] = field(default_factory=list)  # how outputs differ from the source
    # Finished conversions, the newest first: "run" (their turn), "settings", "notes",
    # the "sizes" of their files [bytes], and names of "copies", if any.
    results: list[dict[str, Any]] = field(default_factory=list)


def check_name(name: str, suffixes: set[str]) -> str:
    """Check a file's name for display and return its suffix."""
    if not name or len(name) > _LONGEST_NAME or re.search(r"[\x00-\x1f\x7f/\\]", name):
        raise ValueError(
            f"name {name[:40]!r} must be a plain file name, with no folders or control "
            f"characters and at most {_LONGEST_NAME} characters; rename the file"
        )
    suffix = Path(name).suffix.lower()
    if suffix not in suffixes:
        raise ValueError(
            f"name {name!r} ends in no suffix that is taken here; save a video as "
            ".mp4, .mov or .mkv, a picture as .jpg or .png"
        )
    return suffix


def read_job(id: str, text: str) -> Job:
    """Load a job from the list, where an older version may have written it."""
    try:
        data = json.loads(text)
        job = Job(**{each.name: data[each.name] for each in fields(Job)
                     if each.name in data})  # fmt: skip
        if "results" not in data and job.state == "done":
            job.results = [{"run": 0, "settings": job.settings, "notes": job.notes}]
        if job.state in ("queued", "running"):
            try:
                job.settings = check_settings(job.settings)
            except ValueError:
                job.state, job.error = "failed", _OLD_SETTINGS
        plain = re.compile(r"[\w.-]+", re.ASCII)
        good = (
            is_id(id)
            and job.id == id
            and job.state in _STATES
            and isinstance(job.settings, dict)
            and job.info["width"] > 0
            and job.info["height"] > 0
            and plain.fullmatch(job.file)
            and all(
                isinstance(result["run"], int) and check_outputs(result["settings"])
                for result in job.results
            )
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        good = False
    if not good:
        raise ValueError(f"entry {id!r} of the list of jobs is damaged")
    return job
