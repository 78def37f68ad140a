"""Frames for warming the network up at the beginning of a scene.

With an empty state, the network finds edges worse for a second. So it is first shown
the scene's first frames backwards, and then starts with the state reached at the first
one. `loop` does that; here is how many frames it takes, and how it reads ahead.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from rematte.video.frame import Frame
from rematte.video.scene_cuts import Cuts, Thumbnail, shrink

# Frames that "auto" shows backwards: docs/quality.md has the table it is from.
_AUTO = 8
# They are held meanwhile, and no more of them than fit into this [bytes].
_ROOM = 256 << 20


def choose_warmup(warmup: int | str, shape: tuple[int, ...]) -> int:
    """Turn "auto" into a number of frames, whose pixels have this shape, (H, W, 3)."""
    if isinstance(warmup, int):
        return warmup
    height, width = shape[:2]
    return max(1, min(_AUTO, _ROOM // (3 * height * width)))


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
