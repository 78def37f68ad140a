"""Raw video in pipes: frames one after the other, without a header.

FFmpeg reads and writes it as `-f rawvideo -pix_fmt rgb24 -video_size WxH`.
"""

from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rematte.errors import InputError
from rematte.video.encoding import choose
from rematte.video.frame import Colour, Frame, VideoInfo
from rematte.video.opening import open_input, video_stream
from rematte.video.writer import FileWriter

# The pixel formats of raw outputs, by FFmpeg's names, with 8 bits a channel.
RAW_FORMATS = ("rgb24", "rgba", "gray")


def save_raw(
    pipe: BinaryIO, name: str, path: Path, size: tuple[int, int], rate: Fraction
) -> None:
    """Save raw RGB24 video losslessly in a file that can be read more than once.

    `size` is its width and height [pixels]. The suffix of `path` is that of a container
    for FFV1, and errors call the pipe `name`.

    Raises:
        InputError: If no frame comes, or the last one is cut off.
        OutputError: If the file cannot be written.
    """
    width, height = size
    info = VideoInfo(width, height, rate, 1 / rate, Colour())
    writer = FileWriter(path, info, choose(path, info, alpha=False, codec="ffv1"))
    length, count = width * height * 3, 0
    try:
        while content := pipe.read(length):
            if len(content) < length:
                raise InputError(
                    f"{name}: frame {count} has {len(content)} of {length} bytes; the "
                    f"input must be rgb24 of {width}x{height} pixels (--raw-input)"
                )
            pixels = np.frombuffer(content, np.uint8).reshape(height, width, 3)
            writer.write(Frame(pixels, count / rate, 1 / rate))
            count += 1
        if not count:
            raise InputError(f"{name}: no frame came; send rgb24 video into it")
        writer.finish()
    except BaseException:
        writer.discard()
        raise


def send_raw(path: Path, pipe: BinaryIO, pixel_format: str) -> None:
    """Decode a file and write its frames as raw video, in one of `RAW_FORMATS`."""
    with open_input(path) as container:
        for frame in container.decode(video_stream(container, path).index):
            pipe.write(frame.to_ndarray(format=pixel_format).tobytes())
