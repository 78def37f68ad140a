"""Mattes several videos at once on one device: one batch, and a state for each."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from rematte.engines.module import ModuleEngine
from rematte.matting.loop import choose_ratio
from rematte.matting.matte import Matted
from rematte.video.frame import Frame


class Streams:
    """Mattes the next frame of every video in one call of the network.

    Videos join with their first frame, may pause, and end with `leave`. Each is matted
    as if it were alone. Frames of unlike sizes go into batches of their own.

    Args:
        model: Anything called like `MattingNetwork`.
        downsample_ratio: Size of the coarse pass; see `choose_ratio`.
        device: Where the model is.
        dtype: The model's precision; by default float32.
    """

    def __init__(
        self,
        model: Any,
        downsample_ratio: float | str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self._engine, self._ratio = ModuleEngine(model, device, dtype), downsample_ratio
        self._states: dict[Hashable, tuple[tuple[int, ...], list[Tensor]]] = {}

    def __len__(self) -> int:
        """Count the videos that have a state."""
        return len(self._states)

    def leave(self, stream: Hashable) -> None:
        """Forget a video's state; nothing happens if there is none."""
        self._states.pop(stream, None)

    def __call__(self, frames: Mapping[Hashable, Frame]) -> dict[Hashable, Matted]:
        """Matte one frame of each video that has one.

        Args:
            frames: Frames by video; anything that can be a key names one. Where a
                video's frames change their size, its state is reset.

        Raises:
            ValueError: If the ratio is out of its range.
        """
        found = {}
        for streams in self._alike(frames):
            given = [frames[stream] for stream in streams]
            shape = given[0].pixels.shape
            ratio = choose_ratio(shape[1], shape[0], self._ratio)
            self._engine.prepare(shape, ratio)
            before = self._gather(streams, shape)
            mattes, after = self._engine.step_streams(given, before)
            for index, stream in enumerate(streams):
                # A copy: a part of the batch would keep all of it.
                own = [state[index : index + 1].clone() for state in after]
                self._states[stream] = shape, own
                found[stream] = mattes[index]
        return found

    @staticmethod
    def _alike(frames: Mapping[Hashable, Frame]) -> Iterator[list[Hashable]]:
        """Group the videos whose frames have one size and depth."""
        groups: dict[Any, list[Hashable]] = {}
        for stream, frame in frames.items():
            key = frame.pixels.shape, frame.pixels.dtype
            groups.setdefault(key, []).append(stream)
        yield from groups.values()

    def _gather(
        self, streams: list[Hashable], shape: tuple[int, ...]
    ) -> list[Tensor] | None:
        """Join the states of some videos to a batch, with zeros where one is new."""
        none: tuple[tuple[int, ...], list[Tensor]] = ((), [])
        known = [self._states.get(stream, none) for stream in streams]
        states = [own if size == shape else [] for size, own in known]
        some = next((own for own in states if own), None)
        if some is None:
            return None
        zeros = [torch.zeros_like(state) for state in some]
        filled = [own or zeros for own in states]
        return [torch.cat(each) for each in zip(*filled, strict=True)]
