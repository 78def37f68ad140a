"""Draw a cut-out next to its source in one PNG.

    python tools/side_by_side.py SOURCE CUTOUT OUT.png [--times 1.0 4.0]

One row for each time: source, alpha, cut-out over a checkerboard, cut-out over
green. The cut-out is a video with alpha: ProRes 4444 (.mov) or VP9 (.webm).
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation

from rematte.video.sheet import encode_picture, make_sheet, on_squares

GREEN = (120, 255, 155)

Picture = npt.NDArray[np.uint8]


def decode(path: Path) -> Iterator[av.VideoFrame]:
    """Yield the frames of a file's first video stream, alpha kept.

    Args:
        path: The video file.

    Raises:
        ValueError: If the file has no video.
    """
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"{path}: no video in this file")
        stream = container.streams.video[0]
        if stream.codec_context.codec.canonical_name != "vp9":
            yield from container.decode(stream)
            return
        # FFmpeg's own VP9 decoder drops the alpha; libvpx keeps it.
        decoder = av.VideoCodecContext.create("libvpx-vp9", "r")
        for packet in container.demux(stream):
            yield from decoder.decode(packet)


def frames_at(path: Path, times: Sequence[float]) -> list[av.VideoFrame]:
    """Find the frames on screen at the given times.

    Args:
        path: The video file.
        times: Seconds after the first frame, in rising order.

    Returns:
        One frame for each time.

    Raises:
        ValueError: If a time is before the start or past the end.
    """
    if times[0] < 0:
        raise ValueError(f"{path}: no frame at {times[0]:g} s")
    found: list[av.VideoFrame] = []
    first = 0.0
    shown: av.VideoFrame | None = None
    for frame in decode(path):
        if shown is None:
            first, shown = frame.time, frame
        # Half a millisecond of slack: containers round their time stamps.
        now = frame.time - first - 0.0005
        while len(found) < len(times) and times[len(found)] < now:
            found.append(shown)
        if len(found) == len(times):
            return found
        shown = frame
    # The last frame stays up for its own duration.
    if shown is not None:
        end = shown.time - first + float(shown.duration * (shown.time_base or 0))
        found += [shown for time in times[len(found) :] if time <= end]
    if len(found) < len(times):
        raise ValueError(f"{path}: no frame at {times[len(found)]:g} s")
    return found


def to_rgba(frame: av.VideoFrame) -> Picture:
    """Return a frame as H x W x 4 RGBA, turned upright."""
    # Without the last two flags the conversion darkens the picture by a level or two.
    flags = (
        Interpolation.BICUBIC
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INT
    )
    rgba = cast(Picture, frame.to_ndarray(format="rgba", interpolation=flags))
    # The stored turn is counter-clockwise, as np.rot90's is.
    return np.rot90(rgba, round(frame.rotation / 90))


def composite(rgba: Picture, background: npt.ArrayLike) -> Picture:
    """Lay a cut-out with straight alpha over a background."""
    alpha = rgba[..., 3:] / np.float32(255)
    mixed = rgba[..., :3] * alpha + np.asarray(background, np.float32) * (1 - alpha)
    return np.round(mixed).astype(np.uint8)


def compare(
    sources: Sequence[av.VideoFrame], cutouts: Sequence[av.VideoFrame]
) -> Picture:
    """Lay out one row of four pictures for each pair of frames.

    Args:
        sources: Frames of the source video.
        cutouts: Frames of the cut-out at the same times.

    Returns:
        The sheet as H x W x 3 RGB.
    """
    rows = []
    for source, frame in zip(sources, cutouts, strict=True):
        cutout = to_rgba(frame)
        side = max(1, cutout.shape[1] // 24)
        rows.append(
            [
                to_rgba(source)[..., :3],
                cutout[..., 3:],
                on_squares(cutout, side),
                composite(cutout, GREEN),
            ]
        )
    return cast(Picture, make_sheet(rows))


def write_png(path: Path, picture: Picture) -> None:
    """Write an RGB picture as a PNG file.

    Args:
        path: The file to write; its folder is made when missing.
        picture: H x W x 3 RGB.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_picture(picture, ".png"))


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
        if not any(part.is_alpha for part in cutouts[0].format.components):
            raise ValueError(f"{args.cutout}: this video has no alpha")
        write_png(args.output, compare(sources, cutouts))
    except (OSError, ValueError, av.FFmpegError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
