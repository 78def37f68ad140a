"""Mattes several videos at once, each with a recurrent state of its own."""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from rematte.conversion.option_types import DtypeName, RatioName
from rematte.matter.matter import Matter, Stream, formed
from rematte.matter.pictures import Picture
from rematte.matting.loop import choose_ratio
from rematte.matting.matte import Matted
from rematte.video.pixels import Order

if TYPE_CHECKING:
    import torch

K = TypeVar("K", bound=Hashable)


class Streams:
    """Mattes the next frame of every video in one call.

    A video joins with its first frame, may pause, and ends with `leave`. Each is matted
    as if it were alone. A network that torch calls as a whole sees frames of one size
    in one batch; other engines take one frame after the other.

    Args:
        model: A `Matter`, whose options are used instead of the three below; or
            anything that is called like `MattingNetwork`, which torch calls as a whole.
        downsample_ratio: Size of the coarse pass; see `choose_ratio`.
        device: Where the model is.
        dtype: The model's precision; by default its own, or float32.
        order: The order of the channels of frames and results that are arrays.
    """

    def __init__(
        self,
        model: Any,
        downsample_ratio: float | RatioName | None = None,
        device: "torch.device | str" = "cpu",
        dtype: "DtypeName | torch.dtype | None" = None,
        order: Order = "rgb",
    ) -> None:
        if not isinstance(model, Matter):
            if dtype is None and not any(True for _ in model.parameters()):
                dtype = "float32"  # a frozen one, which does not say its own
            given: Any = {"downsample_ratio": downsample_ratio, "dtype": dtype}
            model = Matter(model, engine="plain", device=device, **given)
        self._matter, self._order = model, order
        self._engine = model._batch_engine()
        # Videos in a batch have the shape of their frames and a state, others a stream.
        self._states: dict[Hashable, tuple[tuple[int, ...], Any]] = {}
        self._streams: dict[Hashable, Stream] = {}

    def __len__(self) -> int:
        """Count the videos that have a state."""
        return len(self._states) + len(self._streams)

    def leave(self, stream: Hashable) -> None:
        """Forget a video's state; nothing happens if there is none."""
        self._states.pop(stream, None)
        self._streams.pop(stream, None)

    def __call__(self, frames: Mapping[K, Picture]) -> dict[K, Matted]:
        """Matte one frame of each video that has one.

        Args:
            frames: The frame of each video, as `Stream` takes it, by the video's key.
                If a video's frames change their size, its state is reset.

        Returns:
            The mattes by the videos' keys.

        Raises:
            TypeError: If a frame is not a picture.
            ValueError: If a frame does not fit, or the ratio is out of its range.
        """
        if self._engine is None:
            for key in frames.keys() - self._streams.keys():
                self._streams[key] = self._matter.stream(self._order)
            return {key: self._streams[key](frame) for key, frame in frames.items()}
        taken = {
            key: self._matter._take(frame, self._order) for key, frame in frames.items()
        }
        # Those whose frames have one size and depth go together.
        alike: dict[Any, list[K]] = {}
        for key, (each, _) in taken.items():
            alike.setdefault((each.pixels.shape, each.pixels.dtype), []).append(key)
        found = {}
        for keys in alike.values():
            given = [taken[key][0] for key in keys]
            shape = given[0].pixels.shape
            ratio = choose_ratio(shape[1], shape[0], self._matter.options.ratio)
            self._engine.prepare(shape, ratio)
            known = [self._states.get(key, ((), None)) for key in keys]
            before = [state if size == shape else None for size, state in known]
            mattes, after = self._engine.step_streams(given, before)
            for key, matted, state in zip(keys, mattes, after, strict=True):
                self._states[key] = shape, state
                found[key] = formed(matted, taken[key][1])
        return found
