"""Measure how many frames of lead-in a segment needs to hide its start.

    python benchmarks/seam_table.py CLIP [CLIP ...] [--lead-in 0 4 8 15 30] [--every 40]

For every 40th frame, the network is reset the given number of frames before it, and its
alpha at this frame, the first that a segment would keep, is compared with a run from
the clip's start. The table gives the mean and the largest difference of 8-bit alpha in
levels of 1/255, as the mean over the clip's seams and the largest of them.
"""

import argparse
from collections import deque
from itertools import islice
from pathlib import Path

import numpy as np

from rematte.engines.choose import CPU_ENGINES, choose_engine
from rematte.errors import end
from rematte.matting.loop import run
from rematte.network.matting_network import MattingNetwork
from rematte.video.frame import Frame
from rematte.video.reader import VideoReader
from rematte.weights.load import load_network


def seams(
    network: MattingNetwork, name: str, clip: Path, leads: list[int], every: int,
    count: int,
) -> dict[int, list[tuple[float, int]]]:  # fmt: skip
    """Mean and largest difference at each seam of a clip, by lead-in."""
    engines = [choose_engine(network, engine=name) for _ in range(2)]
    found: dict[int, list[tuple[float, int]]] = {lead: [] for lead in leads}
    recent: deque[Frame] = deque(maxlen=max(leads) + 1)
    with VideoReader(clip) as reader:
        serial = run(engines[0], islice(reader, count))
        for index, matted in enumerate(serial):
            recent.append(matted.frame)
            if index % every or not index:
                continue
            alpha = matted.pixels("alpha", sixteen_bit=False).astype(int)
            for lead in leads:
                some = list(recent)[-lead - 1 :]
                fresh = deque(run(engines[1], some), maxlen=1)[0]
                mine = fresh.pixels("alpha", sixteen_bit=False)
                off = np.abs(mine - alpha)
                found[lead].append((float(off.mean()), int(off.max())))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure seams against lead-ins.")
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    parser.add_argument("--lead-in", type=int, nargs="+", default=[0, 4, 8, 15, 30])
    parser.add_argument("--every", type=int, default=40)
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--engine", choices=CPU_ENGINES, default="openvino")
    options = parser.parse_args()
    network = load_network()
    print("| clip | seams |", *(f"W = {lead} |" for lead in options.lead_in))
    print("| --- |" * 1, "--- |" * (1 + len(options.lead_in)))
    for clip in options.clips:
        found = seams(
            network, options.engine, clip, options.lead_in, options.every,
            options.frames,
        )  # fmt: skip
        cells = [
            f"{np.mean([mean for mean, _ in each]):.2f}, {max(m for _, m in each)} |"
            for each in found.values()
        ]
        print(f"| {clip.stem} | {len(found[options.lead_in[0]])} |", *cells, flush=True)
    return 0


if __name__ == "__main__":
    end(main)
