"""Records the step of a network on a CUDA GPU once and then replays it.

Launching the network's 250 kernels one by one takes several times as long as they run.
Recorded as a CUDA graph they are launched at once; the full-size part is one Triton
kernel, which reads the frame once and writes foreground and alpha once.
"""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from rematte.network.guided_filter import refine, shrink
from rematte.network.matting_network import Matte, MattingNetwork, check_source
from rematte.network.parts import (
    CoarseDecoder,
    CoarseEncoder,
    CoarseHead,
    Module,
    folded,
    recurrent_units,
)

State = tuple[Tensor | None, ...]

# It comes with torch on Linux; elsewhere torch's own kernels do.
_HAS_TRITON = find_spec("triton") is not None


class RecordedNetwork:
    """A network called like `MattingNetwork`, with its coarse step as a CUDA graph.

    A graph belongs to one size, ratio and batch; for others it is recorded again, which
    takes a second. Frames of a chunk run one after the other. The fit of the guided
    filter is float32 in every precision, since it subtracts nearly equal numbers.

    Args:
        network: The network, in evaluation mode, on its GPU and in its precision; it
            is not changed, and later changes of its weights have no effect.
        compiled: Whether torch compiles the coarse step first. That takes half a
            minute for each size, and a C compiler.

    Source:
        https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, network: MattingNetwork, compiled: bool = False) -> None:
        # Compiled it is a little faster with channels last, and otherwise slower.
        self._layout = torch.channels_last if compiled else torch.contiguous_format

        def ready(module: Module, dtype: torch.dtype | None = None) -> Module:
            # A copy, so that the network itself keeps its precision.
            module = folded(module).to(dtype, memory_format=self._layout)  # type: ignore[call-overload]
            return torch.compile(module, dynamic=False) if compiled else module  # type: ignore[return-value]

        self._units = recurrent_units(network)
        self._encoder = ready(CoarseEncoder(network))
        self._decoder = ready(CoarseDecoder(network))
        self._heads = {
            refined: ready(CoarseHead(network, refined), torch.float32)
            for refined in (False, True)
        }
        self._of: tuple[torch.Size, bool] | None = None

    def __call__(
        self,
        src: Tensor,
        r1: Tensor | None = None,
        r2: Tensor | None = None,
        r3: Tensor | None = None,
        r4: Tensor | None = None,
        downsample_ratio: float = 1.0,
    ) -> Matte:
        """Matte a frame or a chunk on a CUDA GPU; see `MattingNetwork.forward`."""
        check_source(src, downsample_ratio)
        state: State = (r1, r2, r3, r4)
        with torch.no_grad(), torch.cuda.device_of(src):
            if src.dim() == 4:
                return self._step(src, state, downsample_ratio)
            mattes: list[Matte] = []
            for frame in src.unbind(1):
                mattes.append(self._step(frame, state, downsample_ratio))
                state = mattes[-1][2:]
            fgr = torch.stack([each.fgr for each in mattes], 1)
            pha = torch.stack([each.pha for each in mattes], 1)
            return Matte(fgr, pha, *mattes[-1][2:])

    def _step(self, frame: Tensor, state: State, ratio: float) -> Matte:
        picture = shrink(frame, ratio)
        if self._of != (picture.shape, ratio != 1):
            self._record(picture, ratio != 1)
        self._picture.copy_(picture)
        for unit, held, given in zip(self._units, self._held, state, strict=True):
            held.copy_(unit.start(held, given))
        self._replay()
        # Copies: the next replay writes where this one did.
        after = [each.clone() for each in self._after]
        fgr, pha = finish(frame, self._maps, ratio != 1)
        return Matte(fgr, pha, *after)

    def _record(self, picture: Tensor, refined: bool) -> None:
        head = self._heads[refined]
        self._picture = picture.clone(memory_format=self._layout)
        features = self._encoder(self._picture)
        _, *states = self._decoder(self._picture, *features, *[None] * 4)
        self._held = [torch.zeros_like(each) for each in states]

        def step() -> None:
            features = self._encoder(self._picture)
            hidden, *self._after = self._decoder(self._picture, *features, *self._held)
            self._maps = head(self._picture.float(), hidden.float()).contiguous()

        self._replay = _capture(step, picture.device)
        self._of = picture.shape, refined


def _capture(step: Callable[[], None], device: torch.device) -> Callable[[], object]:
    """Record a function's work on a GPU as a graph, and return its replay."""
    if device.type != "cuda":
        raise ValueError(
            f"the network is on {device}; a step can only be recorded on a CUDA GPU: "
            "move it with network.cuda(), or call the network itself"
        )
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # a recording needs some runs before it
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Other threads composite meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()
    return graph.replay


def finish(frame: Tensor, maps: Tensor, refined: bool) -> tuple[Tensor, Tensor]:
    """Make foreground and alpha of a frame, (N, 3, H, W), in its precision.

    The maps are what `CoarseHead` gives, float32: (N, 8, h, w) if `refined`, that is,
    of the guided filter, else (N, 4, H, W).
    """
    if refined and _HAS_TRITON and frame.is_cuda:
        from rematte.engines.kernels.guided_filter_triton import finish as fused

        return fused(frame, maps)
    out = refine(frame.float(), maps[:, :4], maps[:, 4:]) if refined else maps
    fgr = (frame + out[:, :3]).clamp_(0, 1).to(frame.dtype)
    return fgr, out[:, 3:].clamp(0, 1).to(frame.dtype)
