"""Saves frames losslessly in a hidden file, to be encoded later or again."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from rematte.video.codecs import CODECS
from rematte.video.encoding import Encoding
from rematte.video.frame import Frame, VideoInfo
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.writer import FileWriter


class Spare:
    """Lossless copies of an output's frames, in a hidden FFV1 file beside it.

    Attributes:
        frames: The frames that were written, in order, without their pixels.
    """

    def __init__(self, path: Path, info: VideoInfo) -> None:
        self._path = path
        self._info = replace(info, timecode=None)
        self._writer: FileWriter | None = None
        self.frames: list[Frame] = []

    def write(self, frame: Frame) -> None:
        """Append a frame; all must have the depth and the channels of the first one.

        Raises:
            OutputError: If the disk is full.
        """
        if self._writer is None:
            clear, depth = frame.pixels.shape[2] == 4, 8 * frame.pixels.itemsize
            pixel_format = CODECS["ffv1"].formats(clear)[depth]
            encoding = Encoding(CODECS["ffv1"], pixel_format, clear, depth > 8)
            hidden = self._path.with_name(f"{self._path.name}.nut")
            self._writer = FileWriter(hidden, self._info, encoding)
            self._writer.path = self._path  # which errors name
        self._writer.write(frame)
        self.frames.append(frame.showing(np.empty((0, 0, 0), np.uint8)))

    def read(self) -> Iterator[Frame]:
        """Yield all frames; may be called again, but no frame can be written after."""
        if self._writer is None:
            return
        self._writer.complete()
        path = self._writer.temporary
        with VideoReader(path, ReadOptions(alpha=True)) as reader:
            for stored, frame in zip(reader, self.frames, strict=True):
                yield replace(frame, pixels=stored.pixels)

    def drop(self) -> None:
        """Remove the file."""
        if self._writer is not None:
            self._writer.discard()
