"""Reads and writes single pictures that are in memory."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from rematte.conversion.outputs import plan_outputs
from rematte.conversion.source import open_reader
from rematte.errors import InputError
from rematte.matter.pictures import STEP, Picture, to_frame
from rematte.matting.matte import Matted
from rematte.options import Backdrop, Options
from rematte.video.codecs import IMAGES, can_hold_alpha
from rematte.video.frame import MATRIX_RGB, RANGE_FULL, Colour, Frame, VideoInfo
from rematte.video.image_writer import encode_image
from rematte.video.images import find_images
from rematte.video.pixels import Order
from rematte.video.tone import displayed

PhotoSource: TypeAlias = "bytes | str | PathLike[str] | BinaryIO | Picture"


def read_photo(
    source: PhotoSource, order: Order, options: Options
) -> tuple[Frame, VideoInfo, "np.dtype[Any]"]:
    """Read an image file or a picture as a conversion reads an image.

    The last result is the type of the arrays that the caller gets.
    """
    if isinstance(source, str | PathLike):
        return _read_file(Path(source), options)
    if isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read"):
        with _in_file(source) as path:
            try:
                return _read_file(path, options)
            except InputError as error:
                text = str(error).replace(str(path), "the image")
                raise InputError(text) from error
    frame, dtype = to_frame(source, order, own_alpha=options.input_alpha == "multiply")
    height, width = frame.pixels.shape[:2]
    info = VideoInfo(
        width, height, 1 / STEP, STEP, Colour(MATRIX_RGB, RANGE_FULL),
        8 * frame.pixels.itemsize, still=True,
    )  # fmt: skip
    return frame, info, dtype


@contextmanager
def _in_file(source: Any) -> Iterator[Path]:
    """Put the bytes of an image into a temporary file, and yield its path."""
    with TemporaryDirectory(prefix="rematte-") as folder:
        # A TGA can be recognised by its name alone.
        name = str(getattr(source, "name", ""))
        path = Path(folder, "image").with_suffix(Path(name).suffix)
        with path.open("wb") as file:
            if hasattr(source, "read"):
                shutil.copyfileobj(source, file)
            else:
                file.write(source)
        yield path


def _read_file(
    path: Path, options: Options
) -> tuple[Frame, VideoInfo, "np.dtype[Any]"]:
    images = [] if path.is_dir() else find_images(path)[0]
    if [image.file for image in images] != [path]:  # nor a pattern
        raise InputError(
            f"{path}: not a single image; photo takes PNG, JPEG, TIFF, WebP, OpenEXR, "
            "DPX, BMP and TGA, and convert_video takes videos"
        )
    with open_reader(path, options) as reader:
        info = reader.info
        frame = next(displayed(reader, info.colour))
    return frame, info, frame.pixels.dtype


def encode(
    matted: Matted,
    info: VideoInfo,
    kind: str,
    background: Backdrop | None,
    options: Options,
) -> bytes:
    """Encode a cut-out or composition as an image file, as a conversion does.

    The kind is the suffix of the format, with or without the dot. Without a background
    the picture is transparent.
    """
    suffix = f".{kind.lower().removeprefix('.')}"
    if suffix not in IMAGES:
        raise ValueError(
            f"format must be one of {', '.join(each[1:] for each in IMAGES)}, got "
            f"{kind!r}"
        )
    if background is None and not can_hold_alpha(suffix):
        raise ValueError(
            f"format {kind} cannot hold an alpha channel; give a background, or "
            f"another format: {', '.join(filter(can_hold_alpha, IMAGES))} can"
        )
    path = Path(f"photo{suffix}")
    (output,) = plan_outputs(
        {"output": path}, info, replace(options, background=background)
    )
    frame = replace(matted.frame, pixels=output.render(matted))
    return encode_image(frame, info, output.encoding)
