"""Inputs and outputs in object storage, by address: s3:// and gs://, through fsspec.

Videos are read and written in places, which object storage cannot do: what is there is
copied to a local folder first, and what is made is sent when it is complete. An object
appears with its last byte or not at all, so it needs no other name meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from rematte.errors import InputError, OutputError
from rematte.video.codecs import is_sequence

_EXTRAS = {"s3": "s3fs", "gs": "gcsfs"}  # by scheme: the package behind it


def place(word: str | Path) -> Path:
    """Give the path that a word means.

    Args:
        word: A local path, or an address in object storage.

    Returns:
        A path; for an address a `UPath`, which has the methods of one.

    Raises:
        ValueError: If it is another kind of address.
        ImportError: If the extra for it is not installed.
    """
    if str(word) == "-":
        raise ValueError(
            "- is the standard input or output, which only `rematte convert` takes"
        )
    scheme, mark, rest = str(word).partition("://")
    if not mark:
        return Path(word)
    if scheme not in _EXTRAS:
        raise ValueError(
            f"{word}: an address must begin with s3:// or gs://; mount other storage "
            "as a folder"
        )
    if find_spec("upath") is None or find_spec(_EXTRAS[scheme]) is None:
        raise ImportError(
            f"{word}: {scheme}:// needs an extra: pip install 'rematte[{scheme}]'"
        )
    from upath import UPath

    # Other processes write there too: what was listed once may not be so any more.
    path: Any = UPath(
        f"{scheme}://{rest.replace('/./', '/')}", use_listings_cache=False
    )
    return cast(Path, path)


def is_remote(path: Path) -> bool:
    """Whether a path is in object storage."""
    return not isinstance(path, Path)


def match(pattern: str) -> list[str]:
    """All that a pattern leads to, sorted; "**" leads to any depth."""
    path: Any = place(pattern)
    if not is_remote(path):
        return sorted(glob(pattern, recursive=True))  # noqa: PTH207 - may be absolute
    found = path.fs.glob(path.path)
    return sorted(map(path.fs.unstrip_protocol, found))


def inside(folder: Path) -> list[str]:
    """All files in a folder in object storage, to the bottom, sorted."""
    remote: Any = folder
    return sorted(map(remote.fs.unstrip_protocol, remote.fs.find(remote.path)))


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn what goes wrong with object storage into an error of the input."""
    with _as_error(InputError, path):
        yield


@contextmanager
def _as_error(kind: type[Exception], path: str | Path) -> Iterator[None]:
    try:
        yield
    except (InputError, OutputError):
        raise
    except Exception as error:
        # Each kind of storage has errors of its own, for credentials too.
        if "://" not in str(path) or isinstance(error, ImportError | ValueError):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        raise kind(
            f"{path}: {text}; check the address, the credentials and their rights"
        ) from error


def fetch(path: Path, folder: Path) -> Path:
    """Give an input as a local one.

    Args:
        path: A local one, which is given as it is, or a file in object storage.
        folder: Where a copy may go.

    Raises:
        InputError: If it cannot be read.
    """
    if not is_remote(path):
        return path
    remote: Any = path
    local = folder / path.name
    with reading(path):
        remote.fs.get_file(remote.path, str(local))
    return local


def stand_in(target: Path, folder: Path, overwrite: bool) -> Path:
    """Give the local path to write to for an output, its folder made.

    Args:
        target: The output; a local one stands for itself.
        folder: Where to write what is sent later.
        overwrite: Whether the output may exist.

    Raises:
        OutputError: If it exists and may not, or cannot be in object storage.
    """
    if not is_remote(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        return target
    if is_sequence(Path(target.name)):
        raise OutputError(
            f"{target}: a folder of images does not appear at once in object storage; "
            "write a video there, or images to a local folder"
        )
    with _as_error(OutputError, target):
        if not overwrite and target.exists():
            raise OutputError(f"{target} exists; pass overwrite (-y) to replace it")
    folder.mkdir()
    return folder / target.name


def publish(made: dict[Path, Path]) -> None:
    """Send what has been written for outputs in object storage.

    Args:
        made: Each output, and the complete local file for it.

    Raises:
        OutputError: If one cannot be sent. Those that were are taken away again.
    """
    sent: list[Path] = []
    for target, local in made.items():
        if not is_remote(target):
            continue
        remote: Any = target
        try:
            with _as_error(OutputError, target):
                remote.fs.put_file(str(local), remote.path)
        except BaseException:
            for other in sent:
                with suppress(Exception):
                    other.unlink()
            raise
        sent.append(target)
