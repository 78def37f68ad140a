"""RobustVideoMatting's readers and writers, built on those of `rematte.video`.

With them, programs written for its documentation run unchanged. New programs should use
`rematte.video`, which keeps exact times, sound and colour.
"""

import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from rematte.engines.tensors import to_pixels
from rematte.video.base_writer import Writer
from rematte.video.encoding import choose
from rematte.video.frame import Colour, Frame, VideoInfo
from rematte.video.image_writer import ImageWriter
from rematte.video.opening import open_input, read_packets
from rematte.video.reader import VideoReader as _Reader
from rematte.video.values import Rate, parse_rate
from rematte.video.writer import FileWriter

try:
    from PIL import Image
except ImportError:  # torchvision, whose transforms want its images, brings it along
    Image = None  # type: ignore[assignment]

Transform = Callable[[Any], Any]


class VideoReader(Dataset[Any]):
    """The frames of a video, or of an image folder, as a data set.

    Frames are decoded in order; an earlier index decodes again from the start.

    Args:
        path: A video file or a folder of images.
        transform: Called with each frame, for example torchvision's `ToTensor()`: a PIL
            image where Pillow is installed, else an (H, W, 3) array of 8-bit RGB. By
            default the frames themselves are given.

    Attributes:
        frame_rate: Average frames per second.
    """

    def __init__(self, path: str | Path, transform: Transform | None = None) -> None:
        self._path, self._transform = path, transform
        with _Reader(path) as reader:
            self.frame_rate = reader.average_rate
            self._length = reader.info.frames if reader.images else _count(Path(path))
        self._frames: Iterator[Frame] | None = None
        self._next = 0

    def __len__(self) -> int:
        return self._length or 0

    def __getitem__(self, index: int) -> Any:
        """Return the frame at an index, transformed."""
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)} in {self._path}")
        if self._frames is None or index < self._next:
            self._frames, self._next = iter(_Reader(self._path)), 0
        for frame in self._frames:
            self._next += 1
            if self._next > index:
                return self._give(frame)
        raise IndexError(f"{self._path} ends at frame {self._next}, not {len(self)}")

    def _give(self, frame: Frame) -> Any:
        pixels = frame.pixels
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        picture: Any = pixels if Image is None else Image.fromarray(pixels)
        return picture if self._transform is None else self._transform(picture)

    def __getstate__(self) -> dict[str, Any]:
        """A worker process of a `DataLoader` opens the file itself."""
        return {**self.__dict__, "_frames": None, "_next": 0}


class ImageSequenceReader(VideoReader):
    """The images of a folder, in natural order; see `VideoReader`."""


def _count(path: Path) -> int:
    """Count a video's frames by its packets, without decoding them."""
    with open_input(path) as container:
        packets = read_packets(container, container.streams.video[0])
        return sum(packet.size > 0 and not packet.is_discard for packet in packets)


class _TensorWriter:
    """Writes tensors as frames; the first one decides the size."""

    def __init__(
        self, path: Path, rate: Fraction, mbps: float | None, images: bool
    ) -> None:
        self._path, self._rate, self._mbps, self._images = path, rate, mbps, images
        self._writer: Writer | None = None
        self._finalizer: Any = None
        self._count = 0

    def _open(self, info: VideoInfo, channels: int) -> Writer:
        alpha, gray = (self._images and channels == count for count in (4, 1))
        encoding = choose(self._path, info, alpha=alpha, gray=gray, mbps=self._mbps)
        make = ImageWriter if self._images else FileWriter
        return make(self._path, info, encoding)

    def write(self, frames: Tensor) -> None:
        """Append frames, (T, C, H, W) in [0, 1].

        They are RGB or have one channel; images may be RGB with straight alpha, too.
        There may be more leading dimensions, as a `DataLoader` and the network give.
        """
        step = 1 / self._rate
        for image in frames.detach().reshape(-1, *frames.shape[-3:]):
            pixels = to_pixels(image, sixteen_bit=False)
            if self._writer is None:
                height, width, channels = pixels.shape
                info = VideoInfo(width, height, self._rate, step, Colour())
                self._writer = self._open(info, channels)
                # The documented example never closes its writer.
                self._finalizer = weakref.finalize(self, self._writer.finish)
            self._writer.write(Frame(pixels, self._count * step, step))
            self._count += 1

    def close(self) -> None:
        """Complete the output; else it is completed when the writer is collected."""
        if self._finalizer is not None:
            self._finalizer()


class VideoWriter(_TensorWriter):
    """Writes tensors to a video.

    Args:
        path: Its suffix decides the format.
        frame_rate: Frames per second, any kind of number.
        bit_rate: Bits per second to aim at.
    """

    def __init__(
        self, path: str | Path, frame_rate: Rate, bit_rate: int = 1_000_000
    ) -> None:
        super().__init__(Path(path), parse_rate(frame_rate), bit_rate / 1e6, False)


class ImageSequenceWriter(_TensorWriter):
    """Writes tensors to numbered images in a folder.

    Args:
        path: The folder, which is created if it does not exist.
        extension: The suffix of the images, such as "png" or "jpg".
    """

    def __init__(self, path: str | Path, extension: str = "png") -> None:
        super().__init__(Path(path) / f"%04d.{extension}", Fraction(30), None, True)
