"""The network at a fixed size and ratio, and helpers that several exporters share."""

import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rematte.export.formats import Step, as_step
from rematte.network.guided_filter import refine
from rematte.network.matting_network import MattingNetwork
from rematte.network.parts import Coarse

DTYPES = {"float32": torch.float32, "float16": torch.float16}


class FixedSize(nn.Module):
    """One recurrent step at a fixed size and ratio, for runtimes that resize by size.

    Those runtimes sample the coarse frame with the step H / h, the network with
    1 / ratio. Where the two differ, two constant matrices sample it.

    `samples` says how: "gather" picks rows and columns and "multiply" uses matrices,
    unless 1 / ratio is a whole number; both sample exactly where the network does.
    "resize" leaves the last bits of a position to the runtime. The module shares the
    network's parameters.
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
        if samples == "multiply":
            self.rows = nn.Buffer(rows.matrix(size[0]))
            self.columns = nn.Buffer(columns.matrix(size[1]).T.contiguous())

    def forward(
        self, src: Tensor, r1: Tensor, r2: Tensor, r3: Tensor, r4: Tensor
    ) -> tuple[Tensor, ...]:
        """Run one step; arguments and results are those of the network."""
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


class Positions(NamedTuple):
    """Sampling positions along one side of the frame."""

    before: list[int]  # index of the pixel before each position
    after: list[int]  # index of the pixel after it
    fraction: list[float]  # distance from the pixel before, in [0, 1)

    def matrix(self, side: int) -> Tensor:
        """Return a matrix (count, side) that samples by multiplication."""
        found = torch.zeros(len(self.fraction), side)
        for row, (before, after, fraction) in enumerate(zip(*self, strict=True)):
            found[row, before] += 1 - fraction
            found[row, after] += fraction
        return found


class _Gather(nn.Module):
    """Samples frames along one axis."""

    def __init__(self, positions: Positions, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.before = nn.Buffer(torch.tensor(positions.before))
        self.after = nn.Buffer(torch.tensor(positions.after))
        fraction = torch.tensor(positions.fraction)
        self.fraction = nn.Buffer(fraction[:, None] if axis == 2 else fraction)

    def forward(self, x: Tensor) -> Tensor:
        before = x.index_select(self.axis, self.before)
        after = x.index_select(self.axis, self.after)
        return before + self.fraction * (after - before)


def sampling(side: int, ratio: float) -> Positions:
    """Compute positions with the step 1 / ratio, in float32 to the bit as torch does.

    `side` is the height or width of the frame [pixels].
    """
    number = torch.arange(int(side * ratio), dtype=torch.float32)
    position = ((number + 0.5) * (1 / ratio) - 0.5).clamp(min=0)
    before = position.floor().clamp(max=side - 1)
    after = (before + 1).clamp(max=side - 1)
    return Positions(
        before.int().tolist(), after.int().tolist(), (position - before).tolist()
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide a converter's warnings, messages and progress bars."""
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
    """Export a step at the inputs' sizes, without operations that runtimes lack."""
    aten = torch.ops.aten
    simpler = {aten.addcmul.default: lambda b, a, x: b + a * x, aten.pad.default: _crop}
    with quiet():
        program: torch.export.ExportedProgram
        program = torch.export.export(step.eval(), inputs).run_decompositions(simpler)
        return program


def _crop(
    x: Tensor, pad: list[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Crop right and bottom: the decoder pads by 0 or less there, nowhere else."""
    for axis, more in ((-1, pad[1]), (-2, pad[3])):
        if more:
            x = x.narrow(axis, 0, x.shape[axis] + more)
    return x


def torch_step(
    run: Callable[..., tuple[Tensor, ...]],
    start: Sequence[Tensor | None],
    dtype: torch.dtype = torch.float32,
) -> Step:
    """Wrap a function of torch tensors of a type as a step; see `as_step`."""

    def run_arrays(src: Any, *states: Any) -> list[Any]:
        given = (None if each is None else torch.as_tensor(each) for each in states)
        with torch.inference_mode():
            fgr, pha, *after = run(torch.from_numpy(src).to(dtype), *given)
        return [each.numpy() for each in (fgr.float(), pha.float(), *after)]

    return as_step(run_arrays, start)


def in_precision(network: MattingNetwork, precision: str) -> MattingNetwork:
    """Copy a network for inference in another precision."""
    return copy.deepcopy(network).eval().to(DTYPES[precision])


def first_inputs(
    network: MattingNetwork, size: tuple[int, int], ratio: float
) -> tuple[Tensor, ...]:
    """Make a black frame and states of zeros, with the shapes that a step takes."""
    dtype = next(network.parameters()).dtype
    src = torch.zeros(1, 3, *size, dtype=dtype)
    with torch.inference_mode():
        _, _, *states = network(src, downsample_ratio=ratio)
    return src, *(torch.zeros(state.shape, dtype=dtype) for state in states)
