"""Compare the alpha of every engine with the float32 network, frame by frame.

    python benchmarks/engine_accuracy.py CLIP [CLIP ...] [--frames 200] [--ratio 0.25]

The recurrent state accumulates errors, so their growth matters. The table gives the
mean absolute difference over all frames, over frames 11 to 30 and over the last 20, and
the 99.9th percentile of all pixels, in levels of 1/255. Alpha is compared in 8 bits, as
it is written. Since frames differ in difficulty, "cold" is the mean of the same last
frames if both runs start 15 frames before them; the excess over it was accumulated
earlier.
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rematte.engines.choose import choose_engine
from rematte.engines.tensors import to_pixels
from rematte.errors import end
from rematte.matting.loop import choose_ratio, matte, run
from rematte.network.matting_network import MattingNetwork
from rematte.video.reader import VideoReader
from rematte.weights.load import load_network

LEVELS = 256
LAST, LEAD = 20, 15  # frames


def histograms(
    network: MattingNetwork, name: str, clip: Path, ratio: float, frames: range
) -> NDArray[np.int64]:
    """How often each difference occurs, (frames, 256)."""
    found, ends = [], (frames.start, frames.stop)
    with VideoReader(clip) as left, VideoReader(clip) as right:
        plain = matte(network, islice(left, *ends), downsample_ratio=ratio)
        engine = choose_engine(network, engine=name)
        fast = run(engine, islice(right, *ends), downsample_ratio=ratio)
        for true, mine in zip(plain, fast, strict=True):
            alpha = to_pixels(true.pha, False).astype(int)
            difference = np.abs(mine.pixels("alpha", False) - alpha)
            found.append(np.bincount(difference.ravel(), minlength=LEVELS))
    return np.array(found)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare engines with the network.")
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--ratio", type=float, help="default: longer side 512")
    parser.add_argument("--weights", help="name or file (default: bundled)")
    parser.add_argument(
        "--engines", nargs="+", default=["openvino", "openvino-float32"]
    )
    options = parser.parse_args()
    network = load_network(options.weights)
    print("| clip | ratio | engine | mean | 99.9% | frames 11-30 | last 20 | cold |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    levels = np.arange(LEVELS)
    for clip in options.clips:
        with VideoReader(clip) as reader:
            size = reader.info.width, reader.info.height
        ratio = choose_ratio(*size, options.ratio)
        for name in options.engines:
            counts = histograms(network, name, clip, ratio, range(options.frames))
            share = np.cumsum(counts.sum(0)) / counts.sum()
            most = int(np.searchsorted(share, 0.999))
            late = range(max(0, len(counts) - LAST - LEAD), len(counts))
            cold = histograms(network, name, clip, ratio, late)
            parts = counts[10:30], counts[-LAST:], cold[-LAST:]
            means = [part.sum(0) @ levels / max(part.sum(), 1) for part in parts]
            print(
                f"| {clip.stem} {size[0]}x{size[1]} | {ratio:.3g} | {name} | "
                f"{counts.sum(0) @ levels / counts.sum():.4f} | {most} | "
                f"{' | '.join(f'{mean:.4f}' for mean in means)} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    end(main)
