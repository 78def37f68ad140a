"""Backgrounds that the user has uploaded, for all clips."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rematte.serve import work
from rematte.serve.processes import SharedProcess
from rematte.serve.settings import READY
from rematte.serve.store import Store, is_id

SHOWN = "shown.webp"  # the picture that the page shows
_READY_FOLDER = Path(__file__).parent / "static" / "backgrounds"


class Backgrounds:
    """The list of uploaded backgrounds, each in a folder of its own."""

    def __init__(
        self, store: Store, examiner: SharedProcess, changed: Callable[[], object]
    ) -> None:
        self._store, self._examiner, self._changed = store, examiner, changed
        self._lock = threading.Lock()
        self._all: dict[str, dict[str, Any]] = {}
        for id, text in store.entries("background"):
            try:
                entry = json.loads(text)
                file, name, video = (entry[key] for key in ("file", "name", "video"))
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            plain = isinstance(file, str) and Path(file).name == file
            if is_id(id) and plain and (store.folder(id) / file).is_file():
                self._all[id] = {"file": file, "name": str(name), "video": bool(video)}

    def listing(self) -> list[dict[str, Any]]:
        """Return the backgrounds as plain data: "id", "name", "video"."""
        with self._lock:
            return [
                {"id": id, "name": entry["name"], "video": entry["video"]}
                for id, entry in self._all.items()
            ]

    def add(self, id: str, name: str, file: str) -> None:
        """Add a complete upload if it is an image or a video; `name` is for display."""
        folder = self._store.folder(id)
        made = self._examiner.call(
            name, work.examine_background, folder / file, folder / SHOWN
        )
        entry = {"name": name, "file": file, **made}
        with self._lock:
            self._store.save(id, json.dumps(entry), "background")
            self._all[id] = entry
        self._changed()

    def shown(self, id: str) -> Path | None:
        """The picture that the page shows of a background; None if there is none."""
        with self._lock:
            return self._store.folder(id) / SHOWN if id in self._all else None

    def remove(self, id: str) -> None:
        """Delete a background."""
        with self._lock:
            if self._all.pop(id, None) is None:
                return
            self._store.remove(id, "background")
        self._store.discard(id)
        self._changed()

    def resolve(self, background: str) -> str:
        """Give what the converter takes for a background of the settings."""
        kind, _, name = background.partition(":")
        if kind == "ready" and name in READY:
            return str(_READY_FOLDER / f"{name}.webp")
        if kind != "file":
            return background
        with self._lock:
            if name not in self._all:
                raise ValueError("the background was removed; choose another")
            return str(self._store.folder(name) / self._all[name]["file"])
