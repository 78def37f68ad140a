"""Runs the coarse part of a network on a CPU with torch."""

import torch
from torch import Tensor

from rematte.engines.engine import State
from rematte.engines.head import Head
from rematte.engines.kernels.guided_filter import shrink
from rematte.matting.matte import Matted
from rematte.network.matting_network import MattingNetwork
from rematte.network.parts import Coarse, folded
from rematte.video.frame import Frame


class TorchEngine:
    """Runs torch with batch norm folded away and channels last.

    See `Engine` for the attributes.

    Args:
        network: On the CPU, in float32; it stays as it is.
    """

    def __init__(self, network: MattingNetwork) -> None:
        self.name, self.reason, self.setup, self.chunk = "torch", "", 0.0, 1
        self._ratio = 1.0
        self._coarse = folded(Coarse(network, True))
        # torch's stubs do not know it
        self._coarse.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._head = Head(network)

    def prepare(self, shape: tuple[int, ...], ratio: float) -> None:
        """Set the size of the coarse pass; nothing has to be built for it."""
        self._ratio = ratio

    def step(self, frames: list[Frame], state: State) -> tuple[list[Matted], State]:
        """Matte frames one after the other."""
        mattes = []
        for frame in frames:
            picture = shrink(frame.pixels, self._ratio)
            with torch.inference_mode():
                x = torch.from_numpy(picture)[None].movedim(-1, 1)
                features = self._coarse.encoder(x)
                hidden, *state = self._coarse.decoder(
                    x, *features, *(state or [None] * 4)
                )
                features = hidden[0].contiguous().numpy()
            maps = self._head(picture, features, self._ratio != 1)
            mattes.append(Matted.from_maps(frame, maps))
        return mattes, state

    def pack(self, state: State) -> list[Tensor]:
        """Copy a state."""
        return [each.clone(memory_format=torch.contiguous_format) for each in state]

    def unpack(self, tensors: list[Tensor]) -> State:
        """Make a state of what `pack` gave."""
        return [each.contiguous(memory_format=torch.channels_last) for each in tensors]
