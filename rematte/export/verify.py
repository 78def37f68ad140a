"""Compares an exported model with the network over real recurrent frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rematte.export.fixed_shape import torch_step
from rematte.export.formats import Floats, States, Step
from rematte.network.matting_network import MattingNetwork
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

# The first hundred frames of demo/clip.mp4, of two people, with a cut.
CLIP = Path(__file__).parent.parent / "data" / "check.mp4"
REPORTED = (1, 10, 100)  # frames whose differences are reported separately


@dataclass
class Difference:
    """Absolute differences to the float32 network."""

    size: tuple[int, int]
    ratio: float
    frames: int = 0
    # Largest difference over all frames of "fgr", "pha" and "states".
    most: dict[str, float] = field(default_factory=dict)
    # Mean difference over all frames of the same.
    mean: dict[str, float] = field(default_factory=dict)
    # Largest and mean difference in each frame of `REPORTED`.
    reported: dict[int, dict[str, tuple[float, float]]] = field(default_factory=dict)


class Truth(NamedTuple):
    """A frame and the network's outputs for it, after all frames before."""

    src: Floats  # (1, 3, H, W) in [0, 1]
    fgr: Floats  # (1, 3, H, W)
    pha: Floats  # (1, 1, H, W)
    states: States  # r1 to r4 after the frame


def real_frames(size: tuple[int, int], count: int) -> Iterator[Floats]:
    """Read up to `count` frames of the clip that comes with the package; it has 100.

    Yields:
        (1, 3, H, W) in [0, 1], resized.
    """
    with VideoReader(CLIP, ReadOptions(size=(size[1], size[0]))) as reader:
        for frame in islice(reader, count):
            planar = np.moveaxis(frame.pixels, -1, 0)[None]
            # Native runtimes read only contiguous arrays correctly.
            yield planar.astype(np.float32, order="C") / np.float32(255)


def network_step(network: MattingNetwork, ratio: float) -> Step:
    """Wrap the network itself as a step."""
    return torch_step(lambda *given: network(*given, ratio), [None] * 4)


def true_outputs(
    network: MattingNetwork, frames: Iterable[Floats], ratio: float
) -> Iterator[Truth]:
    """Run a float32 network on the CPU over frames (1, 3, H, W) in order of time."""
    step = network_step(network, ratio)
    states: States = None
    for src in frames:
        fgr, pha, states = step(src, states)
        yield Truth(src, fgr, pha, states)


def compare(
    network: MattingNetwork, step: Step, frames: Iterable[Floats], ratio: float
) -> Difference:
    """Run network and export over the same frames, each with its own states."""
    return difference(step, true_outputs(network, frames, ratio), ratio)


def difference(step: Step, truths: Iterable[Truth], ratio: float) -> Difference:
    """Run an exported model over frames whose outputs are known."""
    found = Difference((0, 0), ratio)
    states: States = None
    frames: list[dict[str, tuple[float, float]]] = []
    for true in truths:
        found.size = true.src.shape[2], true.src.shape[3]
        fgr, pha, states = step(true.src, states)
        pairs = {
            "fgr": [(fgr, true.fgr)],
            "pha": [(pha, true.pha)],
            # A model that keeps its states inside returns none.
            "states": list(zip(states or (), true.states or (), strict=False)),
        }
        frames.append({name: _apart(both) for name, both in pairs.items() if both})
    found.frames = len(frames)
    found.reported = {n: frames[n - 1] for n in REPORTED if n <= len(frames)}
    for name in frames[0]:
        most, mean = zip(*(frame[name] for frame in frames), strict=True)
        found.most[name], found.mean[name] = max(most), sum(mean) / len(mean)
    return found


def _apart(pairs: Iterable[tuple[Any, Any]]) -> tuple[float, float]:
    """Return the largest and the mean difference of pairs of arrays."""
    every = np.concatenate([np.abs(a.astype(np.float32) - b).ravel() for a, b in pairs])
    # A NaN compares false with everything: it must not pass as equal.
    worst, mean = np.nan_to_num([every.max(), every.mean()], nan=np.inf)
    return float(worst), float(mean)
