"""The protocol of engines, which run a network over the frames of a video."""

from typing import Any, Protocol

from numpy.typing import NDArray

from rematte.matting.matte import Matted
from rematte.video.frame import Frame

State = Any  # each engine has its own kind; None stands for the first frame


class Engine(Protocol):
    """Runs a recurrent network step by step.

    Attributes:
        name: One of `choose.ENGINES`.
        reason: Why it was chosen; "" if it was asked for.
        setup: Time spent so far on choosing and building it [s].
        chunk: How many frames `step` takes at most.
    """

    name: str
    reason: str
    setup: float
    chunk: int

    def prepare(self, shape: tuple[int, ...], ratio: float) -> None:
        """Prepare for frames of one size, before the first one comes.

        Args:
            shape: Shape of the frames' pixels, (H, W, 3).
            ratio: Size of the coarse pass in (0, 2], which leaves at least one pixel.
        """

    def step(self, frames: list[Frame], state: State) -> tuple[list[Matted], State]:
        """Matte frames of the prepared size, in order of time.

        Args:
            frames: At least one and at most `chunk`.
            state: The state that the previous step gave, or None at the start. It must
                not be used again: its memory may hold the state after next.

        Returns:
            The mattes of the frames, or of the first of them if memory does not
            suffice for all, and the state after the last matte.
        """

    def pack(self, state: State) -> list[NDArray[Any]]:
        """Copy a state into contiguous arrays (1, C, h, w), which can be saved.

        They have its own precision, or float32 for bfloat16, which NumPy lacks.
        """

    def unpack(self, arrays: list[NDArray[Any]]) -> State:
        """Restore a state, bit for bit, from what `pack` gave; the size is prepared."""
