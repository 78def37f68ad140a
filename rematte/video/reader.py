"""Reads a video file, a folder of images or one image, frame by frame.

Frames are upright RGB with their exact times. Memory does not grow with the length.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Self

from rematte.video.frame import Frame, LazyFrame
from rematte.video.image_source import ImageSource
from rematte.video.images import find_images
from rematte.video.read_options import ReadOptions
from rematte.video.video_source import VideoSource


class VideoReader:
    """Frames of a video file, an image folder or an image, in order.

    Use it in a `with` statement and iterate once:
    `with VideoReader("in.mp4") as reader: for frame in reader: ...`

    Args:
        path: A file that FFmpeg decodes, a folder of images (in natural order), a
            pattern of numbered images such as "plate.%04d.png", or one image.
        options: The options for reading it.

    Attributes:
        path: As given.
        info: Size, rate, colour and other properties of the source.
        average_rate: Frames per second over the whole; `info.rate` is the usual rate.
        limits: Limits of frame size and of lists of files.
        clock: Turns the file's times into those of the frames.
        notes: Sentences on what differs from the source or the options.

    Raises:
        InputError: If nothing can be read there, or the data is damaged.
    """

    def __init__(self, path: str | Path, options: ReadOptions | None = None) -> None:
        self.path, self._options = Path(path), options or ReadOptions()
        self.limits = self._options.limits
        self._images, self.notes = find_images(self.path, self._options.hold_gaps)
        given = self.path, self._options, self.notes
        self._source: ImageSource | VideoSource = (
            ImageSource(self._images, *given) if self._images else VideoSource(*given)
        )
        self.clock = self._source.clock
        self.info, self.average_rate = self._source.info, self._source.average_rate
        self._opening_notes = len(self.notes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def lazy_frames(self) -> Iterator[LazyFrame]:
        """Yield the same frames as iterating, but convert each only on request."""
        return self._source.lazy_frames()

    def __iter__(self) -> Iterator[Frame]:
        return self._source.frames()

    def close(self) -> None:
        """Release the file."""
        self._source.close()

    @property
    def damaged(self) -> dict[float, str]:
        """Damage that was passed over so far, by time [s].

        It is the name of an image, "" for a packet that could not be decoded, or
        "concealed" for one that was decoded although parts of it are missing.
        """
        return self._source.damaged

    @property
    def images(self) -> bool:
        """Whether the source is an image or a folder of images."""
        return bool(self._images)

    @property
    def late_notes(self) -> list[str]:
        """The notes that were added after opening."""
        return self.notes[self._opening_notes :]

    @property
    def labels(self) -> list[tuple[str, int | None]]:
        """Name and number of every frame of an image source; empty for a video."""
        return [(image.name, image.number) for image in self._images]

    def times(self) -> list[Fraction]:
        """Return when each frame is shown [s], whatever `start` and `end` are.

        Nothing is decoded if the file states the times; a damaged file may be wrong.

        Raises:
            InputError: If the file does not state them.
        """
        return self._source.times()
