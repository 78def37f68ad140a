"""The matting loop: frames in, mattes out. The recurrent state cycles here.

Knows no files: it takes an iterable of frames and gives a generator, so that memory
is bounded and the caller decides when to stop.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from rematte.engines.engine import Engine, State
from rematte.engines.module import ModuleEngine
from rematte.matting.matte import Matted
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

# `run` with an engine and a ratio bound: takes frames, and `memory` by its name.
Matting = Callable[..., Iterator[Matted]]


@dataclass
class Memory:
    """The recurrent state between two parts of a video.

    Attributes:
        shape: Shape of the last frames' pixels, (H, W, 3); () at the start.
        state: The recurrent state in its own precision, on the CPU.
    """

    shape: tuple[int, ...] = ()
    state: list[Tensor] = field(default_factory=list)


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


def _chunks(frames: Iterable[Frame], length: int) -> Iterator[list[Frame]]:
    """Gather frames of one size, at most `length` at a time."""
    chunk: list[Frame] = []
    for frame in frames:
        if chunk and frame.pixels.shape != chunk[0].pixels.shape:
            yield chunk
            chunk = []
        chunk.append(frame)
        del frame  # large: not to be held while the next one is read
        if len(chunk) == length:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def run(
    engine: Engine,
    frames: Iterable[Frame],
    *,
    downsample_ratio: float | str | None = None,
    memory: Memory | None = None,
) -> Iterator[Matted]:
    """Matte frames one after the other with an engine.

    Where the size changes, as in a folder of unlike images, the state is reset.

    Args:
        engine: From `choose_engine`.
        frames: In order of time.
        downsample_ratio: See `choose_ratio`.
        memory: The state to start from; after the last frame it holds the state there.

    Yields:
        Every frame with its matte.

    Raises:
        ValueError: If the ratio is out of its range, or leaves nothing of a frame.
    """
    memory = memory or Memory()
    state: State = None
    shape: tuple[int, ...] = ()
    for chunk in _chunks(frames, engine.chunk):
        if chunk[0].pixels.shape != shape:
            resumes = not shape and chunk[0].pixels.shape == memory.shape
            shape = chunk[0].pixels.shape
            height, width = shape[:2]
            ratio = choose_ratio(width, height, downsample_ratio)
            if min(int(height * ratio), int(width * ratio)) < 1:
                raise ValueError(
                    f"downsample_ratio {ratio} leaves nothing of a frame of "
                    f"{width}x{height}; use a larger ratio, at most 1"
                )
            started = time.perf_counter()
            engine.prepare(shape, ratio)
            trim_heap()
            engine.setup += time.perf_counter() - started
            state = engine.unpack(memory.state) if resumes else None
        while chunk:
            mattes, state = engine.step(chunk[: engine.chunk], state)
            del chunk[: len(mattes)]
            mattes.reverse()
            while mattes:
                yield mattes.pop()  # not to be held while the next ones are made
    if shape:
        memory.shape, memory.state = shape, engine.pack(state)


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
