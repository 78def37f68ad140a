"""Hands finished files over: copies in a folder of the user's, and a ZIP of all."""

import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from rematte.errors import OutputError

_CHUNK = 1 << 20  # [bytes]
_LONGEST_STEM = 180  # of a name [bytes]; systems allow 255 in all


def open_output(folder: Path) -> Path:
    """Create the folder that finished files are copied to, and give its whole path."""
    folder = folder.expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"folder {folder} (--output) cannot be used ({error.strerror}); give "
            "another"
        ) from error
    if not os.access(folder, os.W_OK):
        raise OutputError(
            f"folder {folder} (--output) cannot be written to; give another"
        )
    return folder


def file_name(upload: str, made: str) -> str:
    """Name what was made of an upload, such as "cutout.mov", so that any system can."""
    stem = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "_", Path(upload).stem).strip(" .")
    short = stem.encode()[:_LONGEST_STEM].decode(errors="ignore").strip(" .")
    return f"{short or 'file'}_{made}"


def copy_out(source: Path, folder: Path, name: str) -> Path:
    """Copy a file into a folder, where it appears when it is complete, or not at all.

    A file that exists is never replaced; the copy's name gets a number then.
    """
    hidden = folder / f".{name}.{secrets.token_hex(8)}.partial"
    try:
        shutil.copyfile(source, hidden)
        for target in _free_names(folder / name):
            try:
                target.touch(exist_ok=False)  # so that no other file takes the name
            except FileExistsError:
                continue
            return hidden.replace(target)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    raise FileExistsError(f"{name} exists many times")


def _free_names(path: Path) -> Iterator[Path]:
    yield path
    for number in range(2, 10_000):
        yield path.with_name(f"{path.stem} ({number}){path.suffix}")


class _Sink:
    """A file that cannot seek, and whose content is taken away while it grows."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing, since nothing is buffered."""

    def take(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data


def zip_files(files: Iterable[tuple[Path, str]]) -> Iterator[bytes]:
    """Pack files, each with its name, without compression; give the ZIP part by part.

    A name that occurs again gets a number; a file deleted meanwhile is left out.
    """
    sink, used = _Sink(), set[str]()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for path, wanted in files:
            names = (found.name for found in _free_names(Path(wanted)))
            name = next(name for name in names if name not in used)
            used.add(name)
            try:
                entry, source = zipfile.ZipInfo.from_file(path, name), path.open("rb")
            except OSError:
                continue
            with source, archive.open(entry, "w", force_zip64=True) as target:
                while part := source.read(_CHUNK):
                    target.write(part)
                    yield sink.take()
    yield sink.take()


def folder_size(folder: Path) -> int:
    """Give the total size of all files in a folder [bytes]; links count nothing."""
    size = 0
    for top, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(top) / name).lstat().st_size
            except OSError:  # deleted meanwhile
                continue
    return size
