"""What a `Worker` does with an uploaded file: look at it, show it, convert it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from rematte.convert import Report, convert_video
from rematte.engines.choose import choose_matting, placement
from rematte.matting.background import Renderer
from rematte.matting.loop import choose_ratio, matte_still
from rematte.video.codecs import choose
from rematte.video.frame import Frame, Pixels, VideoInfo
from rematte.video.image_writer import ImageWriter
from rematte.video.images import decode_image
from rematte.video.reader import VideoReader
from rematte.video.tone import as_sdr, displayed
from rematte.video.writer import FileWriter

# What is asked for, and the file that it makes.
FILES = {
    "mov": "cutout.mov",
    "webm": "cutout.webm",
    "mp4": "composition.mp4",
    "alpha": "alpha.mp4",
}
_ARGUMENTS = {
    "mov": "output",
    "webm": "output",
    "mp4": "output_composition",
    "alpha": "output_alpha",
}
COMPARE = "compare.mp4"

# The comparison shows this much of the video [s], and this many pixels at most.
_COMPARED = 30
_COMPARED_SIDE = 640
_PREVIEW_SIDE = 1280
_TELL_EVERY = 0.1  # [s]


def check_model(model: Any, path: Path) -> None:
    """Do nothing: the model was loaded before; `path` is not used."""


def examine(model: Any, path: Path) -> dict[str, Any]:
    """Find out what a video is.

    Args:
        model: Not used.
        path: The video.

    Returns:
        "width", "height", "frames" (None if unknown), "rate", and the three "ratios"
        to show; the second is that of `auto` where the video is large.

    Raises:
        InputError: If it is none, or damaged at its beginning.
    """
    with VideoReader(path) as reader:
        info = reader.info
    with VideoReader(path, _shrunk(info, _PREVIEW_SIDE)) as reader:
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
    """See whether an image can stand behind; `model` is not used.

    Raises:
        InputError: If it cannot be read.
    """
    decode_image(path)


def preview(model: Any, path: Path, target: Path, ratio: float | None) -> None:
    """Write the first frame, cut out or as it is, at 1280 pixels at most.

    Args:
        model: The network.
        path: The video.
        target: An image that can hold alpha.
        ratio: Size of the coarse pass; None leaves the frame as it is.
    """
    with VideoReader(path) as reader:
        full = reader.info
    size = _shrunk(full, _PREVIEW_SIDE)
    with VideoReader(path, size, input_alpha="multiply") as reader:
        colour = reader.info.colour
        frame = next(displayed(reader, colour))
        info = replace(reader.info, still=True, colour=as_sdr(colour))
    pixels = frame.pixels
    if ratio is not None:
        ratio = min(1.0, ratio * full.width / size[0])  # the same coarse pass
        device, dtype = placement(model, None, None)
        matting = choose_matting(
            model, device, dtype, Report(), engine="torch", frames=1,
            downsample_ratio=ratio, seq_chunk=1,
        )  # fmt: skip
        pixels = Renderer("output")(matte_still(matting, frame))
    writer = ImageWriter(target, info, choose(target, info, alpha=ratio is not None))
    writer.write(replace(frame, pixels=_narrow(pixels)))
    writer.finish()


def _narrow(pixels: Pixels) -> Pixels:
    """8 bits, which is what browsers are shown."""
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def convert(
    model: Any,
    path: Path,
    folder: Path,
    outputs: list[str],
    background: str,
    ratio: float | str,
    tell: Callable[[int, int | None], object],
) -> list[str]:
    """Convert, and make the comparison.

    Args:
        model: The network.
        path: The video.
        folder: Where the outputs go, under the names of `FILES`.
        outputs: Keys of `FILES`, of "mov" and "webm" at most one.
        background: Of the composition, if there is one.
        ratio: Size of the coarse pass, or "auto".
        tell: Called now and then with frames done and, where it is known, in all.

    Returns:
        Notes, in words.
    """
    told = 0.0

    def tell_sometimes(done: int, total: int | None) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            tell(done, total)

    paths: dict[str, Any] = {_ARGUMENTS[kind]: folder / FILES[kind] for kind in outputs}
    report = convert_video(
        model, path, downsample_ratio=ratio, seq_chunk="auto", progress=tell_sometimes,
        background={"composition": background} if "mp4" in outputs else None, **paths,
    )  # fmt: skip
    tell(report.frames, report.frames)
    best = next(kind for kind in ("mp4", "mov", "webm", "alpha") if kind in outputs)
    try:
        _compare(path, folder / FILES[best], folder / COMPARE)
    except (ValueError, OSError) as error:  # the results are there all the same
        report.notes.append(f"no before and after: {error}")
    return report.notes


def _compare(before: Path, after: Path, target: Path) -> None:
    """Write a small video that any browser plays: before on the left, after right.

    One file, so that both halves are always at the same frame.
    """
    with VideoReader(before) as reader:
        size = _shrunk(reader.info, _COMPARED_SIDE)
    with (
        VideoReader(before, size) as first,
        VideoReader(after, size, alpha=True) as second,
    ):
        colour = first.info.colour
        info = replace(first.info, width=2 * size[0], colour=as_sdr(colour))
        shown = (
            displayed(_beginning(first), colour),
            displayed(second, second.info.colour),
        )
        writer = FileWriter(target, info, choose(target, info, alpha=False))
        try:
            for left, right in zip(*shown, strict=False):
                halves = [_narrow(left.pixels), _on_squares(_narrow(right.pixels))]
                writer.write(replace(left, pixels=np.hstack(halves)))
            writer.finish()
        except BaseException:
            writer.discard()
            raise


def _shrunk(info: VideoInfo, most: int) -> tuple[int, int]:
    """A size with even sides, the longer one of which is `most` at most [pixels]."""
    scale = min(1.0, most / max(info.width, info.height))
    width, height = (
        max(2, round(side * scale / 2) * 2) for side in (info.width, info.height)
    )
    return width, height


def _beginning(frames: VideoReader) -> Iterator[Frame]:
    start: Fraction | None = None
    for frame in frames:
        start = frame.time if start is None else start
        if frame.time - start > _COMPARED:
            return
        yield frame


def _on_squares(pixels: Pixels) -> Pixels:
    """Lay what is transparent over gray squares."""
    if pixels.shape[2] != 4:
        return pixels
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]] // 12
    squares = np.where((x + y) % 2, 235, 205)[..., None]
    alpha = pixels[..., 3:].astype(np.int32)
    over = pixels[..., :3] * alpha + squares * (255 - alpha)
    return ((over + 127) // 255).astype(np.uint8)
