"""Measure how far the first frames are from a settled run, for each kind of warm-up.

    python benchmarks/warmup_table.py CLIP [CLIP ...] [--side 224] [--after CLIP]

A settled run has seen the first 30 frames forwards and then backwards. It is compared
with an empty state, the state after another clip (`--after`, as at a cut without
warm-up), the first frame shown 8 times, and the first 4, 8 and 15 frames shown
backwards. The table gives the mean difference of alpha in levels of 1/255, at the first
frame and over the first 15. A second settled run saw only the 30 frames backwards; if
the two differ, the clip has more than one stable result.
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rematte.engines.choose import CPU_ENGINES, choose_engine
from rematte.engines.engine import Engine, State
from rematte.errors import end
from rematte.matting.loop import choose_ratio
from rematte.video.frame import Frame
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.weights.load import load_network

SETTLED, COMPARED = 30, 15


def read(clip: Path, size: tuple[int, int], start: int) -> list[Frame]:
    with VideoReader(clip, ReadOptions(size=size)) as reader:
        return list(islice(reader, start, start + SETTLED))


def size_of(clip: Path, side: int) -> tuple[int, int]:
    with VideoReader(clip) as reader:
        info = reader.info
    scale = min(1.0, side / max(info.width, info.height))
    return round(info.width * scale), round(info.height * scale)


def after(engine: Engine, frames: list[Frame], state: State = None) -> State:
    for frame in frames:
        _, state = engine.step([frame], state)
    return state


def alphas(engine: Engine, frames: list[Frame], state: State) -> NDArray[np.float64]:
    found = []
    for frame in frames[:COMPARED]:
        (matted,), state = engine.step([frame], state)
        found.append(matted.pixels("alpha", sixteen_bit=True) / 257)
    return np.stack(found)


def compare(engine: Engine, frames: list[Frame], before: list[Frame]) -> list[str]:
    """One cell for each way to start."""
    shape = frames[0].pixels.shape
    engine.prepare(shape, choose_ratio(shape[1], shape[0], "auto"))
    settled = alphas(engine, frames, after(engine, frames[::-1], after(engine, frames)))
    starts = [
        [], before, frames[:1] * 7, frames[3::-1], frames[7::-1], frames[14::-1],
        frames[::-1],
    ]  # fmt: skip
    cells = []
    for start in starts:
        off = np.abs(alphas(engine, frames, after(engine, start)) - settled)
        missing = start is before and not before
        cells.append("" if missing else f"{off[0].mean():.2f}, {off.mean():.2f}")
    return cells


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure ways to start a scene.")
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    parser.add_argument("--side", type=int, default=224, help="longer side [pixels]")
    parser.add_argument("--at", type=int, default=0, help="frame to start at")
    parser.add_argument("--after", type=Path, metavar="CLIP", help="what is cut from")
    parser.add_argument("--engine", choices=CPU_ENGINES, default="openvino")
    options = parser.parse_args()
    engine = choose_engine(load_network(), engine=options.engine)
    print("| clip | empty | carried over | first frame 8 times | back 4 | back 8 |",
          "back 15 | other settled run |")  # fmt: skip
    print("| --- |" + " --- |" * 7)
    for clip in options.clips:
        size = size_of(clip, options.side)
        before = read(options.after, size, 0)[:20] if options.after else []
        cells = compare(engine, read(clip, size, options.at), before)
        print(f"| {clip.stem} |", " | ".join(cells), "|", flush=True)
    return 0


if __name__ == "__main__":
    end(main)
