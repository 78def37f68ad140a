"""The manifest of a conversion in segments: what it was started with.

It is saved in the folder of the segments, beside marker files. A resumed run must have
the same input, settings, weights and versions.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rematte.engines.graph import Graph
from rematte.engines.runtimes import package_versions
from rematte.options import OPTIONS, Options
from rematte.version import __version__
from rematte.video.images import find_images
from rematte.video.mask_spec import parse_masks
from rematte.video.output_paths import shorten, write_whole

NAME = "manifest.json"
# Marker file: segments are joined, only renames remain.
NAMED = "named"
# The temporary paths of outputs that are being joined.
JOINING = "joining.json"

# Length of the prefix that is hashed to identify a file [bytes].
_PREFIX = 1 << 20


def work_folder(output: Path) -> Path:
    """Return the hidden folder beside an output, or above a missing folder."""
    name = f".{shorten(output.name)}.segments"
    near, above = output.parent / name, output.parent.parent / name
    return above if above.exists() or not output.parent.is_dir() else near


def conditions(
    model: Any, source: Path, options: Options, others: Mapping[str, Any]
) -> dict[str, str]:
    """Describe everything that the result depends on.

    `others` are settings by name beside the options; None stands for the default.

    Returns:
        Texts by name, without options that have their default.
    """
    background = options.background
    files = {"input": source}
    if isinstance(background, str | Path) and Path(background).exists():
        files["background"] = Path(background)
    for what in ("include", "exclude"):
        masks = parse_masks(what, getattr(options, what) or ())
        files |= {f"mask {each.text}": each.file for each in masks if each.file}
    found = {}
    for name, path in files.items():
        for what, value in _describe_file(path).items():
            found[f"{what} of the {name}"] = value
    for name, value in {**options.given(), **others}.items():
        free = name in OPTIONS and OPTIONS[name].may_change
        if value is not None and not free:
            found[name] = str(value.resolve() if isinstance(value, Path) else value)
    found["the weights"] = _digest(model)[:16]
    found["version of rematte"] = __version__
    for name, version in package_versions(("av", "openvino")).items():
        found[f"version of {name}"] = version
    return found


def _describe_file(path: Path) -> dict[str, str]:
    """Return size, time of change and hash of the start of a file, or of a folder's."""
    files = [path] if path.exists() else [image.file for image in find_images(path)[0]]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file())
    states = [file.stat() for file in files]
    head = b""
    for first in files[:1]:
        with first.open("rb") as file:
            head = file.read(_PREFIX)
    return {
        "number of files": str(len(files)),
        "size": str(sum(state.st_size for state in states)),
        "time of change": str(max((state.st_mtime_ns for state in states), default=0)),
        "beginning": hashlib.sha256(head).hexdigest()[:16],
    }


def _digest(model: Any) -> str:
    """Hash a network's weights."""
    if isinstance(model, Graph):
        return model.digest
    from rematte.engines.convert_graph import weights_digest

    return weights_digest(model)


def read(folder: Path, now: Mapping[str, str]) -> dict[str, Any]:
    """Read the manifest of an earlier run, and refuse it if conditions have changed."""
    known: dict[str, Any] = json.loads((folder / NAME).read_text("utf-8"))
    before = known["conditions"]
    others = [
        f"{name} ({before.get(name, 'default')} -> {now.get(name, 'default')})"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    if others:
        raise ValueError(
            f"{folder} was started with other settings: {'; '.join(others)}; give "
            "the same again, or overwrite (-y) without resume (--resume) to start over"
        )
    return known


def write_json(path: Path, content: Any) -> None:
    """Write a file that appears when it is complete."""
    write_whole(path, json.dumps(content).encode())
