"""Finds and decodes images: one file, or those of a folder in order."""

import os
import re
from pathlib import Path

import av

from rematte.errors import InputError
from rematte.video.upright import Upright

IMAGE_SUFFIXES = {
    *(".bmp", ".exr", ".jpeg", ".jpg", ".png", ".tga", ".tif", ".tiff", ".webp")
}
# Scene-linear light is no input for a network trained on display-encoded pictures.
_EXR_OPTIONS = {"apply_trc": "iec61966_2_1"}


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key by which "frame9" comes before "frame10"."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def find_images(path: Path) -> list[Path]:
    """The images at `path`: a sorted folder, one file, or none if it is a video."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    if path.is_dir():
        files = [
            file
            for file in path.iterdir()
            if file.suffix.lower() in IMAGE_SUFFIXES
            and not file.name.startswith(".")
            and file.is_file()
        ]
        if not files:
            raise InputError(
                f"{path}: no images in this folder; it must hold files ending in "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        return sorted(files, key=lambda file: natural_key(file.name))
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; copy it again")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it")
    return [path] if path.suffix.lower() in IMAGE_SUFFIXES else []


def decode_image(path: Path) -> tuple[av.VideoFrame, Upright]:
    """Decode one image, and say how it is turned upright.

    Raises:
        InputError: If it cannot be read.
    """
    options = _EXR_OPTIONS if path.suffix.lower() == ".exr" else {}
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.options = options
            frame = next(container.decode(stream))
            return frame, Upright(frame, stream.codec_context.name)
    except (av.error.FFmpegError, OSError, IndexError, StopIteration) as error:
        raise InputError(
            f"{path}: not a readable image; remove or replace it"
        ) from error
