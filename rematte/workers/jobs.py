"""Many videos with one model: find them, convert each, and tell how it went.

What fails is recorded and the rest goes on. An output has its name only when it is
complete, so a run that was stopped goes on with `skip_existing`.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from glob import has_magic
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from rematte.convert import Report, convert_video
from rematte.errors import InputError, OutputError, explain
from rematte.video.codecs import pattern_of
from rematte.video.images import IMAGE_SUFFIXES
from rematte.video.output_paths import sweep
from rematte.workers import storage

T = TypeVar("T")

# What is looked for in folders; a file that is named may have any suffix.
VIDEOS = {
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
}
_FIELDS = ("stem", "name", "suffix", "folder")
_FIELD = re.compile(r"\{(\w*)\}")


@dataclass
class Job:
    """One input and what became of it.

    Attributes:
        input: A video, an image or a folder of images; see `storage.place`.
        outputs: Paths by kind: "output", "composition", "alpha", "foreground".
        status: "planned", "done", "failed" or "skipped".
        frames: How many.
        seconds: What it took.
        error: Why it failed, in one line.
        code: The exit code a command would have had.
        notes: What is not as in the source.
    """

    input: Path
    outputs: dict[str, Path]
    status: str = "planned"
    frames: int = 0
    seconds: float = 0.0
    error: str = ""
    code: int = 0
    notes: list[str] = field(default_factory=list)


def find_inputs(words: Sequence[str | Path]) -> list[tuple[Path, Path]]:
    """Turn what was given into inputs, in order, each once.

    Args:
        words: Files, patterns ("clips/**/*.mp4"), folders (searched to the bottom for
            videos; one that holds images and no video is an image sequence), numbered
            images ("plate.%04d.exr"), and text files (.txt) with one of these in each
            line, relative to the file. All of them, image sequences apart, may be in
            object storage.

    Returns:
        Each input, and its folder relative to the folder it was found through.

    Raises:
        InputError: If a word leads to nothing.
    """
    found: dict[Path, Path] = {}
    for word in words:
        with storage.reading(word):
            some = list(_expand(str(word)))
        if not some:
            raise InputError(
                f"{word}: no video there; give files, folders, patterns or a .txt list"
            )
        for path, folder in some:
            found.setdefault(path, folder)
    return list(found.items())


def _expand(word: str) -> Iterator[tuple[Path, Path]]:
    path = storage.place(word)
    if path.is_dir():
        yield from (_in_bucket if storage.is_remote(path) else _in_folder)(path, path)
    elif path.is_file() and path.suffix.lower() == ".txt":
        for line in path.read_text("utf-8").splitlines():
            entry = line.strip()
            if entry and not entry.startswith("#"):
                some = list(
                    _expand(entry if "://" in entry else str(path.parent / entry))
                )
                if not some:
                    raise InputError(
                        f"{path}: {entry} leads to nothing; correct the list"
                    )
                yield from some
    elif path.exists() or _is_sequence(path):
        yield path, Path()
    elif has_magic(word):
        for name in storage.match(word):
            found = storage.place(name)
            if found.is_file():
                yield found, Path()


def _is_sequence(path: Path) -> bool:
    """Whether a path is a pattern of numbered images, of which there are some."""
    if storage.is_remote(path) or path.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    return _exists(path)


def _exists(path: Path) -> bool:
    """Whether a path exists, or images of a pattern."""
    pattern = pattern_of(path)
    if pattern is None or path.exists() or not path.parent.is_dir():
        return path.exists()
    return any(pattern.digits_in(file.name) for file in path.parent.iterdir())


def _in_folder(folder: Path, top: Path) -> Iterator[tuple[Path, Path]]:
    entries = sorted(entry for entry in folder.iterdir() if entry.name[0] != ".")
    videos = [e for e in entries if e.is_file() and e.suffix.lower() in VIDEOS]
    if not videos and any(
        e.suffix.lower() in IMAGE_SUFFIXES for e in entries if e.is_file()
    ):
        yield folder, folder.relative_to(top).parent
        return
    for video in videos:
        yield video, folder.relative_to(top)
    for entry in entries:
        if entry.is_dir():
            yield from _in_folder(entry, top)


def _in_bucket(folder: Path, top: Path) -> Iterator[tuple[Path, Path]]:
    """The same for object storage: one request, where each question would be one."""
    for name in storage.inside(folder):
        video = storage.place(name)
        if video.suffix.lower() in VIDEOS and video.name[0] != ".":
            yield video, Path(str(video.relative_to(top))).parent


def is_folder(output: str | None) -> bool:
    """Whether -o names a folder rather than a template."""
    return output is not None and not _FIELD.search(output)


def plan(
    inputs: Sequence[tuple[Path, Path]],
    templates: Mapping[str, str | None],
    suffix: str,
) -> list[Job]:
    """Decide where everything goes.

    Args:
        inputs: From `find_inputs`.
        templates: By kind. A template has fields: {stem}, {name}, {suffix} of the input
            and {folder} it lies in below the folder that was given. "output" without a
            field is a folder, laid out like the one that was given.
        suffix: Of "output", where it is a folder.

    Raises:
        ValueError: If nothing is asked for, or a template has other fields.
        OutputError: If two inputs would have one output.
    """
    given = {kind: text for kind, text in templates.items() if text}
    if not given:
        raise ValueError("no output; give -o, --composition, --alpha or --foreground")
    for kind, text in given.items():
        unknown = set(_FIELD.findall(text)) - set(_FIELDS)
        if unknown or (kind != "output" and not _FIELD.search(text)):
            raise ValueError(
                f"{kind} {text!r} must hold "
                + ", ".join(f"{{{name}}}" for name in _FIELDS)
                + " and no other fields; for example alpha/{stem}.mp4"
            )
    jobs, taken = [], dict[Path, Path]()
    for path, folder in inputs:
        outputs = {}
        for kind, text in given.items():
            if is_folder(text):
                text = str(storage.place(text) / "{folder}" / f"{{stem}}{suffix}")
            name = _name(path)
            parts = {
                "stem": name.stem, "name": name.name, "folder": str(folder),
                "suffix": path.suffix.removeprefix("."),
            }  # fmt: skip
            target = storage.place(
                _FIELD.sub(lambda match: parts[match[1]], text)  # noqa: B023
            )
            if target in taken:
                raise OutputError(
                    f"{target} would be written for {taken[target]} and for {path}; "
                    "use {folder} or {name} in the template"
                )
            taken[target], outputs[kind] = path, target
        jobs.append(Job(path, outputs))
    return jobs


def _name(path: Path) -> Path:
    """What outputs are named after: a pattern's name without the number."""
    pattern = None if path.exists() else pattern_of(path)
    if pattern is None:
        return path
    before = pattern.before.rstrip("._- ") or path.resolve().parent.name
    return path.with_name(before + path.suffix)


def run(
    jobs: Sequence[Job],
    load: Callable[[], Any],
    *,
    workers: int = 1,
    skip_existing: bool = False,
    **settings: Any,
) -> Iterator[Job]:
    """Convert, and give each job when it is finished.

    Args:
        jobs: From `plan`; they are changed.
        load: Loads the model; called once in each process. It must be picklable where
            there are several.
        workers: Processes at a time; they share the cores.
        skip_existing: Leave alone what has all of its outputs.
        **settings: For `convert_video`.

    Yields:
        Each job, as it is finished.
    """
    if workers < 1:
        raise ValueError(f"jobs must be 1 or more, got {workers}")
    waiting = []
    for job in jobs:
        if skip_existing and exists(job):
            job.status = "skipped"
            yield job
        else:
            waiting.append(job)
    if workers == 1:
        model = load() if waiting else None
        for job in waiting:
            yield convert(model, job, settings)
    else:
        yield from _side_by_side(waiting, load, workers, settings)


def _side_by_side(
    waiting: list[Job],
    load: Callable[[], Any],
    workers: int,
    settings: Mapping[str, Any],
) -> Iterator[Job]:
    begin = partial(_begin, load, max(1, (os.cpu_count() or 1) // workers))
    broken = []
    for job, done in _spread(waiting, workers, begin, settings):
        if done is not None:
            yield done
        else:
            broken.append(job)
    # A process that is killed, perhaps for its memory, takes others' work with it:
    # what is left runs alone, so that only the one that is to blame fails.
    for job in broken:
        clear(job)
        for _, done in _spread([job], 1, begin, settings):
            if done is None:
                job.status, job.code = "failed", 5
                job.error = "its process was killed; try --resize or fewer --jobs"
                clear(job)
            yield done or job


def _spread(
    jobs: list[Job],
    workers: int,
    begin: Callable[[], None],
    settings: Mapping[str, Any],
) -> Iterator[tuple[Job, Job | None]]:
    """Run jobs in processes; gives each with its result, None if that was lost."""
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, begin) as pool:
        futures = {pool.submit(_in_worker, job, settings): job for job in jobs}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                yield futures[future], None


_model: Any = None  # of a worker process


def _begin(load: Callable[[], Any], threads: int) -> None:
    global _model
    torch.set_num_threads(threads)
    _model = load()


def _in_worker(job: Job, settings: Mapping[str, Any]) -> Job:
    return convert(_model, job, settings)


def exists(job: Job, which: Callable[[Iterable[bool]], bool] = all) -> bool:
    """Whether all outputs of a job exist, or any."""
    with storage.reading(next(iter(job.outputs.values()))):
        return which(_exists(path) for path in job.outputs.values())


def clear(job: Job) -> None:
    """Remove what a killed process has left of a job's outputs."""
    for path in job.outputs.values():
        if not storage.is_remote(path):
            sweep(path)


def convert(model: Any, job: Job, settings: Mapping[str, Any]) -> Job:
    """Do a job; what goes wrong is recorded in it.

    Args:
        model: As of `convert_video`.
        job: Is changed.
        settings: For `convert_video`.

    Returns:
        The job.
    """
    begin = time.perf_counter()
    report = attempt(job, partial(_convert, model, job, settings))
    if report is not None:
        finish(job, report)
    job.seconds = time.perf_counter() - begin
    return job


def attempt(job: Job, act: Callable[[], T]) -> T | None:
    """Do something for a job; None if that went wrong, which is recorded in it."""
    try:
        return act()
    except Exception as error:
        job.status = "failed"
        job.code, job.error = explain(error)
        return None
    except KeyboardInterrupt as stop:  # what was to be sent is gone with its folder
        kept = [name for name in stop.args if Path(name).exists()]
        raise KeyboardInterrupt(*kept) from None


def finish(job: Job, report: Report) -> None:
    """Record what was done."""
    job.status, job.frames, job.notes = "done", report.frames, report.notes


def _convert(model: Any, job: Job, settings: Mapping[str, Any]) -> Report:
    with TemporaryDirectory(prefix="rematte-") as folder:
        scratch = Path(folder)
        overwrite = settings.get("overwrite", True)
        made = {
            path: storage.stand_in(path, scratch / kind, overwrite)
            for kind, path in job.outputs.items()
        }
        source = storage.fetch(job.input, scratch)
        report = convert_video(model, source, **arguments(job, made), **settings)
        storage.publish(made)
        return report


def arguments(job: Job, made: Mapping[Path, Path]) -> dict[str, Any]:
    """The outputs as arguments of `convert_video`, by what stands in for each."""
    return {
        kind if kind == "output" else f"output_{kind}": made[path]
        for kind, path in job.outputs.items()
    }


def as_table(jobs: Sequence[Job]) -> str:
    """Lay out how it went, one line an input, and a line of sums."""
    width = max(len(str(job.input)) for job in jobs)
    lines = []
    for job in jobs:
        took = f"{job.frames} frames in {job.seconds:.1f} s" if job.frames else ""
        what = job.error or took or ", ".join(map(str, job.outputs.values()))
        lines.append(f"{job.status:<8} {job.input!s:<{width}}  {what}")
    counts = {job.status: 0 for job in jobs}
    for job in jobs:
        counts[job.status] += 1
    lines.append(", ".join(f"{count} {status}" for status, count in counts.items()))
    return "\n".join(lines)
