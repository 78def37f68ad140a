"""Runs any callable network as a whole: TorchScript, other devices, half precision."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rematte.engines.engine import State
from rematte.engines.tensors import TensorMatted, to_tensor
from rematte.matting.matte import Matted
from rematte.video.frame import Frame

_log = logging.getLogger(__name__)


class ModuleEngine:
    """Calls a network as a whole, on chunks of frames.

    If a GPU's memory runs out, the chunk is halved permanently, and `report` is called
    with a sentence. See `Engine` for the attributes and `loop.matte` for the other
    arguments.
    """

    def __init__(
        self,
        model: Any,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        chunk: int = 1,
        report: Callable[[str], object] = warnings.warn,
    ) -> None:
        if chunk < 1:
            raise ValueError(f"seq_chunk must be 1 or more, got {chunk}")
        self.name, self.reason, self.setup, self.chunk = "plain", "", 0.0, chunk
        self._model, self._device = model, device
        self._dtype = torch.float32 if dtype is None else dtype
        self._report = report
        self._ratio = 1.0

    def prepare(self, shape: tuple[int, ...], ratio: float) -> None:
        """Set the size of the coarse pass."""
        self._ratio = ratio

    def step(self, frames: list[Frame], state: State) -> tuple[list[Matted], State]:
        """Matte frames at once, or fewer than given if memory runs out.

        Raises:
            torch.OutOfMemoryError: If not even one frame fits.
        """
        while True:
            try:
                return self._run(frames, state, together=True)
            except torch.OutOfMemoryError:
                if len(frames) == 1:
                    raise
            self.chunk = len(frames) // 2
            text = f"out of memory: went on with {self.chunk} frames at once"
            _log.warning("%s", text)
            self._report(text)
            frames = frames[: self.chunk]

    def step_streams(
        self, frames: list[Frame], states: list[State]
    ) -> tuple[list[Matted], list[State]]:
        """Matte one frame of each of several videos, all of one size, at once.

        The state of a video is None at its start.
        """
        batch = None
        if some := next(filter(None, states), None):
            zeros = [torch.zeros_like(each) for each in some]
            filled = [state or zeros for state in states]
            batch = [torch.cat(each) for each in zip(*filled, strict=True)]
        mattes, after = self._run(frames, batch, together=False)
        # Copies, since a view would keep the memory of the whole batch.
        return mattes, [
            [each[index : index + 1].clone() for each in after]
            for index in range(len(frames))
        ]

    def _run(
        self, frames: list[Frame], state: State, together: bool
    ) -> tuple[list[Matted], State]:
        pixels = frames[0].pixels[None]  # a single frame is not copied
        if len(frames) > 1:
            pixels = np.stack([frame.pixels for frame in frames])
        with torch.inference_mode():
            src = to_tensor(pixels, self._device, self._dtype)
            batch = src[None] if together else src
            fgr, pha, *state = self._model(batch, *(state or [None] * 4), self._ratio)
            if together:
                fgr, pha = fgr[0], pha[0]
        return list(map(TensorMatted, frames, src, fgr, pha)), state

    def pack(self, state: State) -> list[NDArray[Any]]:
        """Copy a state to the CPU."""
        return [
            (each.float() if each.dtype == torch.bfloat16 else each)
            .contiguous()  # in channels last, file formats would take it for another
            .cpu()
            .numpy()
            for each in state
            if each is not None
        ]

    def unpack(self, arrays: list[NDArray[Any]]) -> State:
        """Bring a packed state to the device."""
        tensors = [torch.from_numpy(each).to(self._device) for each in arrays]
        if self._dtype == torch.bfloat16:
            tensors = [each.bfloat16() for each in tensors]
        return tensors
