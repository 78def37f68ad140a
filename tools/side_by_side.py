"""Draw a cut-out next to its source in one PNG.

    python tools/side_by_side.py SOURCE CUTOUT OUT.png [--times 1.0 4.0]

One row for each time: source, alpha, cut-out over a checkerboard, cut-out over
green. The cut-out is a video with alpha: ProRes 4444 (.mov) or VP9 (.webm).
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rematte.video.frame import Frame, Pixels
from rematte.video.pixels import with_depth
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.sheet import encode_picture, make_sheet, on_squares

GREEN = (120, 255, 155)


def decode(path: Path) -> Iterator[Frame]:
    """Yield the frames of a video in 8 bits, alpha kept."""
    with VideoReader(path, ReadOptions(alpha=True)) as reader:
        for frame in reader:
            yield frame.showing(with_depth(frame.pixels, False))


def frames_at(path: Path, times: Sequence[float]) -> list[Pixels]:
    """Find the pictures on screen at rising times [s] after the first frame."""
    found: list[Pixels] = []
    for frame in decode(path):
        # Half a millisecond of slack: containers round their time stamps.
        until = float(frame.time + frame.duration) - 0.0005
        while len(found) < len(times) and 0 <= times[len(found)] < until:
            found.append(frame.pixels)
        if len(found) == len(times):
            return found
    raise ValueError(f"{path}: no frame at {times[len(found)]:g} s")


def composite(rgba: Pixels, background: npt.ArrayLike) -> Pixels:
    """Lay a cut-out with straight alpha over a background."""
    alpha = rgba[..., 3:] / np.float32(255)
    mixed = rgba[..., :3] * alpha + np.asarray(background, np.float32) * (1 - alpha)
    return np.round(mixed).astype(np.uint8)


def compare(sources: Sequence[Pixels], cutouts: Sequence[Pixels]) -> Pixels:
    """Lay out one row of four pictures for each pair of frames."""
    return make_sheet([
        [
            source[..., :3],
            cutout[..., 3:],
            on_squares(cutout, max(1, cutout.shape[1] // 24)),
            composite(cutout, GREEN),
        ]
        for source, cutout in zip(sources, cutouts, strict=True)
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Show a cut-out next to its source.")
    parser.add_argument("source", type=Path, help="the video that was cut out")
    parser.add_argument("cutout", type=Path, help="the cut-out, a video with alpha")
    parser.add_argument("output", type=Path, help="the PNG file to write")
    parser.add_argument(
        "--times", type=float, nargs="+", default=[1.0, 4.0], help="seconds, one a row"
    )
    args = parser.parse_args()
    times = sorted(args.times)
    try:
        sources = frames_at(args.source, times)
        cutouts = frames_at(args.cutout, times)
        if cutouts[0].shape[2] < 4:
            raise ValueError(f"{args.cutout}: this video has no alpha")
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_bytes(encode_picture(compare(sources, cutouts), ".png"))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
