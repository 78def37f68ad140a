"""Exports the network: writes a temporary file, runs and checks it, then renames it."""

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rematte.engines.runtimes import keep_home_clean
from rematte.errors import OutputError
from rematte.export.formats import FORMATS, Format, Request, file_name
from rematte.export.verify import Difference, compare, real_frames
from rematte.network.matting_network import MattingNetwork
from rematte.weights.checkpoint import recognise

# Height, width, ratio and number of frames that a model of any size is checked with.
# The last size is odd, and its coarse frame no whole number of pixels.
_CHECKS = ((288, 512, 0.5, 100), (144, 256, 1.0, 5), (145, 259, 0.375, 5))
# Limits of the mean difference in alpha; float32 has a limit of the largest difference.
_MEAN_LIMITS = {"float16": 1e-3, "int8": 1e-2}
# Limit of the largest difference at a size that the user chose. At 641x361 and ratio
# 0.6 PyTorch's own float32 alpha is 1e-4 from float64; it was 2.9e-4 with earlier
# weights.
_OTHER_SIZES = 3e-4


@dataclass(frozen=True)
class Exported:
    """The result of an export."""

    format: str  # a name of `FORMATS`
    path: Path  # the file or folder
    megabytes: float  # size of all files [10^6 bytes]
    seconds: float  # time of writing, without the check [s]
    # Differences to the float32 network, for each size that was checked.
    differences: list[Difference]
    limit: str  # the largest difference that was allowed, in words


def export(
    network: MattingNetwork,
    format: str,
    path: str | Path | None = None,
    *,
    precision: str = "float32",
    size: tuple[int, int] | None = None,
    downsample_ratio: float | None = None,
    stateful: bool = False,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write the network in another runtime's format, and check its results.

    The file is written beside its target, run by its own runtime, and compared with the
    network over 100 recurrent frames of a real clip. Only then does it get its name.

    Args:
        network: Network on the CPU, in float32.
        format: A name of `FORMATS`.
        path: File or folder to write; None uses the documented name in the working
            directory.
        precision: "float32", "float16" or "int8".
        size: Width and height [pixels] of a model of fixed size, else None.
        downsample_ratio: Ratio of a model of fixed size, else None.
        stateful: Let the runtime keep the recurrent states.
        tolerance: Difference in alpha to allow instead of the default: the largest in
            float32, the mean in float16 and int8.
        overwrite: Replace an existing file.

    Returns:
        The file and its differences to the network.

    Raises:
        ValueError: If the format does not support these arguments, or packages are
            missing.
        OutputError: If the file cannot be written, or differs too much.
    """
    shape = (size[1], size[0]) if size else None
    request = Request(precision, shape, downsample_ratio, stateful)
    kind = _check(format, request)
    network = network.eval()
    variant, _ = recognise(network.state_dict(), "the network")
    target = Path(path or file_name(format, variant, request))
    _check_target(target, kind, overwrite)
    # Keeps TensorFlow's log out of the command's output.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keep_home_clean()
    module: Any = import_module(f"rematte.export.{kind.module}")
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", dir=target.parent
        ) as folder:
            part = Path(folder) / target.name
            begin = time.perf_counter()
            module.write(network, part, request)
            seconds = time.perf_counter() - begin
            differences = []
            for height, width, ratio, count in _checks(request):
                given = real_frames((height, width), count)
                step = module.open_model(part, request, ratio)
                differences.append(compare(network, step, given, ratio))
                del step  # some hold the file open
            limit = _judge(kind, request, tolerance, differences)
            files = [file for file in Path(folder).rglob("*") if file.is_file()]
            megabytes = sum(file.stat().st_size for file in files) / 1e6
            _move(Path(folder), target, overwrite)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}; nothing was left there"
        ) from error
    return Exported(format, target, megabytes, seconds, differences, limit)


def _check(name: str, request: Request) -> Format:
    """Check that a format supports a request and its packages are installed."""
    if name not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")
    kind = FORMATS[name]
    if request.precision not in kind.precisions:
        raise ValueError(
            f"precision of {name} must be one of {', '.join(kind.precisions)}, got "
            f"{request.precision!r}"
        )
    if request.stateful and not kind.stateful:
        able = [other for other, entry in FORMATS.items() if entry.stateful]
        raise ValueError(
            f"{name} cannot keep the recurrent states itself; leave --stateful out, or "
            f"use {' or '.join(able)}"
        )
    _check_fixed(name, kind, request)
    missing = [module for module in kind.needs if not find_spec(module)]
    if missing:
        raise ValueError(
            f"{name} needs {' and '.join(missing)}: pip install 'rematte[{kind.extra}]'"
        )
    return kind


def _check_fixed(name: str, kind: Format, request: Request) -> None:
    """Check that size and ratio suit the format and each other."""
    size, ratio = request.size, request.ratio
    if kind.fixed == "always" and size is None:
        raise ValueError(
            f"{name} is made for one size and ratio: add --static WIDTHxHEIGHT and "
            "--downsample-ratio RATIO"
        )
    if kind.fixed == "never" and size is not None:
        raise ValueError(f"{name} takes any size; leave --static out")
    if (size is None) != (ratio is None):
        raise ValueError(
            "a fixed size needs a fixed ratio, and vice versa: give both "
            "--static and --downsample-ratio, or none"
        )
    if ratio is not None and size is not None:
        if not 0 < ratio <= 1:
            raise ValueError(f"downsample_ratio must be in (0, 1], got {ratio}")
        if min(int(side * ratio) for side in size) < 16:
            raise ValueError(
                f"downsample_ratio {ratio} leaves less than 16 pixels of "
                f"{size[1]}x{size[0]}; use a larger ratio, at most 1"
            )


def _check_target(target: Path, kind: Format, overwrite: bool) -> None:
    if not target.name.endswith(kind.suffix):
        raise OutputError(f"{target} must end in {kind.suffix}; rename it")
    if not target.parent.is_dir():
        raise OutputError(f"folder {target.parent} does not exist; create it first")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; add --overwrite or use another name")


def _checks(request: Request) -> tuple[tuple[int, int, float, int], ...]:
    if request.size and request.ratio:
        return ((*request.size, request.ratio, 100),)
    return _CHECKS


def _judge(
    kind: Format, request: Request, tolerance: float | None, found: list[Difference]
) -> str:
    """Raise an error if a difference exceeds its limit; return the limit in words."""
    exact = request.precision == "float32"
    usual = kind.limit if exact else _MEAN_LIMITS[request.precision]
    if exact and request.size:
        usual = max(usual, _OTHER_SIZES)
    allowed = usual if tolerance is None else tolerance
    word = "largest" if exact else "mean"
    for each in found:
        value = (each.most if exact else each.mean)["pha"]
        if not value <= allowed:
            raise OutputError(
                f"the {word} difference in alpha to the network is {value:.2g} at "
                f"{each.size[1]}x{each.size[0]}, more than {allowed:g}; nothing was "
                "written; --tolerance allows more"
            )
    return f"{word} difference in alpha at most {allowed:g}"


def _move(folder: Path, target: Path, overwrite: bool) -> None:
    """Move all files to the target's folder, the target itself last."""
    parts = sorted(folder.iterdir(), key=lambda path: path.name == target.name)
    paths = [target.parent / part.name for part in parts]  # weights may lie beside it
    for path in paths:
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists; add --overwrite or use another name")
    for part, path in zip(parts, paths, strict=True):
        if path.is_dir():
            shutil.rmtree(path)
        part.replace(path)
