"""Writes frames as a conversion does, without one."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from clips import frame_label

from rematte.video import codecs as formats
from rematte.video.avif_writer import AvifWriter
from rematte.video.base_writer import Writer
from rematte.video.encoding import Encoding, choose
from rematte.video.frame import Colour, Frame, VideoInfo
from rematte.video.image_writer import ImageWriter
from rematte.video.pixels import with_depth
from rematte.video.writer import FileWriter


def info_of(size: tuple[int, int] = (96, 64), **changes: Any) -> VideoInfo:
    """What a reader would say of an ordinary 25 frames per second source."""
    info = VideoInfo(*size, Fraction(25), Fraction(1, 25000), Colour(6, 1))
    return replace(info, **changes)


def label_frames(
    count: int = 6,
    size: tuple[int, int] = (96, 64),
    times: Sequence[Fraction] = (),
    rate: Fraction = Fraction(25),
) -> list[Frame]:
    """Frames whose brightness tells their index."""
    times = times or [index / rate for index in range(count)]
    ends = [*times[1:], times[-1] + 1 / rate]
    return [
        Frame(frame_label(index, size), time, end - time)
        for index, (time, end) in enumerate(zip(times, ends, strict=True))
    ]


def open_writer(
    path: Path, info: VideoInfo, source: Path | None = None, **how: Any
) -> tuple[Writer, Encoding]:
    """The writer for a path, with the sound of a source if one is given."""
    encoding = choose(path, info, **({"alpha": False} | how))
    if formats.is_sequence(path) or info.still:
        return ImageWriter(path, info, encoding), encoding
    if encoding.codec.encoder == "avif":
        return AvifWriter(path, info, encoding), encoding
    return FileWriter(path, info, encoding, source), encoding


def write(
    path: Path, frames: Sequence[Frame], info: VideoInfo | None = None, **how: Any
) -> list[str]:
    """Write frames, widened if the output takes 16 bits; gives the notes."""
    height, width, channels = frames[0].pixels.shape
    info = info or info_of((width, height))
    writer, encoding = open_writer(
        path, info, alpha=channels == 4, gray=channels == 1, **how
    )
    for frame in frames:
        pixels = with_depth(frame.pixels, encoding.sixteen_bit)
        writer.write(replace(frame, pixels=pixels))
    writer.finish()
    return writer.notes
