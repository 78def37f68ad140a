"""Inputs and outputs in object storage (s3://, gs://), through fsspec.

Reading and writing videos needs random access, which object storage lacks: inputs are
copied to a local folder first, and outputs are uploaded when they are complete. An
object appears with its last byte or not at all, so it needs no temporary name.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from rematte.errors import InputError, OutputError
from rematte.video.codecs import is_sequence

_EXTRAS = {"s3": "s3fs", "gs": "gcsfs"}  # the package for each scheme


def to_path(word: str | Path) -> Path:
    """Convert a local path or an address in object storage to a path.

    That of an address is a `UPath`, which has the same methods.
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

    # Other processes write there too, so a cached listing may be out of date.
    path: Any = UPath(
        f"{scheme}://{rest.replace('/./', '/')}", use_listings_cache=False
    )
    return cast(Path, path)


def is_remote(path: Path) -> bool:
    """Whether a path is in object storage."""
    return not isinstance(path, Path)


def match(pattern: str) -> list[str]:
    """The paths that match a pattern, sorted; "**" matches folders of any depth."""
    path: Any = to_path(pattern)
    if not is_remote(path):
        return sorted(glob(pattern, recursive=True))  # noqa: PTH207 - may be absolute
    found = path.fs.glob(path.path)
    return sorted(map(path.fs.unstrip_protocol, found))


def list_files(folder: Path) -> list[str]:
    """Return all files below a folder in object storage, sorted."""
    remote: Any = folder
    return sorted(map(remote.fs.unstrip_protocol, remote.fs.find(remote.path)))


@contextmanager
def errors_as(kind: type[Exception], path: str | Path) -> Iterator[None]:
    """Raise errors of object storage as one class of errors."""
    try:
        yield
    except (InputError, OutputError):
        raise
    except Exception as error:
        # Each client has its own exceptions, also for credentials.
        if "://" not in str(path) or isinstance(error, ImportError | ValueError):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        raise kind(
            f"{path}: {text}; check the address, the credentials and their rights"
        ) from error


def fetch(path: Path, folder: Path) -> Path:
    """Download an input into a folder; a local path is returned unchanged."""
    if not is_remote(path):
        return path
    remote: Any = path
    local = folder / path.name
    with errors_as(InputError, path):
        remote.fs.get_file(remote.path, str(local))
    return local


def local_target(target: Path, folder: Path, overwrite: bool) -> Path:
    """Choose the local path to write an output to, and create its folder.

    A local target is returned unchanged; what `publish` uploads later lies in `folder`.
    """
    if not is_remote(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        return target
    if is_sequence(Path(target.name)):
        raise OutputError(
            f"{target}: a folder of images does not appear at once in object storage; "
            "write a video there, or images to a local folder"
        )
    with errors_as(OutputError, target):
        if not overwrite and target.exists():
            raise OutputError(f"{target} exists; pass overwrite (-y) to replace it")
    folder.mkdir()
    return folder / target.name


def publish(made: dict[Path, Path]) -> None:
    """Upload the outputs that belong in object storage, from complete local files.

    If an upload fails, those that succeeded are deleted again.
    """
    sent: list[Path] = []
    for target, local in made.items():
        if not is_remote(target):
            continue
        remote: Any = target
        try:
            with errors_as(OutputError, target):
                remote.fs.put_file(str(local), remote.path)
        except BaseException:
            for other in sent:
                with suppress(Exception):
                    other.unlink()
            raise
        sent.append(target)
