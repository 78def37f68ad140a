"""Stores the list of jobs and their folders in the work folder.

Only this user can read these files. A folder is deleted only if the list says that
`rematte serve` made it, links are not followed, and an unreadable list is renamed
rather than deleted.
"""

import os
import re
import secrets
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from rematte.errors import OutputError

_LIST, _JOBS, _TOKEN = "jobs.sqlite", "jobs", "token"
_VERSION = 1  # version of the list's format
_MARK = ".made-by-rematte-serve"
_TABLES = (
    "CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY, data TEXT NOT NULL)",
    # Folders of uploads that are not complete and of jobs that were removed.
    "CREATE TABLE IF NOT EXISTS leftover (id TEXT PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS background (id TEXT PRIMARY KEY, data TEXT NOT NULL)",
    # Seconds that a million pixels took, by quality.
    "CREATE TABLE IF NOT EXISTS speed (quality TEXT PRIMARY KEY, seconds REAL)",
)
Table = Literal["job", "background"]


class Store:
    """Opens the work folder, makes it where it is missing, and locks it until `close`.

    `notes` are sentences on what was renamed or left alone.
    """

    def __init__(self, folder: Path) -> None:
        self.notes: list[str] = []
        self._lock = threading.RLock()  # SQLite has one transaction at a time
        self._top, self._folder = folder, folder / _JOBS
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in (folder / name for name in (_LIST, _JOBS, _TOKEN)):
                if path.is_symlink():
                    raise OutputError(
                        f"{path} is a link, and `rematte serve` follows none; remove "
                        "it, or give another --folder"
                    )
            existed = (folder / _LIST).exists()
            self._database = self._open_list()
            self._mark(existed)
            for (id,) in self._database.execute("SELECT id FROM leftover").fetchall():
                self.discard(id)
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, OutputError):
                raise
            remedy = "give a folder that can be written (--folder)"
            if "locked" in str(error):
                remedy = (
                    "end the `rematte serve` that uses it, or give another (--folder)"
                )
            raise OutputError(
                f"folder {folder} cannot be used ({error}); {remedy}"
            ) from error

    def _open_list(self) -> sqlite3.Connection:
        path = self._top / _LIST
        try:
            return _connect(path)
        except sqlite3.DatabaseError as error:
            # Another program's database has no such table or columns. Other operational
            # errors are a lock, a full disk or a lack of permission.
            operational = isinstance(error, sqlite3.OperationalError)
            if operational and "no such" not in str(error):
                raise
        aside = _unused(path)
        for suffix in ("", "-journal", "-wal", "-shm"):
            if (file := path.with_name(path.name + suffix)).exists():
                file.rename(aside.with_name(aside.name + suffix))
        self.notes.append(
            f"{path} could not be read as a list of jobs; it was renamed to "
            f"{aside.name}, a new list was started, and folders in {self._folder} "
            "were left as they are"
        )
        return _connect(path)

    def _mark(self, existed: bool) -> None:
        """Create and mark the folder of jobs; others' folders keep their mode."""
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        # The first version of this page made a list, and no mark.
        ours = existed and version == 0 and not self.notes
        self._database.execute(f"PRAGMA user_version = {_VERSION}")
        ours = ours or not self._folder.exists() or not any(self._folder.iterdir())
        self._folder.mkdir(mode=0o700, exist_ok=True)
        mark = self._folder / _MARK
        if ours or mark.exists():
            self._folder.chmod(0o700)
            if not mark.exists():
                _create(mark, "`rematte serve` made this folder.\n")
        else:
            self.notes.append(
                f"{self._folder} holds what `rematte serve` did not make; it is left "
                "as it is"
            )
        mode = self._top.stat().st_mode
        if os.name == "posix" and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            self.notes.append(
                f"other users can write to {self._top} and replace what is in it; "
                f"chmod o-w {self._top}"
            )

    def token(self) -> str:
        """Give the secret part of the page's address, which stays the same."""
        path = self._top / _TOKEN
        if path.exists():
            path.chmod(0o600)
            token = path.read_bytes().decode("ascii", "replace").strip()
            if re.fullmatch(r"[\w-]{43}", token, re.ASCII):
                return token
            path.rename(aside := _unused(path))
            self.notes.append(
                f"{path} holds no token; it was renamed to {aside.name}, and the page "
                "has a new address"
            )
        _create(path, token := secrets.token_urlsafe(32))
        return token

    def folder(self, id: str) -> Path:
        """Give the folder of a job's files."""
        return self._folder / id

    def entries(self, table: Table = "job") -> list[tuple[str, str]]:
        """Give the id and JSON text of each job or background, the oldest first."""
        query = f"SELECT id, data FROM {table} ORDER BY rowid"
        return self._database.execute(query).fetchall()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction, which is undone if the block fails."""
        with self._lock, self._database:
            self._database.execute("BEGIN")
            yield self._database

    def save(self, id: str, data: str, table: Table = "job") -> None:
        """Write the JSON text of a job or background; from then on its folder stays."""
        with self._change() as database:
            database.execute(
                f"INSERT INTO {table} VALUES (?, ?) "
                "ON CONFLICT (id) DO UPDATE SET data = excluded.data",
                (id, data),
            )
            database.execute("DELETE FROM leftover WHERE id = ?", (id,))

    def new_folder(self) -> str:
        """Create a folder for an upload, and give its name: 16 hexadecimal digits."""
        while os.path.lexists(self.folder(id := secrets.token_hex(8))):
            pass
        with self._change() as database:
            database.execute("INSERT INTO leftover VALUES (?)", (id,))
        self.folder(id).mkdir(mode=0o700)
        return id

    def remove(self, id: str, table: Table = "job") -> None:
        """Remove one from its list; `discard` or the next start deletes its folder."""
        with self._change() as database:
            database.execute(f"DELETE FROM {table} WHERE id = ?", (id,))
            database.execute("INSERT OR IGNORE INTO leftover VALUES (?)", (id,))

    def discard(self, id: str) -> None:
        """Delete a folder that `new_folder` made and that belongs to no job."""
        if is_id(id):
            shutil.rmtree(self.folder(id), ignore_errors=True)  # refuses links
        if not self.folder(id).is_dir():
            # On a full disk the next start deletes the entry.
            with suppress(sqlite3.Error), self._change() as database:
                database.execute("DELETE FROM leftover WHERE id = ?", (id,))

    def speeds(self) -> dict[str, float]:
        """Give the seconds that a million pixels took, by quality."""
        query = "SELECT quality, seconds FROM speed"
        return dict(self._database.execute(query).fetchall())

    def save_speed(self, quality: str, seconds: float) -> None:
        """Write how long a million pixels took; the last conversions count most."""
        with self._change() as database:
            database.execute(
                "INSERT INTO speed VALUES (?, ?) ON CONFLICT (quality) DO UPDATE "
                "SET seconds = (seconds + excluded.seconds) / 2",
                (quality, seconds),
            )

    def close(self) -> None:
        """Let another server use the folder."""
        self._database.close()


def is_id(text: str) -> bool:
    """Whether a text can be a job's id, and so the name of its folder."""
    return re.fullmatch(r"[0-9a-f]{16}", text) is not None


def _connect(path: Path) -> sqlite3.Connection:
    if path.exists():
        path.chmod(0o600)
    else:
        _create(path, "")
    database = sqlite3.connect(
        path, timeout=0.5, isolation_level=None, check_same_thread=False
    )
    try:
        # The lock is held until this process ends, however it does.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        if database.execute("SELECT name FROM sqlite_master").fetchall():
            database.execute("SELECT id, data FROM job").fetchall()
        for table in _TABLES:
            database.execute(table)
        database.execute("COMMIT")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _create(path: Path, text: str) -> None:
    """Write a new file that only this user can read; never through a link."""
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w"
    ) as f:
        f.write(text)


def _unused(path: Path) -> Path:
    """Give an unused name beside a file."""
    names = (path.with_name(f"{path.name}.unread-{n}") for n in range(1, 10_000))
    return next(name for name in names if not name.exists() and not name.is_symlink())
