"""The matting loop: frames in, mattes out. The recurrent state cycles here.

Knows no files: it takes an iterable of frames and gives a generator, so that memory
is bounded and the caller decides when to stop.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from rematte.engines.engine import Engine, State
from rematte.engines.module import ModuleEngine
from rematte.matting.matte import Matted
from rematte.matting.region import WHOLE, Region, Regions, crop, move_states
from rematte.prefetch import trim_heap
from rematte.video.frame import Frame

# Longer side of the coarse pass [pixels] that gives the documented table: 0.375,
# 0.25 and 0.125 at 720p, 1080p and 4K for portraits; 0.6, 0.4 and 0.2 for bodies.
_LONG_SIDE = {"portrait": 480, "full-body": 768}
RATIOS = ("auto", *_LONG_SIDE)

# An image is shown again and again until alpha moves by less than a quarter of an
# 8-bit level on average, at most this often. The paper sees errors settle within 15.
_SETTLED = 0.25 / 255
_MOST_REPEATS = 16

_STATES = 4  # tensors in the state of a network

# `run` with an engine and a ratio bound: takes frames, and `memory` by its name.
Matting = Callable[..., Iterator[Matted]]


@dataclass
class Memory:
    """The recurrent state between two parts of a video.

    Attributes:
        shape: Shape of the last pixels that the network saw, (H, W, 3); () at the
            start.
        state: The recurrent state in its own precision, on the CPU; those of several
            windows one after the other.
        region: The beginning of the last region [s].
    """

    shape: tuple[int, ...] = ()
    state: list[Tensor] = field(default_factory=list)
    region: Fraction = Fraction(0)


def choose_ratio(width: int, height: int, ratio: float | str | None) -> float:
    """Turn a ratio or the name of a way to choose it into a number.

    Args:
        width: Width of the frame [pixels].
        height: Height of the frame [pixels].
        ratio: A number in (0, 1], None or "auto" (longer side at most 512), or
            "portrait" or "full-body" (the documentation's table, continued to all
            sizes).

    Raises:
        ValueError: If it is none of these.
    """
    side = max(width, height)
    if ratio is None or ratio == "auto":
        return min(512 / side, 1.0)
    if isinstance(ratio, str):
        if ratio not in _LONG_SIDE:
            raise ValueError(
                f"downsample_ratio must be a number in (0, 1] or one of "
                f"{', '.join(RATIOS)}, got {ratio!r}"
            )
        return 1.0 if side <= 512 else min(_LONG_SIDE[ratio] / side, 1.0)
    if not 0 < ratio <= 1:
        raise ValueError(
            f"downsample_ratio must be in (0, 1], got {ratio}; 1 uses the frame as it "
            "is, auto chooses"
        )
    return float(ratio)


def _chunks(
    frames: Iterable[Frame], length: Callable[[], int], regions: Regions | None
) -> Iterator[tuple[Region, list[Frame]]]:
    """Gather frames of one size and region, at most `length` at a time."""
    chunk: list[Frame] = []
    region = WHOLE
    for frame in frames:
        now = WHOLE if regions is None else regions.at(frame)
        if chunk and (frame.pixels.shape != chunk[0].pixels.shape or now != region):
            yield region, chunk
            chunk = []
        region = now
        chunk.append(frame)
        del frame  # large: not to be held while the next one is read
        if len(chunk) >= (1 if len(region.windows) > 1 else length()):
            yield region, chunk
            chunk = []
    if chunk:
        yield region, chunk


def run(
    engine: Engine,
    frames: Iterable[Frame],
    *,
    downsample_ratio: float | str | None = None,
    memory: Memory | None = None,
    regions: Regions | None = None,
) -> Iterator[Matted]:
    """Matte frames one after the other with an engine.

    Where the size changes, as in a folder of unlike images, the state is reset.

    Args:
        engine: From `choose_engine`.
        frames: In order of time.
        downsample_ratio: See `choose_ratio`; regions have their own.
        memory: The state to start from; after the last frame it holds the state there.
        regions: Where the network looks; None for whole frames.

    Yields:
        Every frame with its matte.

    Raises:
        ValueError: If the ratio is out of its range, or leaves nothing of a frame.
    """
    states = _States(engine, memory or Memory(), regions, downsample_ratio)
    for region, chunk in _chunks(frames, lambda: engine.chunk, regions):
        states.enter(region, chunk[0])
        while chunk:
            mattes = states.step(chunk[: engine.chunk])
            del chunk[: len(mattes)]
            mattes.reverse()
            while mattes:
                yield mattes.pop()  # not to be held while the next ones are made
    states.remember()


class _States:
    """The recurrent states of a region's windows, or the one of whole frames.

    Args:
        engine: From `choose_engine`.
        memory: The state to start from; `remember` writes into it.
        regions: Where the network looks; None for whole frames.
        ratio: See `choose_ratio`.
    """

    def __init__(
        self,
        engine: Engine,
        memory: Memory,
        regions: Regions | None,
        ratio: float | str | None,
    ) -> None:
        self._engine, self._memory, self._regions = engine, memory, regions
        self._ratio = ratio
        self._states: list[State] = []
        self._seen: tuple[tuple[int, ...], float] = (), 0.0
        self._region = WHOLE

    def enter(self, region: Region, frame: Frame) -> None:
        """Make states fit the region of the frame that comes next."""
        height, width = region.size if region.windows else frame.pixels.shape[:2]
        ratio = region.ratio
        if not region.windows:
            ratio = choose_ratio(width, height, self._ratio)
        shape = height, width, frame.pixels.shape[2]
        if (shape, ratio) != self._seen:
            _prepare(self._engine, shape, ratio)
            self._states = []
            if not self._seen[0] and self._memory.shape == shape:
                self._recall(frame)
            self._seen = shape, ratio
        if region == self._region:
            return
        if region.restart:
            self._states = []
        elif self._states and region.windows != self._region.windows:
            self._move(region)
        self._region = region

    def _recall(self, frame: Frame) -> None:
        """Start from the memory."""
        memory, regions = self._memory, self._regions
        self._states = [
            self._engine.unpack(memory.state[first : first + _STATES])
            for first in range(0, len(memory.state), _STATES)
        ]
        if regions is not None:
            self._region = regions.at(frame, memory.region)

    def _move(self, region: Region) -> None:
        """Move states to the windows of the next region."""
        packed = [self._engine.pack(state) for state in self._states]
        before = self._region.windows
        moved = move_states(packed, before, region.windows, region.size)
        self._states = [self._engine.unpack(each) for each in moved]

    def step(self, chunk: list[Frame]) -> list[Matted]:
        """Matte frames, in each window of their region with its own state."""
        before = self._states or [None] * max(1, len(self._region.windows))
        if not self._region.windows:
            mattes, state = self._engine.step(chunk, before[0])
            self._states = [state]
            return mattes
        made, self._states = [], []
        for window, state in zip(self._region.windows, before, strict=True):
            parts = [crop(frame, window, self._region.size) for frame in chunk]
            mattes, state = self._engine.step(parts, state)
            made.append(mattes)
            self._states.append(state)
        return [
            Matted.from_parts(frame, self._region, parts)
            # Where memory does not suffice, there are fewer mattes than frames.
            for frame, *parts in zip(chunk, *made, strict=False)
        ]

    def remember(self) -> None:
        """Write the states into the memory."""
        memory = self._memory
        if self._seen[0]:
            memory.shape, memory.region = self._seen[0], self._region.since
            memory.state = [
                tensor for state in self._states for tensor in self._engine.pack(state)
            ]


def _prepare(engine: Engine, shape: tuple[int, ...], ratio: float) -> None:
    height, width = shape[:2]
    if min(int(height * ratio), int(width * ratio)) < 1:
        raise ValueError(
            f"downsample_ratio {ratio} leaves nothing of a frame of {width}x{height}; "
            "use a larger ratio, at most 1"
        )
    started = time.perf_counter()
    engine.prepare(shape, ratio)
    trim_heap()
    engine.setup += time.perf_counter() - started


def matte(
    model: Any,
    frames: Iterable[Frame],
    *,
    downsample_ratio: float | str | None = None,
    seq_chunk: int = 1,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    tell: Callable[[str], object] = warnings.warn,
    memory: Memory | None = None,
) -> Iterator[Matted]:
    """Matte frames one after the other with any network.

    Where the size changes, as in a folder of unlike images, the state is reset. When a
    GPU's memory runs out, the chunk is halved, and the frames of the chunk are matted
    again from the same state.

    Args:
        model: Anything called like `MattingNetwork`; TorchScript too.
        frames: In order of time.
        downsample_ratio: See `choose_ratio`.
        seq_chunk: How many frames the network sees at once. The results are the
            same; more take more memory.
        device: Where the model is.
        dtype: The model's precision.
        tell: Called with a sentence when the chunk is halved.
        memory: The state to start from; after the last frame it holds the state there.

    Yields:
        Every frame with its matte.

    Raises:
        ValueError: If an argument is out of its range.
        torch.OutOfMemoryError: If not even one frame fits.
    """
    engine = ModuleEngine(model, device, dtype, seq_chunk, tell)
    return run(engine, frames, downsample_ratio=downsample_ratio, memory=memory)


def matte_still(matting: Matting, frame: Frame) -> Matted:
    """Matte one image, shown to the network until its alpha settles.

    Args:
        matting: `run` or `matte` with the other arguments bound, and a chunk of 1.
        frame: The image.
    """
    before: Tensor | None = None
    for matted in matting(repeat(frame, _MOST_REPEATS)):
        if before is not None and (matted.pha - before).abs().mean() < _SETTLED:
            break
        before = matted.pha
    return matted
