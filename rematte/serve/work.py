"""Functions for worker processes: examine an upload, preview it, convert it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from rematte.matter.matter import Matter
from rematte.matting.loop import choose_ratio
from rematte.options import Options
from rematte.video.encoding import choose
from rematte.video.frame import Frame
from rematte.video.image_writer import ImageWriter
from rematte.video.images import decode_image
from rematte.video.pixels import with_depth
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.sheet import on_squares, shrunk_size
from rematte.video.tone import as_sdr, displayed
from rematte.video.writer import FileWriter
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
COMPARE = "compare.mp4"

_COMPARED = 30  # length of the comparison [s]
_COMPARED_SIDE = 640  # its longer side, at most [pixels]
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


def preview(model: Any, path: Path, target: Path, ratio: float | None) -> None:
    """Write the first frame, cut out or unchanged, at 1280 pixels at most.

    Args:
        model: The network.
        path: The video.
        target: An image that can hold alpha.
        ratio: Size of the coarse pass; None leaves the frame unchanged.
    """
    with VideoReader(path) as reader:
        full = reader.info
    size = shrunk_size(full.width, full.height, _PREVIEW_SIDE)
    with VideoReader(path, ReadOptions(size=size, input_alpha="multiply")) as reader:
        colour = reader.info.colour
        frame = next(displayed(reader, colour))
        info = replace(reader.info, still=True, colour=as_sdr(colour))
    pixels = frame.pixels
    if ratio is not None:
        ratio = min(1.0, ratio * full.width / size[0])  # the same coarse pass
        matter = Matter(model, downsample_ratio=ratio, edge_colour="clean")
        pixels = np.asarray(matter.photo(frame).rgba)
    writer = ImageWriter(target, info, choose(target, info, alpha=ratio is not None))
    writer.write(replace(frame, pixels=with_depth(pixels, False)))
    writer.finish()


def convert(
    model: Any,
    path: Path,
    folder: Path,
    outputs: list[str],
    background: str,
    ratio: float | str,
    report: Callable[[int, int | None], object],
) -> Job:
    """Convert a video, and write a comparison of before and after.

    Args:
        model: The network.
        path: The video.
        folder: The folder of the outputs, which get the names in `FILES`.
        outputs: Keys of `FILES`, of "mov" and "webm" at most one.
        background: The background of the composition, if there is one.
        ratio: Size of the coarse pass, or "auto".
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
    options = Options(
        downsample_ratio=ratio,
        region="auto",
        seq_chunk="auto",
        warmup="auto",
        edge_colour="clean",
        background={"composition": background} if "mp4" in outputs else None,
    )
    convert_job(model, job, options, report_sometimes)
    if job.status == "failed":
        return job
    report(job.frames, job.frames)
    best = next(kind for kind in ("mp4", "mov", "webm", "alpha") if kind in outputs)
    try:
        _compare(path, folder / FILES[best], folder / COMPARE)
    except (ValueError, OSError) as error:  # the outputs are complete all the same
        job.notes.append(f"no before and after: {error}")
    return job


def _compare(before: Path, after: Path, target: Path) -> None:
    """Write a small video that any browser plays: before on the left, after right.

    It is one file, so both halves are always at the same frame.
    """
    with VideoReader(before) as reader:
        width, height = reader.info.width, reader.info.height
    size = shrunk_size(width, height, _COMPARED_SIDE)
    with (
        VideoReader(before, ReadOptions(size=size)) as first,
        VideoReader(after, ReadOptions(size=size, alpha=True)) as second,
    ):
        colour = first.info.colour
        info = replace(first.info, width=2 * size[0], colour=as_sdr(colour))
        shown = (
            displayed(_start(first), colour),
            displayed(second, second.info.colour),
        )
        writer = FileWriter(target, info, choose(target, info, alpha=False))
        try:
            for left, right in zip(*shown, strict=False):
                halves = [
                    with_depth(left.pixels, False),
                    on_squares(with_depth(right.pixels, False)),
                ]
                writer.write(replace(left, pixels=np.hstack(halves)))
            writer.finish()
        except BaseException:
            writer.discard()
            raise


def _start(frames: VideoReader) -> Iterator[Frame]:
    start: Fraction | None = None
    for frame in frames:
        start = frame.time if start is None else start
        if frame.time - start > _COMPARED:
            return
        yield frame
