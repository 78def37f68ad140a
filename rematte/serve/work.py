"""Functions for worker processes: examine an upload, convert it."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rematte.conversion.presets import PRESETS
from rematte.errors import InputError
from rematte.options import Options, make_options
from rematte.serve import look
from rematte.serve.choice import Choice, read_choice
from rematte.serve.playable import write_playable
from rematte.serve.processes import Networks
from rematte.serve.settings import FILES, is_over_background, kind_of
from rematte.video.fitting import fitted_size
from rematte.video.frame import VideoInfo
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.sheet import shrunk_size
from rematte.workers.jobs import convert_job
from rematte.workers.planning import Job

PLAYABLE = "playable.mp4"
# Outputs that are played like another one.
_SHOWN_AS = {"png": "mov", "webp": "mov", "jpg": "mp4", "mask": "alpha"}

_NOBODY = "no people were found; if there are some, paint them in and convert again"
_PREVIEW_SIDE = 1280
_REPORT_PERIOD = 0.1  # [s]


def check_model(networks: Networks, path: Path) -> None:
    """Do nothing, since the process has loaded the network for this call."""


def examine(networks: Any, path: Path) -> dict[str, Any]:
    """Read the properties of a video or photo, and check that its first frame decodes.

    The number of frames may be None, if it is unknown.
    """
    with VideoReader(path) as reader:
        info = reader.info
    size = shrunk_size(info.width, info.height, _PREVIEW_SIDE)
    with VideoReader(path, ReadOptions(size=size)) as reader:
        next(iter(reader))
    return {
        "width": info.width,
        "height": info.height,
        "frames": info.frames,
        "rate": float(info.rate),
        "photo": info.still,
        "sound": "sound" in info.other_tracks,
    }


def examine_background(networks: Any, path: Path, target: Path) -> dict[str, bool]:
    """Decode the first frame of a background, and write it for the page to show."""
    look.still(networks, path, target, 0.0, look.SIDE)
    with VideoReader(path) as reader:
        return {"video": not reader.info.still}


def read_by_pillow(networks: Any, path: Path, target: Path) -> None:
    """Write a photo that FFmpeg cannot read, AVIF or HEIC, as an upright PNG."""
    try:
        from PIL import Image, ImageOps

        with suppress(ImportError):
            from pillow_heif import register_heif_opener

            register_heif_opener()
        with Image.open(path) as image:
            ImageOps.exif_transpose(image).convert("RGBA").save(
                target, compress_level=1
            )
    except ImportError as error:
        raise InputError(
            f"{path}: such photos are read by Pillow, which is not installed; save it "
            "as JPEG or PNG, or install rematte[avif]"
        ) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: not a photo that can be read here; save it as JPEG or PNG (HEIC "
            "needs the package pillow-heif)"
        ) from error


def convert(
    networks: Networks,
    path: Path,
    folder: Path,
    settings: dict[str, Any],
    background: str,
    report: Callable[[str, int, int | None], object],
) -> Job:
    """Convert a video into a folder, and write a small one that the page plays.

    The settings are from `check_settings`. `report` is called with what is done before
    the first frame, or "", the frames done and, if known, their number.
    """
    outputs, begin, last = settings["outputs"], time.monotonic(), 0.0
    model, quality = networks.choose(settings["quality"])
    report("look", 0, None)

    def report_sometimes(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last > _REPORT_PERIOD:
            last = time.monotonic()
            report("", done, total)

    files = {key: folder / FILES[key] for key in outputs}
    shown = {_SHOWN_AS.get(key, key): file for key, file in files.items()}
    job = Job(path, {kind_of(key): file for key, file in files.items()})
    choice = read_choice(settings["choice"])
    with VideoReader(path) as reader:
        info = reader.info
    with TemporaryDirectory(prefix="rematte-") as scratch:
        if "webp" in outputs and not info.still:  # FFmpeg cannot read it
            del shown["mov"]
            shown["alpha"] = job.outputs.setdefault(
                "alpha", Path(scratch, FILES["alpha"])
            )
        settings = {**settings, "quality": quality}
        options = _make_options(settings, choice, info, background, Path(scratch))
        convert_job(model, job, options, report_sometimes)
        if job.status == "failed":
            job.error = _for_page(job.error, Path(scratch))
            return job
        report("", job.frames, job.frames)
        try:
            if write_playable(path, shown, folder / PLAYABLE, choice.start):
                job.notes.append(_NOBODY)
        except (ValueError, OSError) as error:  # the outputs are complete all the same
            job.notes.append(f"no small video to play here: {error}")
    job.seconds = time.monotonic() - begin
    return job


def _for_page(error: str, scratch: Path) -> str:
    """Rewrite an error without what the user of the page has neither typed nor seen."""
    error = error.replace(str(scratch / FILES["alpha"]), "the small copy for viewing")
    if re.match(r"person .*: nobody is there then; ", error):
        return "nobody is where the person was clicked; click on them again"
    return error


def _make_options(
    settings: dict[str, Any],
    choice: Choice,
    info: VideoInfo,
    background: str,
    folder: Path,
) -> Options:
    """Give the options of a conversion; masks are written into a folder."""
    preset, size = PRESETS.get(settings["preset"]), (info.width, info.height)
    if preset is not None and (outer := preset.options.get("input_resize")):
        height, width = fitted_size(size[::-1], outer[::-1], "contain")
        choice, size = choice.within((width, height), outer), outer
    given = choice.options(*size, folder)
    if preset is not None and preset.seconds is not None:
        length = given.get("end", float("inf")) - given.get("start", 0)
        if length > preset.seconds:
            given.pop("end", None)  # the preset's own
    over = is_over_background(settings["outputs"])
    return make_options(
        preset=settings["preset"],
        quality=settings["quality"],
        region="auto",
        seq_chunk="auto",
        warmup="auto",
        edge_colour="clean",
        background={"composition": background} if over else None,
        **given,
    )
