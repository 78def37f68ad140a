"""Reads the frames of an image, a folder of images or a numbered sequence."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av

from rematte.errors import InputError
from rematte.video import exr
from rematte.video.colour import frame_colour, frame_depth, to_rgb
from rematte.video.frame import Frame, LazyFrame, VideoInfo
from rematte.video.images import ImageFrame, decode_image, describe_gaps, read_header
from rematte.video.read_options import ReadOptions
from rematte.video.timecode import Timecode, find_timecode
from rematte.video.transparency import (
    note_ignored_alpha,
    source_alpha,
    unpremultiply,
)
from rematte.video.upright import Upright


class ImageSource:
    """The frames of images, in order.

    `notes` receives sentences on what differs from the source, and `damaged` the names
    of damaged images by time [s].

    Attributes:
        info: Size, rate and colour.
        average_rate: Frames per second.

    Raises:
        InputError: If no image can be read.
    """

    def __init__(
        self,
        path: Path,
        images: Sequence[ImageFrame],
        options: ReadOptions,
        notes: list[str],
        damaged: dict[float, str],
    ) -> None:
        self._images, self._options = images, options
        self._notes, self._damaged = notes, damaged
        self.info = self._read_info(path)
        self.average_rate = self.info.rate
        start, end = options.start or 0, options.end
        self._first = int(start * self.info.rate)
        stop = None if end is None else -int(-end // self.info.time_base)
        gaps = describe_gaps(images[self._first : stop])
        notes += [gaps] if gaps else []

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def times(self) -> list[Fraction]:
        """Return the time at which each frame is shown [s]."""
        return [index * self.info.time_base for index in range(len(self._images))]

    def frames(self) -> Iterator[Frame]:
        """Read all frames from `start` on; a damaged one repeats its nearest."""
        last: Frame | None = None
        for index, frame in enumerate(self._decode(), self._first):
            if isinstance(frame, InputError):
                image = self._images[index]
                last = self._nearest(index, frame) if last is None else last
                shown = index * self.info.time_base
                frame = replace(last, time=shown, name=image.name, number=image.number)
                self._damaged[float(shown)] = image.file.name
            last = frame
            yield frame

    def lazy_frames(self) -> Iterator[LazyFrame]:
        """Yield the frames from `start` on, and decode each only on request."""
        for index, image in enumerate(self._images[self._first :], self._first):
            yield LazyFrame(
                index * self.info.time_base, partial(self._convert, index, image)
            )

    def _convert(self, index: int, image: ImageFrame, size: tuple[int, int]) -> Frame:
        frame = self._read(index, image, size)
        return self._nearest(index, frame) if isinstance(frame, InputError) else frame

    def _read_info(self, path: Path) -> VideoInfo:
        options = self._options
        first, upright = self._first_readable()
        note_ignored_alpha(first, options.input_alpha, self._notes)
        width, height = options.size or upright.size(first.width, first.height)
        header = read_header(self._images[0].file)
        rate = options.frame_rate or exr.read_rate(header) or Fraction(30)
        text = exr.read_timecode(header, rate) or find_timecode([first])
        return VideoInfo(
            width,
            height,
            rate=rate,
            time_base=1 / rate,
            colour=frame_colour(first),
            depth=frame_depth(first),
            sample_aspect_ratio=upright.pixel_aspect(options.size, options.fit),
            timecode=Timecode.parse(text, rate, Fraction(0)) if text else None,
            frames=len(self._images),
            still=self._images[0].file == path,
        )

    def _first_readable(self) -> tuple[av.VideoFrame, Upright]:
        for image in self._images:
            try:
                return decode_image(image.file, self._options.limits)
            except InputError:
                if not self._options.ignore_errors or image is self._images[-1]:
                    raise
        raise AssertionError  # there is at least one image

    def _nearest(self, index: int, error: InputError) -> Frame:
        """Return the nearest image that can be decoded, an earlier one if possible."""
        later = range(index + 1, len(self._images))
        for other in itertools.chain(reversed(range(index)), later):
            frame = self._read(other, self._images[other])
            if isinstance(frame, Frame):
                return frame
        raise error

    def _decode(self) -> Iterator[Frame | InputError]:
        threads = self._options.threads
        images = list(enumerate(self._images))[self._first :]
        if not threads:
            yield from itertools.starmap(self._read, images)
            return
        with ThreadPoolExecutor(threads) as pool:
            ahead: deque[Future[Frame | InputError]] = deque()
            for index, image in images:
                ahead.append(pool.submit(self._read, index, image))
                if len(ahead) > 2 * threads:  # so that memory is bounded
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _read(
        self, index: int, image: ImageFrame, size: tuple[int, int] | None = None
    ) -> Frame | InputError:
        options, info = self._options, self.info
        try:
            picture, upright = decode_image(image.file, options.limits, self._notes)
        except InputError as error:
            if options.ignore_errors:
                return error
            raise
        if options.needs_alpha:
            picture = unpremultiply(picture)
        outer = size or options.size
        coded = picture.width, picture.height
        fitting = upright.fitting(coded, outer, options.fit)
        size = upright.size(*fitting.inner) if outer else None
        # A folder may mix formats, so each image is read by its own tags.
        colour = frame_colour(picture)
        pixels = to_rgb(picture, colour, info.depth, size, options.alpha)
        alpha = None
        if options.input_alpha == "multiply":
            alpha = source_alpha(picture, info.depth, size, upright, self._notes)
        step = info.time_base
        shown = upright.apply(pixels), index * step, step
        return fitting.place(Frame(*shown, image.name, image.number, alpha))
