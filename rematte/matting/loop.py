"""The matting loop: frames in, mattes out. The recurrent state cycles here.

Knows no files: it takes an iterable of frames and gives a generator, so that memory
is bounded and the caller decides when to stop.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rematte.engines.cpu import Engine, State
from rematte.engines.device import upload
from rematte.engines.kernels.guided_filter import Floats, Kind, render, shrink
from rematte.network.matting_network import refine
from rematte.video.frame import Frame, Pixels

# Longer side of the coarse pass [pixels] that gives the documented table: 0.375,
# 0.25 and 0.125 at 720p, 1080p and 4K for portraits; 0.6, 0.4 and 0.2 for bodies.
_LONG_SIDE = {"portrait": 480, "full-body": 768}
RATIOS = ("auto", *_LONG_SIDE)

# A still is shown again and again until alpha moves by less than a quarter of an
# 8-bit level on average, at most this often. The paper sees errors settle within 15.
_SETTLED = 0.25 / 255
_MOST_REPEATS = 16


class Matted(NamedTuple):
    """A frame with its matte.

    Attributes:
        frame: What was read.
        src: The frame, (3, H, W) in [0, 1].
        fgr: Foreground, straight RGB, (3, H, W) in [0, 1].
        pha: Alpha, (1, H, W) in [0, 1], the source's own multiplied in.
    """

    frame: Frame
    src: Tensor
    fgr: Tensor
    pha: Tensor

    @property
    def like(self) -> Tensor:
        """An empty tensor of the frame's height, width, device and precision."""
        return self.src[:0]


def _matted(frame: Frame, src: Tensor, fgr: Tensor, pha: Tensor) -> Matted:
    """A frame with its matte, of which nothing is left where the source hides it."""
    own = own_alpha(frame, pha)
    if own is None:
        return Matted(frame, src, fgr, pha)
    return Matted(frame, src, fgr * (own > 0), pha * own)


def own_alpha(frame: Frame, like: Tensor) -> Tensor | None:
    """The source's own alpha (1, H, W) in [0, 1], if it has one.

    Args:
        frame: What was read.
        like: A tensor whose device and precision are wanted.
    """
    if frame.alpha is None:
        return None
    return to_tensor(frame.alpha, like.device, like.dtype)


class CoarseMatted:
    """A frame with the small maps of its matte; what is asked for is made of them.

    Args:
        frame: What was read.
        maps: See `refining.render`.

    Attributes:
        frame: As given.
        maps: As given.
        like: As of `Matted`.
    """

    def __init__(self, frame: Frame, maps: Floats) -> None:
        self.frame, self.maps = frame, maps
        self.like = torch.empty(0, *frame.pixels.shape[:2])

    def render(self, kind: Kind, wide: bool, behind: Pixels | None = None) -> Pixels:
        """Give pixels; see `refining.render`."""
        own = self.frame.alpha
        return render(self.frame.pixels, self.maps, kind, wide, behind, own)

    @cached_property
    def src(self) -> Tensor:
        """As of `Matted`, for those who need more than pixels."""
        return to_tensor(self.frame.pixels, "cpu", torch.float32)

    @cached_property
    def _fine(self) -> Tensor:
        maps = torch.from_numpy(self.maps)[None]
        if maps.shape[1] == 4:  # at ratio 1 they are the result
            return maps[0]
        return refine(self.src[None], maps[:, :4], maps[:, 4:])[0]

    @property
    def fgr(self) -> Tensor:
        """As of `Matted`."""
        own = own_alpha(self.frame, self.src)
        fgr = (self.src + self._fine[:3]).clamp_(0, 1)
        return fgr if own is None else fgr * (own > 0)

    @property
    def pha(self) -> Tensor:
        """As of `Matted`."""
        own = own_alpha(self.frame, self.src)
        pha = self._fine[3:].clamp(0, 1)
        return pha if own is None else pha * own


AnyMatted = Matted | CoarseMatted


@dataclass
class Memory:
    """What the network remembers from one part of a clip to the next.

    Attributes:
        shape: Of the frames it comes from, (H, W, C); () where there were none.
        state: The recurrent state in its own precision, on the CPU.
    """

    shape: tuple[int, ...] = ()
    state: list[Tensor] = field(default_factory=list)


def choose_ratio(width: int, height: int, ratio: float | str | None) -> float:
    """Turn a ratio or the name of a way to choose it into a number.

    Args:
        width: Of the frame [pixels].
        height: Of the frame [pixels].
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


def to_tensor(pixels: Pixels, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """Turn (..., H, W, C) 8- or 16-bit pixels into (..., C, H, W) in [0, 1]."""
    tensor = upload(torch.from_numpy(pixels), device).movedim(-1, -3)
    return tensor.to(dtype).div_(np.iinfo(pixels.dtype).max)


def _chunks(frames: Iterable[Frame], length: int) -> Iterator[list[Frame]]:
    """Gather frames of one size, at most `length` at a time."""
    chunk: list[Frame] = []
    for frame in frames:
        if chunk and frame.pixels.shape != chunk[0].pixels.shape:
            yield chunk
            chunk = []
        chunk.append(frame)
        if len(chunk) == length:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


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
    """Matte frames one after the other.

    Where the size changes, as in a folder of unlike images, the state starts anew. When
    a GPU's memory runs out, the chunk is halved, and it goes on from the same state.

    Args:
        model: Anything called like `MattingNetwork`; TorchScript too.
        frames: In order of time.
        downsample_ratio: See `choose_ratio`.
        seq_chunk: How many frames the network sees at once. The results are the
            same; more take more memory.
        device: Where the model is.
        dtype: The model's precision.
        tell: Called with a sentence when the chunk is halved.
        memory: Where to go on from; after the last frame it holds what comes then.

    Yields:
        Every frame with its matte.

    Raises:
        ValueError: If an argument is out of its range.
        torch.OutOfMemoryError: If not even one frame fits.
    """
    if seq_chunk < 1:
        raise ValueError(f"seq_chunk must be 1 or more, got {seq_chunk}")
    memory = memory or Memory()
    state: list[Tensor | None] = [None] * 4
    shape: tuple[int, ...] = ()
    for chunk in _chunks(frames, seq_chunk):
        if chunk[0].pixels.shape != shape:
            goes_on = not shape and chunk[0].pixels.shape == memory.shape
            shape = chunk[0].pixels.shape
            state = [None] * 4
            if goes_on:
                state = [tensor.to(device) for tensor in memory.state]
            ratio = choose_ratio(shape[1], shape[0], downsample_ratio)
        while chunk:
            some = chunk[:seq_chunk]
            pixels = some[0].pixels[None]
            if len(some) > 1:
                pixels = np.stack([frame.pixels for frame in some])
            try:
                with torch.inference_mode():
                    src = to_tensor(pixels, device, dtype)
                    fgr, pha, *state = model(src[None], *state, ratio)
            except torch.OutOfMemoryError:
                if len(some) == 1:
                    raise
                seq_chunk = len(some) // 2
                tell(f"out of memory: went on with {seq_chunk} frames at once")
                continue
            yield from map(_matted, some, src, fgr[0], pha[0])
            del src, fgr, pha  # not to be held while the next ones are made
            chunk = chunk[len(some) :]
    if shape:
        memory.shape = shape
        memory.state = [each.cpu() for each in state if each is not None]


def matte_coarse(
    make: Callable[[tuple[int, int], bool], Engine],
    frames: Iterable[Frame],
    *,
    downsample_ratio: float | str | None = None,
    memory: Memory | None = None,
) -> Iterator[CoarseMatted]:
    """Matte frames on a CPU, with what is of full size left for later.

    Where the size changes, the state starts anew.

    Args:
        make: Gives the engine for height and width of the coarse pass, and whether
            the guided filter is needed.
        frames: In order of time.
        downsample_ratio: See `choose_ratio`.
        memory: See `matte`.

    Yields:
        Every frame with the maps of its matte.

    Raises:
        ValueError: If the ratio is out of its range, or leaves nothing of a frame.
    """
    memory = memory or Memory()
    state: State | None = None
    shape: tuple[int, ...] = ()
    for frame in frames:
        if frame.pixels.shape != shape:
            goes_on = not shape and frame.pixels.shape == memory.shape
            shape, state = frame.pixels.shape, None
            height, width = shape[:2]
            ratio = choose_ratio(width, height, downsample_ratio)
            size = int(height * ratio), int(width * ratio)
            if min(size) < 1:
                raise ValueError(
                    f"downsample_ratio {ratio} leaves nothing of a frame of "
                    f"{width}x{height}; use a larger ratio, at most 1"
                )
            engine = make(size, ratio != 1)
            if goes_on:
                state = engine.unpack(memory.state)
        maps, state = engine.step(shrink(frame.pixels, ratio)[None], state)
        yield CoarseMatted(frame, maps[0])
    if state is not None:
        memory.shape, memory.state = shape, engine.pack(state)


def matte_still(
    matting: Callable[[Iterable[Frame]], Iterator[AnyMatted]], frame: Frame
) -> AnyMatted:
    """Matte one picture, shown to the network until its alpha settles.

    Args:
        matting: `matte` with its other arguments bound, and a chunk of 1.
        frame: The picture.
    """
    before: Tensor | None = None
    for matted in matting(repeat(frame, _MOST_REPEATS)):
        if before is not None and (matted.pha - before).abs().mean() < _SETTLED:
            break
        before = matted.pha
    return matted
