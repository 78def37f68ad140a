"""The matting loop, which turns frames into mattes and carries the recurrent state.

It knows no files: it takes an iterable of frames and returns a generator, so memory
is bounded and the caller decides when to stop.
"""

import logging
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, repeat, takewhile
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rematte.engines.engine import Engine, State
from rematte.matting.matte import Matted
from rematte.matting.region import WHOLE, Region, crop, move_states
from rematte.prefetch import trim_heap
from rematte.video.frame import Frame
from rematte.video.scene_cuts import SPAN, Cuts, Thumbnail, same_scene, shrink

if TYPE_CHECKING:
    import torch

    from rematte.engines.tensors import TensorMatted

_log = logging.getLogger(__name__)

# Longer side of the coarse pass [pixels] that gives the documented table: 0.375,
# 0.25 and 0.125 at 720p, 1080p and 4K for portraits; 0.6, 0.4 and 0.2 for bodies.
_LONG_SIDE = {"portrait": 480, "full-body": 768}
RATIOS = ("auto", *_LONG_SIDE)
# What "auto" chooses instead for each quality; docs/quality.md has the measurements.
_AUTO_SIDE = {"auto": 512, "auto-fast": 384, "auto-best": 1024}

# An image is shown repeatedly until alpha changes by less than a quarter of an 8-bit
# level on average, at most this often. The paper sees errors settle within 15.
_SETTLED = 0.25 / 255
_MOST_REPEATS = 16

# With an empty state, the network finds edges worse for a second, so it may be shown a
# scene's first frames backwards first. "auto" shows so many (docs/quality.md).
_AUTO_WARMUP = 8
# They are held meanwhile, and no more of them than fit into this [bytes].
_WARMUP_ROOM = 256 << 20

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
        region: The start of the last region [s].
        cuts: What detecting cuts needs from the last frames.
    """

    shape: tuple[int, ...] = ()
    state: list[NDArray[Any]] = field(default_factory=list)
    region: Fraction = Fraction(0)
    cuts: Cuts = field(default_factory=Cuts)


class Guide(Protocol):
    """Decides where the network runs in each frame.

    `region.Regions` is a plan for a whole video; `follow.Follower` decides frame by
    frame.
    """

    def at(self, frame: Frame, time: Fraction | None = None) -> Region:
        """Return the region of the next frame, or the one used at a time [s]."""

    def learn(self, matted: Matted) -> None:
        """Use a matte to decide on later frames; called for each, in order of time."""


def choose_ratio(width: int, height: int, ratio: float | str | None) -> float:
    """Turn a ratio, or the name of a rule for choosing it, into a number.

    Args:
        width: Width of the frame [pixels].
        height: Height of the frame [pixels].
        ratio: A number in (0, 1], None or "auto" (longer side at most 512; 384 for
            "auto-fast", 1024 for "auto-best"), or "portrait" or "full-body" (the
            documentation's table, continued to all sizes).

    Raises:
        ValueError: If it is none of these.
    """
    side = max(width, height)
    if ratio is None or ratio in _AUTO_SIDE:
        return min(_AUTO_SIDE[str(ratio or "auto")] / side, 1.0)
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


def choose_warmup(warmup: int | str, shape: tuple[int, ...]) -> int:
    """Turn "auto" into a number of frames, whose pixels have this shape, (H, W, 3)."""
    if isinstance(warmup, int):
        return warmup
    height, width = shape[:2]
    return max(1, min(_AUTO_WARMUP, _WARMUP_ROOM // (3 * height * width)))


class Lookahead:
    """Iterates over frames, and lets the caller peek at the next ones.

    A frame that `is_past` may only be peeked at, and is not yielded. `cuts` finds where
    scenes begin; it is None if that does not matter.
    """

    def __init__(
        self,
        frames: Iterable[Frame],
        is_past: Callable[[Frame], bool] | None,
        cuts: Cuts | None,
    ) -> None:
        self._frames, self._held = iter(frames), deque[Frame]()
        self._is_past, self._cuts = is_past, cuts
        self._back: bool | None = None

    def __iter__(self) -> Iterator[tuple[Frame, bool]]:
        return self

    def __next__(self) -> tuple[Frame, bool]:
        """Return the next frame, and whether a new scene begins with it."""
        frame = self._held.popleft() if self._held else next(self._frames)
        if self._is_past is not None and self._is_past(frame):
            self._held.appendleft(frame)  # to be looked at
            raise StopIteration
        cut, self._back = self._back, None
        if cut is None:
            cut = self._cuts is not None and self._cuts.begins(
                shrink(frame.pixels), self._small
            )
        return frame, cut

    def _small(self, count: int) -> Iterator[Thumbnail]:
        return (shrink(frame.pixels) for frame in self.peek(count))

    def put_back(self, frame: Frame, cut: bool) -> None:
        """Put the last frame back, so that it is given or peeked at again."""
        self._held.appendleft(frame)
        self._back = cut

    def peek(self, count: int) -> list[Frame]:
        """Return the next frames, or fewer at the end."""
        self._held.extend(islice(self._frames, max(0, count - len(self._held))))
        return list(islice(self._held, max(0, count)))


@dataclass
class _Chunk:
    """Frames of one size, region and scene; at least one."""

    region: Region
    cut: bool  # whether a new scene begins with the first one
    frames: list[Frame]


def _chunks(
    ahead: Lookahead, length: Callable[[], int], regions: Guide | None
) -> Iterator[_Chunk]:
    """Gather frames of one size, region and scene, at most `length` at a time."""
    chunk: _Chunk | None = None
    for frame, cut in ahead:
        region = WHOLE if regions is None else regions.at(frame)
        if chunk is None:
            chunk = _Chunk(region, cut, [])
        elif (
            cut
            or region != chunk.region
            or frame.pixels.shape != chunk.frames[0].pixels.shape
        ):
            ahead.put_back(frame, cut)
            del frame
            yield chunk
            chunk = None
            continue
        chunk.frames.append(frame)
        del frame  # large: not to be held while the next one is read
        if len(chunk.frames) >= (1 if len(region.windows) > 1 else length()):
            yield chunk
            chunk = None
    if chunk:
        yield chunk


def run(
    engine: Engine,
    frames: Iterable[Frame],
    *,
    downsample_ratio: float | str | None = None,
    memory: Memory | None = None,
    regions: Guide | None = None,
    warmup: int | str = 0,
    cuts: bool = False,
    is_past: Callable[[Frame], bool] | None = None,
) -> Iterator[Matted]:
    """Matte frames one after the other with an engine.

    If the size changes, as in a folder of different images, the state is reset; with
    `warmup`, also at cuts.

    Args:
        engine: From `choose_engine`.
        frames: In order of time.
        downsample_ratio: See `choose_ratio`; regions have their own.
        memory: The state to start from; after the last frame it holds the state there.
        regions: Where the network runs; None for whole frames.
        warmup: How many frames the network sees backwards before the first one of a
            scene; "auto" chooses.
        cuts: Whether to mark cuts in the mattes without `warmup` too.
        is_past: Whether a frame lies past those to matte; the warm-up may see it.

    Yields:
        Every frame with its matte.

    Raises:
        ValueError: If the ratio is out of its range, or leaves nothing of a frame.
    """
    memory = memory or Memory()
    states = _States(engine, memory, regions, downsample_ratio)
    ahead = Lookahead(frames, is_past, memory.cuts if warmup or cuts else None)
    for chunk in _chunks(ahead, lambda: engine.chunk, regions):
        states.enter(chunk.region, chunk.frames[0], bool(warmup) and chunk.cut)
        if warmup and states.empty and not chunk.region.empty:
            states.warm(_lead(chunk, ahead, warmup, regions))
        while chunk.frames:
            mattes = states.step(chunk.frames[: engine.chunk])
            del chunk.frames[: len(mattes)]
            mattes[0].cut, chunk.cut = chunk.cut, False
            mattes.reverse()
            while mattes:
                if regions is not None:
                    regions.learn(mattes[-1])
                yield mattes.pop()  # not to be held while the next ones are made
    states.remember()


def _lead(
    chunk: _Chunk, ahead: Lookahead, warmup: int | str, regions: Guide | None
) -> list[Frame]:
    """Return the frames for warm-up: the chunk's, and the next ones in its scene."""
    count = choose_warmup(warmup, chunk.frames[0].pixels.shape)
    seen = max(count, SPAN + 1)
    frames = [*chunk.frames[:seen], *ahead.peek(seen - len(chunk.frames))]
    frames = frames[: min(count, same_scene(frames))]
    if regions is None:
        return frames
    return [*takewhile(lambda frame: regions.at(frame) == chunk.region, frames)]


class _States:
    """The recurrent states of a region's windows, or the one of whole frames.

    They start from `memory`, and `remember` writes them into it.
    """

    def __init__(
        self,
        engine: Engine,
        memory: Memory,
        regions: Guide | None,
        ratio: float | str | None,
    ) -> None:
        self._engine, self._memory, self._regions = engine, memory, regions
        self._ratio = ratio
        self._states: list[State] = []
        self._seen: tuple[tuple[int, ...], float] = (), 0.0
        self._region = WHOLE

    @property
    def empty(self) -> bool:
        """Whether the network sees the next frame with an empty state."""
        return not self._states

    def enter(self, region: Region, frame: Frame, restart: bool) -> None:
        """Make the states fit the region of the next frame, or reset them."""
        if region.empty:
            # Frames that are read backwards continue in a region without `restart`.
            self._region, self._states = region, []
            return
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
        if restart:
            self._states = []
        if region == self._region:
            return
        if region.restart:
            self._states = []
        elif self._states and region.windows != self._region.windows:
            packed = [self._engine.pack(state) for state in self._states]
            before, after = self._region.windows, region.windows
            moved = move_states(packed, before, after, region.size)
            self._states = [self._engine.unpack(each) for each in moved]
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

    def warm(self, frames: list[Frame]) -> None:
        """Show frames of one region backwards; they are released as they are shown."""
        length = 1 if len(self._region.windows) > 1 else self._engine.chunk
        while frames:
            shown = frames[: -length - 1 : -1]
            count = len(self.step(shown))
            del frames[-count:], shown

    def step(self, chunk: list[Frame]) -> list[Matted]:
        """Matte frames, in each window of their region with its own state."""
        if self._region.empty:
            return [Matted.from_parts(each, self._region, ()) for each in chunk]
        windows = self._region.windows
        before = self._states or [None] * max(1, len(windows))
        if not windows:
            mattes, state = self._engine.step(chunk, before[0])
            self._states = [state]
            return mattes
        made, self._states = [], []
        for window, state in zip(windows, before, strict=True):
            parts = [crop(frame, window, self._region.size) for frame in chunk]
            mattes, state = self._engine.step(parts, state)
            made.append(mattes)
            self._states.append(state)
        return [
            Matted.from_parts(frame, self._region, parts)
            # If memory does not suffice, there are fewer mattes than frames.
            for frame, *parts in zip(chunk, *made, strict=False)
        ]

    def remember(self) -> None:
        """Write the states into the memory."""
        memory = self._memory
        if self._seen[0]:
            memory.shape, memory.region = self._seen[0], self._region.since
            memory.state = [
                each for state in self._states for each in self._engine.pack(state)
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
    seconds = time.perf_counter() - started
    engine.setup += seconds
    _log.info(
        "engine %s ready for %dx%d, ratio %.3g, in %.1f s",
        engine.name, width, height, ratio, seconds,
    )  # fmt: skip


def matte(
    model: Any,
    frames: Iterable[Frame],
    *,
    downsample_ratio: float | str | None = None,
    seq_chunk: int = 1,
    device: "torch.device | str" = "cpu",
    dtype: "torch.dtype | None" = None,
    report: Callable[[str], object] = warnings.warn,
    memory: Memory | None = None,
) -> "Iterator[TensorMatted]":
    """Matte frames one after the other with any network.

    If the size changes, as in a folder of different images, the state is reset. If a
    GPU's memory runs out, the chunk is halved, and its frames are matted again from
    the same state.

    Args:
        model: Anything called like `MattingNetwork`; TorchScript too.
        frames: In order of time.
        downsample_ratio: See `choose_ratio`.
        seq_chunk: How many frames the network sees at once. The results are the
            same; more take more memory.
        device: Where the model is.
        dtype: The model's precision; by default float32.
        report: Called with a sentence when the chunk is halved.
        memory: The state to start from; after the last frame it holds the state there.

    Yields:
        Every frame with its matte.

    Raises:
        ValueError: If an argument is out of its range.
        torch.OutOfMemoryError: If not even one frame fits.
    """
    from rematte.engines.module import ModuleEngine

    engine = ModuleEngine(model, device, dtype, seq_chunk, report)
    mattes: Any = run(engine, frames, downsample_ratio=downsample_ratio, memory=memory)
    return mattes  # type: ignore[no-any-return]


def matte_still(matting: Matting, frame: Frame) -> Matted:
    """Matte one image, shown to the network until its alpha settles.

    `matting` is `run` or `matte` with the other arguments bound, and a chunk of 1.
    """
    before: NDArray[np.float32] | None = None
    for matted in matting(repeat(frame, _MOST_REPEATS)):
        alpha = matted.pixels("alpha", True).astype(np.float32)
        if before is not None and np.abs(alpha - before).mean() < _SETTLED * 65535:
            break
        before = alpha
    return matted
