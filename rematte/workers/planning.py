"""The inputs and outputs of a batch: finds videos and names what is made of each."""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import has_magic
from pathlib import Path

from rematte.errors import InputError, OutputError
from rematte.video.codecs import pattern_of
from rematte.video.images import IMAGE_SUFFIXES
from rematte.workers import storage

# Suffixes that folders are searched for; a file that is named may have any.
VIDEOS = {
    *(".3gp", ".asf", ".avi", ".dv", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
}
_FIELDS = ("stem", "name", "suffix", "folder")
_FIELD = re.compile(r"\{(\w*)\}")


@dataclass
class Job:
    """One input, its outputs, and how the conversion went."""

    input: Path  # a video, an image, or a folder or pattern of images
    outputs: dict[str, Path]  # by kind, such as "output" or "alpha"
    status: str = "planned"  # or "done", "failed", "skipped"
    frames: int = 0  # converted
    seconds: float = 0.0  # that the conversion took [s]
    error: str = ""  # why it failed, in one line
    code: int = 0  # the exit code that a command would have had
    notes: list[str] = field(default_factory=list)  # how outputs differ from the source

    def exists(self, which: Callable[[Iterable[bool]], bool] = all) -> bool:
        """Whether all outputs exist, or any of them."""
        with storage.errors_as(InputError, next(iter(self.outputs.values()))):
            return which(_exists(path) for path in self.outputs.values())


def skip(jobs: Iterable[Job], existing: bool) -> Generator[Job, None, list[Job]]:
    """Yield jobs all of whose outputs exist, if `existing`, and return the others."""
    waiting = []
    for job in jobs:
        if existing and job.exists():
            job.status = "skipped"
            yield job
        else:
            waiting.append(job)
    return waiting


def find_inputs(words: Sequence[str | Path]) -> list[tuple[Path, Path]]:
    """Find the inputs that words stand for, in order, each once.

    Words are files, patterns ("clips/**/*.mp4"), folders (searched recursively for
    videos; one that holds images and no video is an image sequence), numbered images
    ("plate.%04d.exr"), and text files (.txt) with one of these in each line, relative
    to the file. All of them, image sequences apart, may be in object storage. Each
    input comes with its folder relative to the folder that it was found through.
    """
    found: dict[Path, Path] = {}
    for word in words:
        with storage.errors_as(InputError, word):
            some = list(_expand(str(word)))
        if not some:
            raise InputError(
                f"{word}: no video there; give files, folders, patterns or a .txt list"
            )
        for path, folder in some:
            found.setdefault(path, folder)
    return list(found.items())


def _expand(word: str, lists: tuple[Path, ...] = ()) -> Iterator[tuple[Path, Path]]:
    """Find what a word stands for; `lists` are those that it was read from."""
    path = storage.to_path(word)
    if path.is_dir():
        yield from (_in_bucket if storage.is_remote(path) else _in_folder)(path, path)
    elif path.is_file() and path.suffix.lower() == ".txt":
        yield from _in_list(path, lists)
    elif path.exists() if storage.is_remote(path) else _exists(path):
        yield path, Path()
    elif has_magic(word):
        for name in storage.match(word):
            found = storage.to_path(name)
            if found.is_file():
                yield found, Path()


def _in_list(path: Path, lists: tuple[Path, ...]) -> Iterator[tuple[Path, Path]]:
    if path.resolve() in lists:
        raise InputError(f"{path}: the list names itself; correct it")
    lists += (path.resolve(),)
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text in UTF-8; save it as UTF-8") from error
    for line in text.splitlines():
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        word = entry if "://" in entry else str(path.parent / entry)
        some = list(_expand(word, lists))
        if not some:
            raise InputError(f"{path}: {entry} leads to nothing; correct the list")
        yield from some


def _exists(path: Path) -> bool:
    """Whether a path exists, or any image of a pattern."""
    pattern = pattern_of(path)
    if pattern is None or path.exists() or not path.parent.is_dir():
        return path.exists()
    return any(pattern.digits_in(file.name) for file in path.parent.iterdir())


def _in_folder(folder: Path, top: Path) -> Iterator[tuple[Path, Path]]:
    entries = sorted(entry for entry in folder.iterdir() if entry.name[0] != ".")
    files = [entry for entry in entries if entry.is_file()]
    videos = [file for file in files if file.suffix.lower() in VIDEOS]
    if not videos and any(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
        yield folder, folder.relative_to(top).parent
        return
    for video in videos:
        yield video, folder.relative_to(top)
    for entry in entries:
        # A link to a folder above would be searched again and again.
        if entry.is_dir() and not folder.resolve().is_relative_to(entry.resolve()):
            yield from _in_folder(entry, top)


def _in_bucket(folder: Path, top: Path) -> Iterator[tuple[Path, Path]]:
    """Find videos in object storage with one request, not one per question."""
    for name in storage.list_files(folder):
        video = storage.to_path(name)
        if video.suffix.lower() in VIDEOS and video.name[0] != ".":
            yield video, Path(str(video.relative_to(top))).parent


def is_folder(output: str | None) -> bool:
    """Whether the value of -o is a folder rather than a template."""
    return output is not None and not _FIELD.search(output)


def plan(
    inputs: Sequence[tuple[Path, Path]],
    templates: Mapping[str, str | None],
    suffix: str,
) -> list[Job]:
    """Choose the paths of all outputs.

    Args:
        inputs: From `find_inputs`.
        templates: One for each kind of output. Its fields are {stem}, {name} and
            {suffix} of the input, and {folder}, the input's folder below the one that
            was given. "output" without a field is a folder, with the layout of the one
            that was given.
        suffix: Suffix of "output" where that is a folder, with or without its dot.
    """
    given = _check_templates(templates)
    jobs, taken = [], dict[Path, Path]()
    for path, folder in inputs:
        outputs = {}
        name = _name(path)
        values = {
            "stem": name.stem, "name": name.name, "folder": str(folder),
            "suffix": path.suffix.removeprefix("."),
        }  # fmt: skip
        for kind, text in given.items():
            if is_folder(text):
                made = f"{{stem}}.{suffix.removeprefix('.')}"
                text = str(storage.to_path(text) / "{folder}" / made)
            target = storage.to_path(
                _FIELD.sub(lambda match: values[match[1]], text)  # noqa: B023
            )
            if target in taken:
                raise OutputError(
                    f"{target} would be written for {taken[target]} and for {path}; "
                    "use {folder} or {name} in the template"
                )
            taken[target], outputs[kind] = path, target
        jobs.append(Job(path, outputs))
    return jobs


def _check_templates(templates: Mapping[str, str | None]) -> dict[str, str]:
    given = {kind: text for kind, text in templates.items() if text}
    if not given:
        raise ValueError(
            "no output; give -o, --composition, --alpha, --foreground or --plate"
        )
    for kind, text in given.items():
        unknown = set(_FIELD.findall(text)) - set(_FIELDS)
        unknown |= set("{}") & set(_FIELD.sub("", text))  # one that does not end
        if unknown or (kind != "output" and not _FIELD.search(text)):
            raise ValueError(
                f"{kind} {text!r} must hold "
                + ", ".join(f"{{{name}}}" for name in _FIELDS)
                + " and no other fields; for example alpha/{stem}.mp4"
            )
    return given


def _name(path: Path) -> Path:
    """The name that outputs are derived from: a pattern's, without the number."""
    pattern = None if path.exists() else pattern_of(path)
    if pattern is None:
        return path
    before = pattern.before.rstrip("._- ") or path.resolve().parent.name
    return path.with_name(before + path.suffix)
