"""Downloads weights by name, and checks their hashes.

An interrupted download is resumed; a file gets its name only when its hash is right.
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
    Weights,
    download_dir,
    expected_hash,
    find,
    lookup,
    record_hash,
)

TIMEOUT = 30  # seconds without a byte before a connection counts as dead
BLOCK = 1 << 20  # bytes read at a time


def download(name: str, progress: bool = True) -> Path:
    """Download named weights unless an intact copy is on this machine.

    The bytes go to a `.part` file beside the target, which the next call resumes after
    an interruption. Only a complete file with the right hash gets the final name. Where
    no hash is known, the file must fit the network, and its hash is recorded in
    `<file>.sha256` for all later checks.

    Args:
        name: A key of `WEIGHTS`.
        progress: Draw a bar on stderr.

    Returns:
        Path of the checked file.

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
    """Hash the file of named weights again and compare.

    Returns:
        One line: the path, and "ok", or that the hash was recorded for the next time
        because none was known.

    Raises:
        WeightsError: If the file is not on this machine, or its hash is wrong.
    """
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
            record_hash(path, got)
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
        return _fetch(entry, url, part, progress)
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
    return None


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
        record_hash(target, got)


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
