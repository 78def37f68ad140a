"""Writes each frame as an image: one file, or numbered files in a folder.

Images appear under their final names only when all of them are complete.
"""

import os
import shutil
import struct
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from rematte.video import exr
from rematte.video.base_writer import Writer
from rematte.video.codecs import is_sequence, pattern_of
from rematte.video.colour import from_rgb
from rematte.video.encoding import Encoding
from rematte.video.frame import (
    MATRIX_BT601,
    RANGE_FULL,
    SDR,
    Frame,
    Pixels,
    VideoInfo,
)
from rematte.video.images import natural_key
from rematte.video.notes import left_out_tracks, lost_aspect, lost_timecode
from rematte.video.output_paths import (
    as_output_error,
    image_folder,
    image_name,
    real_path,
    shorten,
    temporary_path,
)
from rematte.video.pixels import premultiply
from rematte.video.tone import chromaticities, decode_srgb, to_light

# Images that are encoded at once, each by a thread.
_AT_ONCE = min(4, os.cpu_count() or 1)


class ImageWriter(Writer):
    """Writes each frame as an image, some of them side by side.

    The path is that of a single image, a folder, or a pattern such as "out/%04d.png".
    In a folder, images keep the stems of the source's images, or are numbered from
    0000. `start` is the number of the first image, as for `image_name`.

    Raises:
        OutputError: If nothing can be created there.
    """

    def __init__(
        self, path: Path, info: VideoInfo, encoding: Encoding, start: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(path, encoding)
        self._info, self._encoding, self._start = info, encoding, start
        if encoding.codec.encoder != "exr":
            self.notes += lost_timecode(info, path)
        elif info.timecode is not None and not exr.can_hold(info.timecode):
            self.notes += lost_timecode(info, path, "cannot count so many")
        if not encoding.codec.keeps_aspect:
            self.notes += lost_aspect(info, path)
        self.notes += left_out_tracks(info, path)
        self._single = not is_sequence(path)
        folder = real_path(path).parent if self._single else image_folder(path)
        self._folder = real_path(folder)
        self._suffix = path.suffix if pattern_of(path) else ".png"
        self._count = 0
        self._moves: list[tuple[Path, str]] = []
        self._threads = ThreadPoolExecutor(_AT_ONCE, "rematte-images")
        self._pending: deque[Future[None]] = deque()
        # On the same disk as the final folder, which may not exist yet.
        inside = self._single or self._folder.is_dir()
        parent = self._folder if inside else self._folder.parent
        # Named after both, since several outputs may share either.
        self.temporary = temporary_path(parent / f"{self._folder.name}-{path.name}")
        with as_output_error(path):
            self.temporary.mkdir()

    def _name(self, frame: Frame) -> str:
        if self._single:
            return real_path(self.path).name
        return image_name(self.path, self._count, frame.name, frame.number, self._start)

    def append(self, folder: Path, frames: Sequence[Frame]) -> None:
        """Append images that are written already, named "%06d" with their suffix.

        They are moved when the output is published. Missing ones were moved by an
        earlier run that was stopped before it was complete. Pixels of the frames are
        not used.
        """
        for index, frame in enumerate(frames):
            source = folder / f"{index:06d}{self._suffix}"
            self._moves.append((source, self._name(frame)))
            self._count += 1

    def write(self, frame: Frame) -> None:
        """Write one image, of any size; errors may be those of images before it."""
        target = self.temporary / self._name(frame)
        self._count += 1
        self._wait(_AT_ONCE - 1)
        self._pending.append(self._threads.submit(self._encode, frame, target))

    def _encode(self, frame: Frame, target: Path) -> None:
        target.write_bytes(encode_image(frame, self._info, self._encoding))

    def _wait(self, most: int) -> None:
        """Wait until at most so many images are still being written."""
        with as_output_error(self.path):
            while len(self._pending) > most:
                self._pending.popleft().result()

    def complete(self, end: Fraction | None = None) -> None:
        """Wait until all images are written."""
        self._wait(0)
        self._threads.shutdown()

    def publish(self) -> None:
        """Move the images to their final names."""
        with as_output_error(self.path):
            self._note_others()
        self._move(self._folder)

    def _note_others(self) -> None:
        """Note images of an earlier run that stay in the folder."""
        if self._single or not self._folder.is_dir():
            return
        written = {name for _, name in self._moves}
        written.update(file.name for file in self.temporary.iterdir())
        pattern = pattern_of(self.path)
        others = [
            file.name
            for file in self._folder.iterdir()
            if file.name not in written
            and not file.name.startswith(".")
            and (pattern.digits_in(file.name) if pattern else file.suffix == ".png")
        ]
        if others:
            others.sort(key=natural_key)
            span = f"{others[0]} to {others[-1]}" if len(others) > 1 else others[0]
            self.notes.append(
                f"{self._folder} still holds {len(others)} of its earlier images "
                f"({span}), which are not of this run"
            )

    def _move(self, folder: Path) -> None:
        with as_output_error(self.path):
            folder.mkdir(exist_ok=True)
            for source, name in self._moves:
                if source.exists():
                    shutil.move(source, real_path(folder / name))
            for file in sorted(self.temporary.iterdir()):
                shutil.move(file, real_path(folder / file.name))
            self.temporary.rmdir()

    def keep_partial(self) -> Path | None:
        """Move the images so far to a folder."""
        self.complete()
        if not self._count or not self.temporary.exists():  # no image yet, or published
            self.discard()
            return None
        target = self._folder.with_name(f"{shorten(self._folder.name)}.partial")
        if self.temporary.parent == self._folder:
            target = self._folder / "partial"
        self._move(target)  # which other outputs in the same folder may share
        return target

    def discard(self) -> None:
        """Remove all images that were written."""
        wait(self._pending)
        self._threads.shutdown()
        shutil.rmtree(self.temporary, ignore_errors=True)


def encode_image(frame: Frame, info: VideoInfo, encoding: Encoding) -> bytes:
    """Make an image file of a frame."""
    image = _encode(frame.pixels, info, encoding)
    if encoding.codec.encoder != "exr":
        return image
    points: tuple[tuple[float, float], ...] = ()
    if frame.pixels.shape[2] > 1:  # a matte has no colours
        points = chromaticities(encoding.colour if encoding.colour.sdr else SDR)
    code = info.timecode and info.timecode.at(frame.time)
    rate = code.rate if code else None if info.still else info.rate
    return exr.with_attributes(image, exr.make_attributes(points, rate, code))


def _encode(pixels: Pixels, info: VideoInfo, encoding: Encoding) -> bytes:
    """Encode one image; these encoders give a whole file as one packet."""
    height, width = pixels.shape[:2]
    if encoding.pixel_format.endswith("f32le"):
        picture = _linear(pixels, encoding)
    else:
        # JPEG is the only YUV format among the images; JFIF defines it as BT.601.
        colour = replace(encoding.colour, matrix=MATRIX_BT601, range=RANGE_FULL)
        pixels = premultiply(pixels) if encoding.premultiplied else pixels
        picture = from_rgb(pixels, encoding.pixel_format, colour)
    context: Any = av.CodecContext.create(encoding.codec.encoder, "w")
    context.width, context.height = width, height
    context.pix_fmt = encoding.pixel_format
    context.sample_aspect_ratio = info.sample_aspect_ratio
    context.time_base = Fraction(1, 25)
    context.options = encoding.options
    picture.pts = 0
    packets = [*context.encode(picture), *context.encode(None)]
    image = b"".join(bytes(packet) for packet in packets)
    if encoding.premultiplied and encoding.codec.encoder == "tiff":
        (directory,) = struct.unpack_from("<I", image, 4)
        return image[:directory] + image[directory:].replace(_STRAIGHT, _ASSOCIATED, 1)
    return image


# The entry ExtraSamples (338) of a TIFF's directory, as FFmpeg writes it: one value,
# which is 2 where colours are straight and 1 where they are multiplied by alpha.
_STRAIGHT, _ASSOCIATED = (struct.pack("<HHII", 338, 3, 1, kind) for kind in (2, 1))


def _linear(pixels: Pixels, encoding: Encoding) -> av.VideoFrame:
    """Convert to scene-linear floats, as compositors expect of OpenEXR.

    1 is reference white. HDR gets the primaries of BT.709, so that colours outside of
    that gamut have negative values; SDR keeps its own.

    Source:
        OpenEXR, Technical Introduction, on alpha.
    """
    colour = encoding.colour
    value = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    if value.shape[2] == 1:
        value = value.repeat(3, 2)  # a matte is coverage, not light
    else:
        if colour.sdr:
            value[..., :3] = decode_srgb(value[..., :3])
        else:
            value[..., :3] = to_light(pixels[..., :3], colour)
        if encoding.premultiplied:
            value[..., :3] *= value[..., 3:]
    array: Any = np.ascontiguousarray(value)
    # FFmpeg cuts off the 13 bits that half floats lack; half of the last bit that stays
    # makes it round to the nearest.
    bits = array.view(np.uint32)
    bits += np.uint32(1 << 12)
    return av.VideoFrame.from_ndarray(array, encoding.pixel_format)
