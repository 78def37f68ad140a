"""Functions for worker processes: examine an upload, convert it."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rematte.matting.loop import choose_ratio
from rematte.options import Options
from rematte.serve.choice import Choice
from rematte.serve.playable import write_playable
from rematte.video.images import decode_image
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.sheet import shrunk_size
from rematte.workers.jobs import convert_job
from rematte.workers.planning import Job

# The file that each output on the page makes.
FILES = {
    "mov": "cutout.mov",
    "webm": "cutout.webm",
    "mp4": "composition.mp4",
    "alpha": "alpha.mp4",
}
_KINDS = {"mov": "output", "webm": "output", "mp4": "composition", "alpha": "alpha"}
PLAYABLE = "playable.mp4"

_PREVIEW_SIDE = 1280
_REPORT_PERIOD = 0.1  # [s]


def check_model(model: Any, path: Path) -> None:
    """Do nothing, since the process has loaded the model for this call."""


def examine(model: Any, path: Path) -> dict[str, Any]:
    """Read the properties of a video and decode its first frame.

    Args:
        model: Not used.
        path: The video.

    Returns:
        "width", "height", "frames" (None if unknown), "rate", and the three "ratios"
        to show; the second is that of `auto` where the video is large.

    Raises:
        InputError: If it is not a video, or damaged at its beginning.
    """
    with VideoReader(path) as reader:
        info = reader.info
    size = shrunk_size(info.width, info.height, _PREVIEW_SIDE)
    with VideoReader(path, ReadOptions(size=size)) as reader:
        next(iter(reader))
    finest = choose_ratio(info.width, info.height, "full-body")
    return {
        "width": info.width,
        "height": info.height,
        "frames": info.frames,
        "rate": float(info.rate),
        "ratios": [round(finest * part, 4) for part in (1 / 2, 2 / 3, 1)],
    }


def examine_image(model: Any, path: Path) -> None:
    """Decode an image to check that it can be a background.

    Raises:
        InputError: If it cannot be read.
    """
    decode_image(path)


def convert(
    model: Any,
    path: Path,
    folder: Path,
    outputs: list[str],
    background: str,
    ratio: float | str,
    choice: Choice,
    report: Callable[[int, int | None], object],
) -> Job:
    """Convert a video, and write a small one that the page plays.

    Args:
        model: The network.
        path: The video.
        folder: The folder of the outputs, which get the names in `FILES`.
        outputs: Keys of `FILES`, of "mov" and "webm" at most one.
        background: The background of the composition, if there is one.
        ratio: Size of the coarse pass, or "auto".
        choice: Which part is converted, and who is cut out.
        report: Called at intervals with the frames done and, if known, their number.

    Returns:
        The job with how it went.
    """
    last = 0.0

    def report_sometimes(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last > _REPORT_PERIOD:
            last = time.monotonic()
            report(done, total)

    job = Job(path, {_KINDS[kind]: folder / FILES[kind] for kind in outputs})
    with VideoReader(path) as reader:
        info = reader.info
    with TemporaryDirectory(prefix="rematte-") as scratch:
        options = Options(
            downsample_ratio=ratio,
            region="auto",
            seq_chunk="auto",
            warmup="auto",
            edge_colour="clean",
            background={"composition": background} if "mp4" in outputs else None,
            **choice.options(info.width, info.height, Path(scratch)),
        )
        convert_job(model, job, options, report_sometimes)
    if job.status == "failed":
        return job
    report(job.frames, job.frames)
    files = {kind: folder / FILES[kind] for kind in outputs}
    try:
        write_playable(path, files, folder / PLAYABLE, choice.start)
    except (ValueError, OSError) as error:  # the outputs are complete all the same
        job.notes.append(f"no small video to play here: {error}")
    return job
