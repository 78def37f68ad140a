"""Reads files as the tests of the reader and the writers do."""

from pathlib import Path
from typing import Any

from clips import read_label
from fakes import read_all

from rematte.video.frame import Frame


def read(path: Path, **options: Any) -> list[Frame]:
    return read_all(path, **options)[0]


def labels(frames: list[Frame]) -> list[int]:
    return [read_label(frame.pixels) for frame in frames]
