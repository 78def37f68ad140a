"""The network at a fixed ratio, as most exporters want it."""

import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rematte.export.formats import Floats, States, Step
from rematte.network.matting_network import MattingNetwork, refine
from rematte.network.parts import Coarse

DTYPES = {"float32": torch.float32, "float16": torch.float16}


class Fixed(nn.Module):
    """One recurrent step at a fixed ratio.

    Args:
        network: Whose parameters it shares.
        ratio: The downsample ratio.
    """

    def __init__(self, network: MattingNetwork, ratio: float) -> None:
        super().__init__()
        self.network = network
        self.ratio = ratio

    def forward(
        self, src: Tensor, r1: Tensor, r2: Tensor, r3: Tensor, r4: Tensor
    ) -> tuple[Tensor, ...]:
        """Run one step; see `MattingNetwork.forward`."""
        # A plain tuple: `torch.export` does not save named ones.
        return tuple(self.network(src, r1, r2, r3, r4, self.ratio))


class FixedSize(nn.Module):
    """One recurrent step at a fixed size and ratio, for runtimes that resize by size.

    They sample the small frame with the step H / h, the network with 1 / ratio. Where
    the two differ, it is sampled by two constant matrices.

    Args:
        network: Whose parameters it shares.
        size: Height and width [pixels].
        ratio: The downsample ratio.
        samples: How, to the bit where the network does: "gather" rows and columns,
            where the runtime can; "multiply" by matrices, unless 1 / ratio is a whole
            number. "resize" leaves the last bits of a place to the runtime.
    """

    def __init__(
        self,
        network: MattingNetwork,
        size: tuple[int, int],
        ratio: float,
        samples: Literal["resize", "multiply", "gather"] = "resize",
    ) -> None:
        super().__init__()
        self.coarse = Coarse(network, refined=ratio != 1)
        self.ratio = ratio
        self.small = [int(side * ratio) for side in size]
        if samples != "gather":
            whole = self.small == [side * ratio for side in size]
            resizes = whole and (samples == "resize" or (1 / ratio).is_integer())
            samples = "resize" if resizes else "multiply"
        self.samples = samples
        rows, columns = (sampling(side, ratio) for side in size)
        self.gather = nn.Sequential(_Gather(rows, 2), _Gather(columns, 3))
        self.rows: Tensor
        self.columns: Tensor
        if samples == "multiply":
            self.register_buffer("rows", rows.matrix(size[0]))
            self.register_buffer("columns", columns.matrix(size[1]).T.contiguous())

    def forward(
        self, src: Tensor, r1: Tensor, r2: Tensor, r3: Tensor, r4: Tensor
    ) -> tuple[Tensor, ...]:
        """Run one step; see `MattingNetwork.forward`."""
        picture = src if self.ratio == 1 else self.shrink(src)
        maps, *states = self.coarse(picture, r1, r2, r3, r4)
        if self.ratio != 1:
            maps = refine(src, maps[:, :4], maps[:, 4:])
        fgr = (src + maps[:, :3]).clamp(0, 1)
        return fgr, maps[:, 3:].clamp(0, 1), *states

    def shrink(self, src: Tensor) -> Tensor:
        """Sample frames at the size of the coarse pass."""
        if self.samples == "gather":
            gathered: Tensor = self.gather(src)
            return gathered
        if self.samples == "resize":
            return F.interpolate(src, self.small, mode="bilinear", align_corners=False)
        picture: Tensor = self.rows @ (src @ self.columns)
        return picture


class Places(NamedTuple):
    """Where the pixels of a picture lie in a side of the frame.

    Attributes:
        before: The pixel before each.
        after: The pixel after it.
        far: How far it is from the one before, in [0, 1).
    """

    before: list[int]
    after: list[int]
    far: list[float]

    def matrix(self, side: int) -> Tensor:
        """The same as a matrix (count, side), to multiply a side's pixels with."""
        found = torch.zeros(len(self.far), side)
        for row, (before, after, far) in enumerate(zip(*self, strict=True)):
            found[row, before] += 1 - far
            found[row, after] += far
        return found


class _Gather(nn.Module):
    """Samples frames along one axis."""

    def __init__(self, places: Places, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.before: Tensor
        self.after: Tensor
        self.far: Tensor
        self.register_buffer("before", torch.tensor(places.before))
        self.register_buffer("after", torch.tensor(places.after))
        far = torch.tensor(places.far)
        self.register_buffer("far", far[:, None] if axis == 2 else far)

    def forward(self, x: Tensor) -> Tensor:
        before = x.index_select(self.axis, self.before)
        after = x.index_select(self.axis, self.after)
        return before + self.far * (after - before)


def sampling(side: int, ratio: float) -> Places:
    """Sample with the step 1 / ratio, in float32 and so to the bit where torch does.

    Args:
        side: Of the frame [pixels].
        ratio: The downsample ratio.
    """
    number = torch.arange(int(side * ratio), dtype=torch.float32)
    place = ((number + 0.5) * (1 / ratio) - 0.5).clamp(min=0)
    before = place.floor().clamp(max=side - 1)
    after = (before + 1).clamp(max=side - 1)
    return Places(
        before.int().tolist(), after.int().tolist(), (place - before).tolist()
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep a converter's warnings, lines and progress bars from the terminal."""
    nowhere = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        warnings.simplefilter("ignore")
        yield


def exported(
    step: nn.Module, inputs: tuple[Tensor, ...]
) -> torch.export.ExportedProgram:
    """Export at fixed sizes, without the operations that other runtimes do not know.

    Args:
        step: A module of one step.
        inputs: Of the shapes it is exported for.
    """
    aten = torch.ops.aten
    simpler = {aten.addcmul.default: lambda b, a, x: b + a * x, aten.pad.default: _crop}
    with quiet():
        program: torch.export.ExportedProgram
        program = torch.export.export(step.eval(), inputs).run_decompositions(simpler)
        return program


def _crop(
    x: Tensor, pad: list[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Padding as the decoder uses it: by nothing or less, at the right and bottom."""
    for axis, more in ((-1, pad[1]), (-2, pad[3])):
        if more:
            x = x.narrow(axis, 0, x.shape[axis] + more)
    return x


def torch_step(
    run: Callable[..., tuple[Tensor, ...]],
    begin: Sequence[Tensor | None],
    dtype: torch.dtype = torch.float32,
) -> Step:
    """Make a step of what torch itself runs.

    Args:
        run: Takes a frame and four states, gives foreground, alpha and states.
        begin: The states before the first frame.
        dtype: Of frame and states.
    """

    def step(src: Floats, states: States) -> tuple[Floats, Floats, States]:
        given = begin if states is None else [torch.from_numpy(s) for s in states]
        with torch.inference_mode():
            fgr, pha, *after = run(torch.from_numpy(src).to(dtype), *given)
        return (
            fgr.float().numpy(),
            pha.float().numpy(),
            [state.numpy() for state in after],
        )

    return step


def in_precision(network: MattingNetwork, precision: str) -> MattingNetwork:
    """A copy of a network in another precision, for inference."""
    return copy.deepcopy(network).eval().to(DTYPES[precision])


def first_inputs(
    network: MattingNetwork, size: tuple[int, int], ratio: float
) -> tuple[Tensor, ...]:
    """A black frame and states of zeros, of the shapes and type that a step takes.

    Args:
        network: For one clip at a time.
        size: Height and width [pixels].
        ratio: The downsample ratio.
    """
    dtype = next(network.parameters()).dtype
    src = torch.zeros(1, 3, *size, dtype=dtype)
    with torch.inference_mode():
        _, _, *states = network(src, downsample_ratio=ratio)
    return src, *(torch.zeros(state.shape, dtype=dtype) for state in states)
