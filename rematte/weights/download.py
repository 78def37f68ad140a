"""Finds weights by name or path, downloads those that are missing, checks hashes.

An interrupted download is resumed; a file gets its name only when its hash is right.
Needs no torch for files whose hash is known.
"""

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from rematte.errors import WeightsError
from rematte.weights.registry import (
    BUNDLED_DIR,
    DEFAULT,
    FAST,
    VARIANTS,
    WEIGHTS,
    Weights,
    download_dir,
    find,
    lookup,
)

TIMEOUT = 30  # seconds without a byte before a connection counts as dead
BLOCK = 1 << 20  # bytes read at a time
_USUAL = {"resnet50": "rvm-resnet50", "mobilenetv3_fast": FAST}


def resolve(name_or_path: str | Path | None, variant: str | None) -> Path:
    """Return the checked file of a name, or the file at a path; see `load_model`.

    Only the table's variant of a name is checked; what a file holds is not looked at.

    Raises:
        WeightsError: If there is no such name or file, or a download fails.
        ValueError: If there is no such variant.
    """
    if variant not in (None, *VARIANTS):
        names = ", ".join(VARIANTS)
        raise ValueError(f"variant must be one of {names} or None, got {variant!r}")
    if name_or_path is None:
        name_or_path = _USUAL.get(variant or "", DEFAULT)
    if isinstance(name_or_path, str) and name_or_path in WEIGHTS:
        entry = WEIGHTS[name_or_path]
        check_variant(entry.variant, variant, entry.name)  # before 100 MB are fetched
        path = find(entry.name) or download(entry.name)
        check_hash(entry, path)
        return path
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is neither a file nor a known name"
        raise WeightsError(
            f"weights {str(name_or_path)!r} {kind}; known names: {', '.join(WEIGHTS)}"
        )
    return path


def check_variant(variant: str, wanted: str | None, source: str | Path) -> None:
    """Raise a `WeightsError` unless the variant is the wanted one."""
    if wanted not in (None, variant):
        raise WeightsError(
            f"weights {source} are {variant}, but variant={wanted!r} was asked for; "
            f"leave variant out, or give weights of {wanted}"
        )


def download(name: str, progress: bool = True) -> Path:
    """Download named weights unless an intact copy is on this machine.

    The bytes go to a `.part` file beside the target, which the next call resumes after
    an interruption. Only a complete file with the right hash gets the final name. Where
    no hash is known, the file must fit the network, and its hash is recorded in
    `<file>.sha256` for all later checks. `progress` draws a bar on stderr.

    Raises:
        WeightsError: If `REMATTE_OFFLINE` is set, the server cannot be reached, the
            connection breaks, or the bytes are not the expected ones.
    """
    entry = lookup(name)
    found = find(name)
    if found is not None and expected_hash(entry, found) in (None, sha256(found)):
        return found
    if entry.url is None:
        raise WeightsError(
            f"the bundled weights {name} are missing from {BUNDLED_DIR} or changed; "
            "install rematte again"
        )
    folder = download_dir()
    remedy = (
        f"put the file of {entry.url} into {folder} by hand, or use {DEFAULT}, "
        "which is bundled and needs no network"
    )
    if os.environ.get("REMATTE_OFFLINE", "") not in ("", "0"):
        raise WeightsError(
            f"{name} is not on this machine and REMATTE_OFFLINE forbids fetching it; "
            + remedy
        )
    target = folder / entry.file
    part = target.with_name(target.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(entry, entry.url, part, progress)
        _accept(entry, part, target)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it owns the connection
        raise WeightsError(f"cannot fetch {name} ({error}); {remedy}") from error
    return target


def verify(name: str) -> str:
    """Hash the file of named weights again, and say in one line that it is right."""
    entry = lookup(name)
    path = find(name)
    if path is None:
        raise WeightsError(
            f"{name} is not on this machine; fetch it with: rematte weights download "
            + name
        )
    known = expected_hash(entry, path) is not None
    got = check_hash(entry, path)
    verdict = "ok" if known else "no hash was known, recorded this one"
    return f"{path}: {verdict} (SHA-256 {got})"


def check_hash(entry: Weights, path: Path) -> str:
    """Compare a file's hash with the known one, or record it if none is known."""
    got = sha256(path)
    expected = expected_hash(entry, path)
    if entry.shares is not None:
        other = entry.shares
        check_hash(lookup(other), find(other) or download(other))
    if expected is None:
        with contextlib.suppress(OSError):  # a shared cache may be read-only
            _record_hash(path, got)
    elif got != expected:
        raise WeightsError(
            f"SHA-256 of {path} is {got}, expected {expected}; delete it and run: "
            f"rematte weights download {entry.name}, or give its path to use it anyway"
        )
    return got


def _fetch(entry: Weights, url: str, part: Path, progress: bool) -> None:
    """Download `url` into `part`, resuming from the bytes it holds already."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "rematte"} | (
        {"Range": f"bytes={start}-"} if start else {}
    )
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        error.close()
        part.unlink()  # it is as long as the file or longer: start again
        _fetch(entry, url, part, progress)
        return
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0  # the server knows no ranges and sends everything
        length = response.headers.get("Content-Length")
        total = entry.size or (start + int(length) if length else None)
        bar = tqdm(
            desc=f"{entry.file} ({entry.licence})", total=total, initial=start,
            unit="B", unit_scale=True, disable=not progress,
        )  # fmt: skip
        with part.open("r+b" if start else "wb") as file, bar:
            file.seek(start)
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    got = part.stat().st_size
    if total is not None and got < total:
        raise ConnectionError(
            f"connection closed after {got} of {total} bytes: "
            "the same command continues from there"
        )


def _accept(entry: Weights, part: Path, target: Path) -> None:
    """Check a complete download and give it its final name."""
    got = sha256(part)
    expected = expected_hash(entry, target)
    try:
        if expected is None:
            # Imported here: torch is slow to start, and only this needs it.
            from rematte.weights.checkpoint import build, read_state_dict

            build(read_state_dict(part), part, entry.variant)
        elif got != expected:
            raise WeightsError(
                f"SHA-256 of {entry.url} is {got}, expected {expected}; the download "
                "was deleted, try again or get the file elsewhere and give its path"
            )
    except WeightsError:
        part.unlink()
        raise
    part.replace(target)
    if entry.sha256 is None:
        _record_hash(target, got)


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def expected_hash(entry: Weights, path: Path | None) -> str | None:
    """Return the table's hash, else the one that was recorded beside the file."""
    if entry.sha256 is not None or path is None:
        return entry.sha256
    try:
        first = _sidecar(path).read_text("ascii").split()[:1]
    except (OSError, ValueError):
        return None
    return first[0] if first and len(first[0]) == 64 else None


def _record_hash(path: Path, digest: str) -> None:
    """Write `<file>.sha256` in the format of sha256sum."""
    _sidecar(path).write_text(f"{digest}  {path.name}\n", "ascii")


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
