"""Writes animated AVIF with Pillow, since FFmpeg's encoders here cannot write alpha."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from rematte.errors import OutputError
from rematte.video.base_writer import Writer
from rematte.video.encoding import Encoding
from rematte.video.frame import Frame, Pixels, VideoInfo
from rematte.video.notes import left_out_tracks, lost_aspect, lost_timecode
from rematte.video.output_paths import as_output_error
from rematte.video.pixels import extend_colours
from rematte.video.spare import Spare

_SPEED = 8  # libavif's speed, from 0 (slowest) to 10


class AvifWriter(Writer):
    """Saves the frames losslessly beside the output, and encodes them at the end.

    Raises:
        OutputError: If Pillow is missing or cannot write AVIF.
    """

    def __init__(self, path: Path, info: VideoInfo, encoding: Encoding) -> None:
        try:
            from PIL import Image, features

            able = features.check("avif")
        except ImportError:
            able = False
        if not able:
            raise OutputError(
                f"{path}: AVIF is written by Pillow 11.3 or newer, which is not "
                'installed; pip install "rematte[avif]", or write .webp'
            )
        super().__init__(path, encoding)
        self._encoding, self._image = encoding, Image
        self.notes += left_out_tracks(info, path)
        self.notes += lost_timecode(info, path) + lost_aspect(info, path)
        self._spare, self._completed = Spare(path, info), False

    def write(self, frame: Frame) -> None:
        """Save a frame for the encoding at the end."""
        self._spare.write(frame)

    def complete(self, end: Fraction | None = None) -> None:
        """Encode all frames."""
        frames = self._spare.frames
        if not frames:
            raise OutputError(f"{self.path}: no frames were given to write")
        if self._completed:
            return
        # Differences of rounded times [ms], so that errors do not accumulate.
        starts = [round((f.time - frames[0].time) * 1000) for f in frames]
        last = starts[-1] + max(1, round(frames[-1].duration * 1000))
        lengths = np.diff([*starts, last]).clip(1).tolist()
        pictures = self._pictures()
        first = self._image.fromarray(next(pictures))
        rest: Any = [_Later(first.mode, first.size, pictures) for _ in frames[1:]]
        with as_output_error(self.path):
            first.save(
                self.temporary, "AVIF", save_all=True, append_images=rest,
                duration=lengths, quality=100 - (self._encoding.crf or 0),
                # Chromium 156 treats full range as limited range in animations.
                subsampling="4:4:4", range="limited", speed=_SPEED,
            )  # fmt: skip
        self._spare.drop()
        self._completed = True

    def _pictures(self) -> Iterator[Pixels]:
        for frame in self._spare.read():
            pixels = frame.pixels
            if self._encoding.alpha:
                yield np.concatenate([extend_colours(pixels), pixels[..., 3:]], 2)
            else:
                yield np.ascontiguousarray(pixels[..., :3])

    def keep_partial(self) -> Path | None:
        """Encode the frames so far."""
        published = self._completed and not self.temporary.exists()
        if not self._spare.frames or published:
            self.discard()
            return None
        self.complete()
        with as_output_error(self.path):
            return self.temporary.replace(self._partial_path())

    def discard(self) -> None:
        """Remove the file and the saved frames."""
        self._spare.drop()
        self.temporary.unlink(missing_ok=True)


class _Later:
    """A lazily read picture, so that memory holds only one while Pillow encodes.

    It has the attributes and methods of an image that Pillow's encoder uses.
    """

    def __init__(
        self, mode: str, size: tuple[int, int], pictures: Iterator[Pixels]
    ) -> None:
        self.mode, self.size, self._pictures = mode, size, pictures

    def seek(self, index: int) -> None:
        if index:
            raise EOFError

    def tobytes(self, encoder: str, mode: str) -> bytes:
        return next(self._pictures).tobytes()
