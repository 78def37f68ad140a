"""Several videos at once on one device: one batch, and a state for each of them."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rematte.matting.loop import Matted, choose_ratio, to_tensor
from rematte.video.frame import Frame


class Streams:
    """Mattes the next frame of every stream in one call of the network.

    Streams join with their first frame, may pause, and leave when told. Each is matted
    as if it were alone. Frames of unlike sizes go into batches of their own.

    Args:
        model: Anything called like `MattingNetwork`.
        downsample_ratio: See `choose_ratio`.
        device: Where the model is.
        dtype: The model's precision.
    """

    def __init__(
        self,
        model: Any,
        downsample_ratio: float | str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._model, self._ratio = model, downsample_ratio
        self._device, self._dtype = device, dtype
        self._states: dict[Hashable, tuple[tuple[int, ...], list[Tensor]]] = {}

    def __len__(self) -> int:
        """How many streams there are."""
        return len(self._states)

    def leave(self, stream: Hashable) -> None:
        """Forget a stream's state; nothing happens if there is none."""
        self._states.pop(stream, None)

    def __call__(self, frames: Mapping[Hashable, Frame]) -> dict[Hashable, Matted]:
        """Matte one frame of each stream that has one.

        Args:
            frames: By stream; anything that can be a key names one. A stream whose
                frames change their size begins anew.

        Raises:
            ValueError: If the ratio is out of its range.
        """
        found = {}
        for streams in self._alike(frames):
            given = [frames[stream] for stream in streams]
            pixels = np.stack([frame.pixels for frame in given])
            shape = pixels.shape[1:]
            ratio = choose_ratio(shape[1], shape[0], self._ratio)
            with torch.inference_mode():
                src = to_tensor(pixels, self._device, self._dtype)
                before = self._gather(streams, shape)
                fgr, pha, *after = self._model(src, *before, ratio)
            for index, stream in enumerate(streams):
                # A copy: a part of the batch would keep all of it.
                own = [state[index : index + 1].clone() for state in after]
                self._states[stream] = shape, own
                frame = given[index]
                found[stream] = Matted(frame, src[index], fgr[index], pha[index])
        return found

    @staticmethod
    def _alike(frames: Mapping[Hashable, Frame]) -> Iterator[list[Hashable]]:
        """Streams whose frames have one size and depth."""
        groups: dict[Any, list[Hashable]] = {}
        for stream, frame in frames.items():
            key = frame.pixels.shape, frame.pixels.dtype
            groups.setdefault(key, []).append(stream)
        yield from groups.values()

    def _gather(
        self, streams: list[Hashable], shape: tuple[int, ...]
    ) -> list[Tensor] | list[None]:
        """The states of some streams as a batch; zeros where one is new."""
        none: tuple[tuple[int, ...], list[Tensor]] = ((), [])
        known = [self._states.get(stream, none) for stream in streams]
        states = [own if size == shape else [] for size, own in known]
        some = next((own for own in states if own), None)
        if some is None:
            return [None] * 4
        zeros = [torch.zeros_like(state) for state in some]
        filled = [own or zeros for own in states]
        return [torch.cat(each) for each in zip(*filled, strict=True)]
