"""Checks, names and temporary names of outputs."""

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import av

from rematte.errors import OutputError
from rematte.video.codecs import check_suffix, is_sequence, pattern_of
from rematte.video.images import IMAGE_SUFFIXES, natural_key
from rematte.video.numbering import Numbering, parse_pattern

_STARTED = time.time()  # when this process did, or a little later
# The longest part of a name that stays whole in a hidden name [bytes].
_LONG = 200


def check_target(path: Path, overwrite: bool) -> None:
    """Check before any work that an output can be written.

    Existing images in a folder are checked by `replaced_images`.

    Raises:
        OutputError: If the path exists and must not be replaced, or its folder is
            missing or not writable.
        ValueError: If it is a pattern of images that cannot be written.
    """
    if str(path) == "-":
        raise OutputError(
            "- is the standard output, which only `rematte convert` takes; give a name"
        )
    if path.suffix.lower() in IMAGE_SUFFIXES and parse_pattern(path.name):
        check_suffix(path)  # rather than ask for a folder first
    target = real_path(image_folder(path) if is_sequence(path) else path)
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise OutputError(
            f"{path}: a pipe or a device, which only `rematte convert` takes; give a "
            "file"
        )
    if is_sequence(path) and target == target.parent:
        raise OutputError(
            f"{path}: images need a folder of their own, within {target}; name one"
        )
    folder = target if target.is_dir() else target.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(
            f"{path}: no permission to write to {folder}; try another folder"
        )
    if is_sequence(path):
        if target.is_file():
            raise OutputError(f"{target} is a file; images need a folder: add a suffix")
    elif target.exists() and not overwrite:
        raise OutputError(f"{target} exists; pass overwrite (-y) to replace it")


def image_folder(path: Path) -> Path:
    """Return the folder of a pattern's images, or the path if it is a folder."""
    return path.parent if pattern_of(path) else path


def image_name(
    path: Path, index: int, name: str, number: int | None, start: int | None
) -> str:
    """Return the file name of an image in a folder or a pattern, after `index` others.

    `start` is the number of the first image. None keeps the frame's `name` in a folder,
    or its `number` in the source; where it has neither, images are numbered from 0.
    """
    if start is None and name and not pattern_of(path):
        return f"{name}.png"
    if start is None and number is not None:
        return _numbering(path).name(number)
    return _numbering(path).name((start or 0) + index)


def replaced_images(
    path: Path, frames: Sequence[tuple[str, int | None]] | int | None, start: int | None
) -> list[str]:
    """List the existing images that an output, a folder or a pattern, would replace.

    `frames` are the names and numbers of the frames, or their count if they have none,
    or None if that is unknown; `start` is that of `image_name`.
    """
    folder = image_folder(path)
    existing = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if isinstance(frames, Sequence):
        planned = (image_name(path, i, *each, start) for i, each in enumerate(frames))
        return sorted(existing.intersection(planned), key=natural_key)
    numbering, first = _numbering(path), start or 0
    found = []
    for name in sorted(existing, key=natural_key):
        number = numbering.number(name)
        if number is None or name != numbering.name(number) or number < first:
            continue
        if frames is None or number < first + frames:
            found.append(name)
    return found


def _numbering(path: Path) -> Numbering:
    """Return the numbering of a pattern, or of unnamed images in a folder."""
    return pattern_of(path) or Numbering("", 4, ".png")


def real_path(path: Path) -> Path:
    """Return the file that an output is written to, which is the target of a link.

    Raises:
        OutputError: If links lead in a circle.
    """
    target = Path(os.path.realpath(path))
    # Path.is_symlink raises if a name is too long, as those are that get shortened.
    if os.path.islink(target):  # noqa: PTH114
        raise OutputError(f"{path}: a link that leads to itself; remove it")
    return target


def shorten(name: str) -> str:
    """Cut a name so that a hidden name made from it is not too long for a disk.

    What is cut stays different: it ends in a hash of the name.
    """
    encoded = os.fsencode(name)
    if len(encoded) <= _LONG:
        return name
    ending = f"-{hashlib.sha256(encoded).hexdigest()[:8]}"
    return encoded[: _LONG - len(ending)].decode(errors="ignore") + ending


def temporary_path(path: Path) -> Path:
    """Return a hidden name beside the final file, so that a rename stays on a disk."""
    name = f".{shorten(path.stem)}.{os.getpid()}.partial{path.suffix}"
    return real_path(path).with_name(name)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears under its name when it is complete.

    Raises:
        OutputError: If it cannot be written; nothing is left behind then.
    """
    part = temporary_path(path)
    try:
        with as_output_error(path):
            part.write_bytes(content)
            part.replace(real_path(path))
    finally:
        part.unlink(missing_ok=True)


def sweep(path: Path, *, ended_only: bool = False) -> list[str]:
    """Remove temporary files that killed processes left behind for this output.

    With `ended_only`, those of processes that run on this machine stay.

    Returns:
        The names of what was removed.
    """
    sequence = is_sequence(path)
    folder = real_path(image_folder(path) if sequence else real_path(path).parent)
    # Names of a file, of its lossless frames (see `spare`), and of a folder of images.
    names = (path, Path(f"{path.name}.nut"), Path(f"{folder.name}-{path.name}"))
    leftover = re.compile(
        "|".join(
            rf"\.{re.escape(shorten(name.stem))}\.(\d+)\.partial{re.escape(name.suffix)}"
            for name in names
        )
    )
    removed = []
    for parent in {folder, folder.parent}:
        try:
            # Paths of thousands of files would take longer than a short conversion.
            present = os.listdir(parent)  # noqa: PTH208
        except OSError:  # it is missing, or may be written but not listed
            continue
        for found in filter(None, map(leftover.fullmatch, present)):
            entry = parent / found.string
            process = int(next(filter(None, found.groups())))
            if ended_only and _is_in_use(entry, process):
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with suppress(OSError):  # it may be open, on Windows
                    entry.unlink()
            if not entry.exists():
                removed.append(entry.name)
    return removed


def _is_in_use(entry: Path, process: int) -> bool:
    """Whether a process of this machine may still write a temporary file.

    Windows does not say, so False there; it keeps files that are open.
    """
    if os.name != "posix":
        return False
    try:
        # In containers, which number processes from 1, an earlier one had our number.
        if process == os.getpid():
            return entry.stat().st_mtime >= _STARTED
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        pass
    return True


@contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Turn errors of FFmpeg and the system into a message about an output."""
    try:
        yield
    except OutputError:
        raise  # its message is complete already
    except (av.error.FFmpegError, OSError) as error:
        code = getattr(error, "errno", None)
        if code == errno.ENOSPC:
            text = "no space left on the disk; free some or write elsewhere"
        elif code == errno.EPIPE:
            text = "the program that reads it has ended (broken pipe)"
        else:
            why = getattr(error, "strerror", None) or error
            remedy = "try another folder"
            if isinstance(error, av.error.FFmpegError):
                remedy += ", suffix or codec"
            text = f"cannot be written ({why}); {remedy}"
        raise OutputError(f"{path}: {text}") from error
