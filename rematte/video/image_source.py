"""Reads the frames of an image, a folder of images or a numbered sequence."""

import itertools
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from rematte.errors import InputError
from rematte.video import exr, opening
from rematte.video.clock import Clock
from rematte.video.colour import frame_colour, frame_depth, to_rgb
from rematte.video.fitting import Upright, place
from rematte.video.frame import (
    RANGE_FULL,
    TRANSFER_LINEAR,
    TRANSFER_SRGB,
    UNSPECIFIED,
    Frame,
    LazyFrame,
    VideoInfo,
)
from rematte.video.images import (
    HEADER,
    ImageFrame,
    describe_gaps,
    is_animated,
    is_image,
)
from rematte.video.notes import add_note
from rematte.video.pixels import plane_values, views
from rematte.video.read_options import ReadOptions
from rematte.video.timecode import Timecode, find_timecode
from rematte.video.tone import encode_srgb
from rematte.video.transparency import note_ignored_alpha, source_alpha

# Makes the decoder of JPEG fail where parts of an image are missing.
_STRICT = {"err_detect": "explode"}
# The shape of pixels that an image states is taken up to here, width to height.
_MOST_UNEVEN = Fraction(4)
# What stands for infinite light, the largest half float.
_MOST_LIGHT = 65504.0
# Limit on the directories of a TIFF that are looked at, since they may form a ring.
_MOST_PAGES = 8


class ImageSource:
    """The frames of images, in order; attributes are those of `VideoReader`.

    Raises:
        InputError: If no image can be read.
    """

    def __init__(
        self, images: Sequence[ImageFrame], path: Path, options: ReadOptions,
        notes: list[str],
    ) -> None:  # fmt: skip
        self.clock = Clock()
        self._images, self._options = images, options
        self._notes = notes
        self.damaged: dict[float, str] = {}
        self.info = self._read_info(path)
        self.average_rate = self.info.rate
        start, end = options.start or 0, options.end
        stop = None if end is None else -int(-end // self.info.time_base)
        self._wanted = range(len(images))[int(start * self.info.rate) : stop]
        gaps = describe_gaps([images[index] for index in self._wanted])
        notes += [gaps] if gaps else []

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def times(self) -> list[Fraction]:
        """Return the time at which each frame is shown [s]."""
        return [index * self.info.time_base for index in range(len(self._images))]

    def frames(self) -> Iterator[Frame]:
        """Read the frames from `start` to `end`; a damaged one repeats its nearest."""
        last: Frame | None = None
        for index, frame in zip(self._wanted, self._decode(), strict=True):
            if isinstance(frame, InputError):
                image = self._images[index]
                last = self._nearest(index, frame) if last is None else last
                shown = index * self.info.time_base
                frame = replace(last, time=shown, name=image.name, number=image.number)
                self.damaged[float(shown)] = image.file.name
            last = frame
            yield frame

    def lazy_frames(self) -> Iterator[LazyFrame]:
        """Yield the frames from `start` to `end`, and decode each only on request."""
        for index in self._wanted:
            yield LazyFrame(index * self.info.time_base, partial(self._convert, index))

    def _convert(self, index: int, size: tuple[int, int]) -> Frame:
        frame = self._read(index, size)
        return self._nearest(index, frame) if isinstance(frame, InputError) else frame

    def _read_info(self, path: Path) -> VideoInfo:
        options = self._options
        first, upright = self._first_readable()
        note_ignored_alpha(first, options.input_alpha, self._notes)
        width, height = options.size or upright.size(first.width, first.height)
        header = _read_header(self._images[0].file)
        rate = options.frame_rate or exr.read_rate(header) or Fraction(30)
        text = exr.read_timecode(header, rate) or find_timecode([first])
        return VideoInfo(
            width, height, rate=rate, time_base=1 / rate, colour=frame_colour(first),
            depth=frame_depth(first),
            sample_aspect_ratio=upright.pixel_aspect(options.size, options.fit),
            timecode=Timecode.parse(text, rate, Fraction(0)) if text else None,
            frames=len(self._images), still=self._images[0].file == path,
        )  # fmt: skip

    def _first_readable(self) -> tuple[av.VideoFrame, Upright]:
        options = self._options
        tried = self._images if options.ignore_errors else self._images[:1]
        for image in tried[:-1]:
            with suppress(InputError):
                return decode_image(image.file, options.limits, [])
        return decode_image(tried[-1].file, options.limits, [])

    def _nearest(self, index: int, error: InputError) -> Frame:
        """Return the nearest image that can be decoded, an earlier one if possible."""
        later = range(index + 1, len(self._images))
        for other in itertools.chain(reversed(range(index)), later):
            frame = self._read(other)
            if isinstance(frame, Frame):
                return frame
        raise error

    def _decode(self) -> Iterator[Frame | InputError]:
        threads = self._options.threads
        if not threads:
            yield from map(self._read, self._wanted)
            return
        with ThreadPoolExecutor(threads) as pool:
            ahead: deque[Future[Frame | InputError]] = deque()
            for index in self._wanted:
                ahead.append(pool.submit(self._read, index))
                if len(ahead) > 2 * threads:  # so that memory is bounded
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _read(
        self, index: int, size: tuple[int, int] | None = None
    ) -> Frame | InputError:
        image, options, info = self._images[index], self._options, self.info
        try:
            picture, upright = decode_image(
                image.file, options.limits, self._notes, options.needs_alpha
            )
        except InputError as error:
            if options.ignore_errors:
                return error
            raise
        outer = size or options.size
        coded = picture.width, picture.height
        size = upright.scaled_size(coded, outer, options.fit) if outer else None
        # A folder may mix formats, so each image is read by its own tags.
        colour = frame_colour(picture)
        pixels = to_rgb(picture, colour, info.depth, size, options.alpha)
        alpha = None
        if options.input_alpha == "multiply":
            alpha = source_alpha(picture, info.depth, size, upright, self._notes)
        step = info.time_base
        shown = upright.apply(pixels), index * step, step
        return place(Frame(*shown, image.name, image.number, alpha), outer)


def decode_image(
    path: Path,
    limits: opening.Limits,
    notes: list[str],
    straight: bool = False,
    strict: bool = True,
) -> tuple[av.VideoFrame, Upright]:
    """Decode one image; returns the frame and how to turn it upright.

    `notes` receives notes on ignored parts of the file. With `straight`, colours that
    OpenEXR holds multiplied by alpha are made straight. A damaged JPEG is decoded as
    far as possible, with a note, by a second attempt that is not `strict`.

    Raises:
        InputError: If it cannot be read.
    """
    pages = "only the first of its pages is read, as for every image with several"
    noted = any(pages in note for note in notes)
    options: dict[str, str] = {}
    try:
        if not noted and (_has_pages(path) or is_animated(path)):
            notes.append(f"{path.name}: {pages}")
        if _is_exr(path):
            if exr.is_cut_off(path):
                raise InputError(
                    f"{path}: cut off: rows are missing; render or copy it again"
                )
            if layer := exr.find_layer(_read_header(path)):
                options["layer"] = layer
                add_note(notes, f"the layer {layer} is read")
        with opening.open_input(path, limits=limits, notes=notes) as container:
            stream = opening.video_stream(container, path, limits)
            if strict and stream.codec_context.name == "mjpeg":
                options |= _STRICT
            stream.codec_context.options |= options
            frame = next(container.decode(stream))
            note_ignored_alpha(frame, "multiply", notes, stream)
            name, aspect = stream.codec_context.name, stream.sample_aspect_ratio
            if aspect and not 1 / _MOST_UNEVEN <= aspect <= _MOST_UNEVEN:
                aspect = None  # such as 1:1080, which some programs write into PNG
            if name == "dpx":
                # Its values are taken as they are: full range, and not linear light,
                # which most programs state whatever they write.
                frame.color_range, frame.color_trc = RANGE_FULL, UNSPECIFIED
            return _encode_light(frame, straight), Upright(frame, aspect)
    except (av.error.FFmpegError, OSError, StopIteration) as error:
        if _STRICT.items() <= options.items():
            decoded = decode_image(path, limits, notes, straight, strict=False)
            add_note(
                notes,
                f"{path.name}: cut off or damaged; it is decoded as far as possible",
            )
            return decoded
        raise InputError(f"{path}: {opening.why_unreadable(path)}") from error


def _encode_light(frame: av.VideoFrame, straight: bool) -> av.VideoFrame:
    """Give the floats of an OpenEXR image the sRGB curve; other frames stay.

    They are scene-linear light, which is no input for a network that was trained on
    display-encoded pictures. With `straight`, it is divided by alpha, but for light
    that covers nothing, such as a glow, where alpha is 0.

    Source:
        OpenEXR, Technical Introduction, on alpha.
    """
    name = frame.format.name
    if frame.color_trc != TRANSFER_LINEAR or not ("f16" in name or "f32" in name):
        return frame
    planes = views(frame)
    if name.startswith("ya"):  # gray and alpha in turns
        values = plane_values(frame, 0)[: frame.height, : 2 * frame.width]
        planes = [values[:, ::2], values[:, 1::2]]
    if len(planes) < 3:
        planes = planes[:1] * 2 + planes
    green, blue, red, *alpha = planes
    light = np.stack([red, green, blue], 2)
    pixels = np.dstack([_encode(light), *alpha]).astype(np.float32, copy=False)
    for cover in alpha if straight else ():
        part = (cover > 0) & (cover < 1)
        pixels[part, :3] = _encode(light[part] / cover[part, None].astype(np.float32))
    made = av.VideoFrame.from_ndarray(pixels, "gbrapf32le" if alpha else "gbrpf32le")
    made.color_trc, made.color_primaries = TRANSFER_SRGB, frame.color_primaries
    return made


def _encode(light: NDArray[Any]) -> NDArray[Any]:
    """Encode light by the sRGB curve; half floats by a table, which takes less time."""
    if light.dtype == np.float16:
        return _encoded_halves()[light.view(np.uint16)]
    return encode_srgb(np.nan_to_num(light, posinf=_MOST_LIGHT, neginf=0))


@cache
def _encoded_halves() -> NDArray[Any]:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    return _encode(halves.astype(np.float32))


def _is_exr(path: Path) -> bool:
    if is_image(path):
        return path.suffix.lower() == ".exr"
    with path.open("rb") as file:
        return file.read(4) == exr.MAGIC


def _read_header(path: Path) -> dict[str, bytes]:
    """Return the header attributes of an OpenEXR image; empty for other images."""
    if not _is_exr(path):
        return {}
    with path.open("rb") as file:
        return exr.read_attributes(file.read(HEADER))


def _has_pages(path: Path) -> bool:
    """Whether a TIFF holds more pages than the first, besides smaller copies of it.

    Source:
        TIFF 6.0, section 2 (header and directories) and NewSubfileType, of which 1 is
        a reduced copy.
    """
    with suppress(OSError, struct.error), path.open("rb") as file:
        head = file.read(8)
        if not head.startswith(opening.TIFF_STARTS):
            return False
        order = "<" if head[:1] == b"I" else ">"
        (at,) = struct.unpack(f"{order}I", head[4:])
        for page in range(_MOST_PAGES):
            file.seek(at)
            (count,) = struct.unpack(f"{order}H", file.read(2))
            entries = [*struct.iter_unpack(f"{order}HHII", file.read(12 * count))]
            small = any(tag == 254 and kind & 1 for tag, _, _, kind in entries)
            if page and entries and not small:
                return True
            (at,) = struct.unpack(f"{order}I", file.read(4))
            if not at:
                break
    return False
