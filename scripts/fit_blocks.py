"""Fit a student to a teacher of the same variant, one block after the other.

    python scripts/fit_blocks.py OUT --teacher WEIGHTS --shards '../shared/train/*.tar'

What a teacher's block gets and gives does not change while one of the student learns,
so it is computed once and kept, and many small steps of each block alone are cheap: in
ten minutes of one core a block sees more of them than in a day of training the whole.
Blocks that only the next one listens to are fitted together with it, so that nothing is
asked of the student but what the rest of the network needs.

Each block's result lies in OUT until all are there, and a run that was stopped goes on
with the block it was at. Two runs with other `--only` share the work between two cores.
Then the encoder's blocks learn together, each fed by the one before it; after that
`OUT/weights.safetensors` is written, with which `fit_native.py` goes on. For a CPU and
the mobilenetv3 variant.
"""

import argparse
import copy
import math
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.random import Generator
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm, trange

from rematte.errors import end
from rematte.network.matting_network import MattingNetwork
from rematte.network.parts import folded
from rematte.train.batches import distill_sample
from rematte.train.data import Index, index
from rematte.train.distill import Seen, capture
from rematte.train.recipe import Augment, Data, Phase
from rematte.weights.load import load_network

Names = tuple[str, ...]
Example = tuple[tuple[Tensor, ...], Tensor]

# What is fitted together; its share of the time, about as its cost; how much smaller
# than the picture its map is.
PARTS: dict[Names, tuple[int, int]] = {
    ("backbone.features.0", "backbone.features.1"): (3, 2),
    **{(f"backbone.features.{number}",): (3, 4) for number in (2, 3)},
    **{(f"backbone.features.{number}",): (3, 8) for number in (4, 5, 6)},
    **{(f"backbone.features.{number}",): (3, 16) for number in (7, 8, 9)},
    **{(f"backbone.features.{number}",): (12, 16) for number in range(10, 16)},
    ("backbone.features.16", "aspp"): (6, 16),
    ("decoder.decode4",): (4, 16),
    ("decoder.decode3",): (7, 8),
    ("decoder.decode2",): (7, 4),
    ("decoder.decode1",): (7, 2),
    ("decoder.decode0", "project_mat"): (4, 1),
}
SIZES = (
    *((192, 256), (256, 192), (224, 224), (256, 256), (288, 192), (160, 288)),
    *((320, 240), (240, 320), (384, 288), (288, 384), (384, 512), (288, 512)),
)
CLIP_SIZES = ((256, 256), (192, 320), (320, 192), (288, 384), (384, 288), (288, 512))
HELD_OUT = 25  # one of so many examples is never fitted to
PIXELS = 100_000  # per step at the picture's size, half as many at half its sides
MIXED = Augment(blur=0.03, noise=0.15)
# A third of the examples only moves, as most footage is clean.
CLEAN = Augment(
    blur=0.0, noise=0.0, colour=0.0, grayscale=0.0, sharpness=0.0, jpeg=0.0, stripes=0.0
)
PHASE = Phase("blocks", "blocks", clips=0.4, truth=0.1, empty=0.08)

FEW = 6  # the largest maps are kept of one in so many pictures: they have pixels enough
CROPS = {2: 64, 1: 96, 0: 128}  # pixels that are kept of the decoder's larger maps
MARGIN = 4  # pixels that a decoder block looks around
TAPS = (0, 2, 5)  # parts of the encoder whose maps the decoder takes, but for the last


class Part(nn.Module):
    """Blocks of a network that are fitted together; shares their parameters."""

    def __init__(self, network: MattingNetwork, names: Names) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(network.get_submodule(name) for name in names)
        recurrent = names[0].startswith("decoder.") and names[0] != "decoder.decode0"
        self.more = (1,) if recurrent else ()  # frames per clip

    def forward(self, *arguments: Tensor | None) -> Tensor:
        """Run the blocks, each on what the one before gave."""
        values: Any = (*arguments, *self.more)
        for block in self.blocks:
            out = block(*values)
            values = (out[0] if isinstance(out, tuple) else out,)
        return cast(Tensor, values[0])


def _filter_gradient(
    x: np.ndarray[Any, Any], grad: np.ndarray[Any, Any], size: int, dilation: int
) -> np.ndarray[Any, Any]:
    """Gradient of a depthwise convolution's weights, (size * size, C).

    Args:
        x: Padded input, (N, H', W', C).
        grad: Of the output, (N, H, W, C).
        size: Of the kernel.
        dilation: Of the kernel.
    """
    _, height, width, channels = grad.shape
    out = np.zeros((size * size, channels), np.float32)
    for seen, g in zip(x, grad, strict=True):
        for tap in range(size * size):
            top, left = tap // size * dilation, tap % size * dilation
            window = seen[top : top + height, left : left + width]
            out[tap] += np.einsum("hwc,hwc->c", window, g)
    return out


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution of stride 1: torch's gradient takes five times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, at: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = at
        pad = weight.shape[-1] // 2 * at
        return F.conv2d(x, weight, bias, 1, pad, at, len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        size, dilation = weight.shape[-1], ctx.dilation
        pad = size // 2 * dilation
        back = F.conv2d(grad, weight.flip(2, 3), None, 1, pad, dilation, len(weight))
        taps = _filter_gradient(
            F.pad(x.permute(0, 2, 3, 1), [0, 0, pad, pad, pad, pad]).numpy(),
            grad.permute(0, 2, 3, 1).numpy(),
            size,
            dilation,
        )
        filters = torch.from_numpy(taps).T.reshape(weight.shape)
        return back, filters, grad.sum((0, 2, 3)), None


class _Pointwise(torch.autograd.Function):
    """A 1x1 convolution as products of bfloat16 matrices, summed in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        half, weights = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(half, weights)
        return F.linear(half, weights).float() + bias

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grads[0]
        half = grad.bfloat16()
        back = (half @ weight).float() if ctx.needs_input_grad[0] else None
        return back, (half.T @ x).float(), grad.sum(0)


class FastConv(nn.Module):
    """A convolution with a bias whose gradients are computed as above."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution."""
        weight, bias = self.conv.weight, cast(Tensor, self.conv.bias)
        x = x.contiguous(memory_format=torch.channels_last)
        if self.conv.groups > 1:
            return _Depthwise.apply(x, weight, bias, self.conv.dilation[0])  # type: ignore[no-any-return, no-untyped-call]
        rows = x.permute(0, 2, 3, 1)
        y: Tensor = _Pointwise.apply(rows.flatten(0, 2), weight.flatten(1), bias)  # type: ignore[no-untyped-call]
        return y.view(*rows.shape[:3], -1).permute(0, 3, 1, 2)


def foldable(network: nn.Module) -> Iterator[tuple[nn.Sequential, int]]:
    """Find each BatchNorm behind a convolution: its row of layers, and where."""
    for row in network.modules():
        if isinstance(row, nn.Sequential):
            for at, layer in enumerate(row):
                if isinstance(layer, nn.BatchNorm2d):
                    yield row, at


def unfold(part: nn.Module, state: dict[str, Tensor]) -> None:
    """Write a folded copy's parameters back; BatchNorms only add a bias then."""
    for row, at in foldable(part):
        norm = cast(nn.BatchNorm2d, row[at])
        norm.running_mean.zero_()  # type: ignore[union-attr]
        # Not a weight of sqrt(1 + eps): in half precision that is off by 5e-4.
        norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]
        nn.init.constant_(norm.weight, 1)
    own = part.state_dict()
    for name, value in state.items():
        if name not in own:
            before, number, leaf = name.rsplit(".", 2)
            name = f"{before}.{int(number) + 1}.{leaf}"
        own[name].copy_(value)


def quick(part: nn.Module) -> nn.Module:
    """Share a folded part's parameters, with the slow convolutions replaced."""
    part = copy.copy(part)
    part._modules = {
        name: _quick_layer(child) if child is not None else None
        for name, child in part._modules.items()
    }
    return part


def _quick_layer(layer: nn.Module) -> nn.Module:
    if not isinstance(layer, nn.Conv2d):
        return quick(layer)
    point = layer.kernel_size == (1, 1) and layer.in_channels * layer.out_channels > 256
    depthwise = layer.groups == layer.in_channels and layer.stride == (1, 1)
    plain = layer.bias is not None and layer.groups in (1, layer.in_channels)
    return FastConv(layer) if plain and (point or depthwise) else layer


class Kept:
    """Examples of one part: its arguments and the teacher's output, in half precision.

    Args:
        margin: Pixels at the edges of an output that do not count: of a map that was
            cut out of a larger one, the teacher saw more.
    """

    def __init__(self, margin: int = 0) -> None:
        self.margin = margin
        self._groups: dict[Any, list[list[Tensor | None]]] = {}

    def add(self, arguments: tuple[Tensor | None, ...], target: Tensor) -> None:
        """Keep one example, (1, C, H, W) each."""
        values = [v if v is None else v.half().clone() for v in (*arguments, target)]
        group = target.shape, *(v is None for v in values)
        self._groups.setdefault(group, []).append(values)

    def held_out(self) -> Iterator[Example]:
        """Give the examples that are not fitted to, those of a size at once."""
        for group in self._groups.values():
            yield self._stack(group[: max(1, len(group) // HELD_OUT)])

    def draw(self, rng: Generator, pixels: float) -> Example:
        """Give so many pixels of examples of one size."""
        groups = [g for g in self._groups.values() if len(g) > 1]
        sizes = np.array([len(g) for g in groups], float)
        group = groups[int(rng.choice(len(groups), p=sizes / sizes.sum()))]
        first = max(1, len(group) // HELD_OUT)
        area = cast(Tensor, group[0][-1])[0, 0].numel()
        chosen = rng.integers(first, len(group), max(1, round(pixels / area)))
        return self._stack([group[int(at)] for at in chosen])

    def _stack(self, chosen: list[list[Tensor | None]]) -> Example:
        values = tuple(
            None if column[0] is None else batched(cast(list[Tensor], column))
            for column in map(list, zip(*chosen, strict=True))
        )
        return cast(Example, (values[:-1], values[-1]))

    def trim(self, x: Tensor) -> Tensor:
        """Leave the margin out of (N, C, H, W)."""
        m = self.margin
        return x[:, :, m : x.shape[2] - m, m : x.shape[3] - m]


def batched(values: list[Tensor]) -> Tensor:
    """Put (1, C, H, W) each together, in float32 and channels last."""
    return torch.cat(values).float().contiguous(memory_format=torch.channels_last)


def per_channel(maps: list[Tensor]) -> Tensor:
    """Weights (C, 1, 1) that make a squared error one over each channel's variance."""
    variance = torch.cat([y.transpose(0, 1).flatten(1) for y in maps], 1).var(1)
    return 1 / (variance + 0.01 * variance.mean() + 1e-8).view(-1, 1, 1)


class Soap(torch.optim.Optimizer):
    """Adam in the eigenbasis of the gradient's covariance, on both sides of a matrix.

    Channels of a map go up and down together, and Adam, which looks at each weight
    alone, is slow then: it took a fifth of a decoder block's error away in the time in
    which this took a third. Convolutions are matrices of outputs by inputs and taps.

    Args:
        parameters: Learn.
        rate: Of learning.
        every: Steps between two looks at the basis.

    Source:
        Vyas et al., SOAP: Improving and Stabilizing Shampoo using Adam, 2024.
    """

    BETA = 0.95  # of all running means

    def __init__(
        self, parameters: list[nn.Parameter], rate: float, every: int = 10
    ) -> None:
        super().__init__(parameters, {"lr": rate})
        self.every = every

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step; the first only looks at the gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._learn(parameter, group["lr"])

    def _learn(self, parameter: nn.Parameter, rate: float) -> None:
        grad = cast(Tensor, parameter.grad)
        grad = grad.flatten(1) if grad.dim() > 1 else grad[:, None]
        sides = (grad @ grad.T, grad.T @ grad) if parameter.dim() > 1 else ()
        state = self.state[parameter]
        if not state:
            bases = [torch.linalg.eigh(side)[1].flip(1) for side in sides]
            state.update(step=0, sides=sides, bases=bases)
            state.update(mean=torch.zeros_like(grad), square=torch.zeros_like(grad))
            return
        state["step"] += 1

        def turned(x: Tensor, back: bool) -> Tensor:
            for at, basis in enumerate(state["bases"]):
                basis = basis if back else basis.T
                x = basis @ x if at == 0 else x @ basis.T
            return x

        share = 1 - self.BETA
        state["mean"].lerp_(grad, share)
        inside = turned(grad, False)
        state["square"].lerp_(inside.square(), share)
        seen = 1 - self.BETA ** state["step"]
        root = (state["square"] / seen).sqrt() + 1e-8
        change = turned(turned(state["mean"], False) / seen / root, True)
        parameter.sub_(change.view_as(parameter), alpha=rate)
        for mean, side in zip(state["sides"], sides, strict=True):
            mean.lerp_(side, share)
        if state["step"] % self.every == 0:
            self._look(state)

    @staticmethod
    def _look(state: dict[str, Any]) -> None:
        """Turn the bases by a step of the power iteration."""
        for at, (side, basis) in enumerate(
            zip(state["sides"], state["bases"], strict=True)
        ):
            product = side @ basis
            order = (basis * product).sum(0).argsort(descending=True)
            state["square"] = state["square"].index_select(at, order)
            state["bases"][at] = torch.linalg.qr(product[:, order])[0]


@torch.enable_grad()
def descend(
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Tensor],
    seconds: float,
    constant: float,
    limit: float = math.inf,
) -> int:
    """Take steps, the rate constant at first and then annealed by a cosine.

    Args:
        optimizer: With one group of parameters, and the rate at first.
        loss: Of a new draw each time.
        seconds: For how long.
        constant: Share of the time in which it stays.
        limit: Of the gradient's norm.

    Returns:
        Number of steps.
    """
    (group,) = optimizer.param_groups
    rate = group["lr"]
    begin, step = time.perf_counter(), 0
    while (gone := (time.perf_counter() - begin) / seconds) < 1:
        late = max(0.0, (gone - constant) / (1 - constant))
        falling = 0.5 * (1 + math.cos(math.pi * late))
        group["lr"] = rate * falling * min(1, (step + 1) / 50)
        optimizer.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_norm_(group["params"], limit)
        optimizer.step()
        step += 1
    return step


def fit(part: nn.Module, kept: Kept, seconds: float, rate: float, pixels: float) -> str:
    """Fit one part alone.

    Args:
        part: Folded; learns.
        kept: What it is to learn.
        seconds: For how long.
        rate: Of learning, at first.
        pixels: Of output per step.

    Returns:
        Its error before and after: squared, over the target's variance.
    """
    fast = quick(part)
    held = list(kept.held_out())
    weight = per_channel([kept.trim(y) for _, y in held])
    rng = np.random.default_rng(0)

    def loss(example: Example) -> Tensor:
        out = fast(*example[0])
        return (kept.trim(out - example[1]).square() * weight).mean()

    @torch.no_grad()
    def error() -> float:
        counts = [y[:, 0].numel() for _, y in held]
        errors = [float(loss(e)) * n for e, n in zip(held, counts, strict=True)]
        return sum(errors) / sum(counts)

    before = error()
    optimizer = torch.optim.Adam(part.parameters(), rate, betas=(0.9, 0.98))
    steps = descend(optimizer, lambda: loss(kept.draw(rng, pixels)), seconds, 0.4)
    return f"{before:.4f} to {error():.4f} in {steps} steps"


def fit_chain(
    student: MattingNetwork,
    teacher: MattingNetwork,
    pictures: list[Tensor],
    seconds: float,
    rate: float,
) -> str:
    """Fit the encoder's parts together, each fed by the student's one before.

    Args:
        student: Learns; its BatchNorms only add a bias afterwards.
        teacher: Of the same variant.
        pictures: As `draw_pictures` gives them.
        seconds: For how long.
        rate: Of learning, at first.

    Returns:
        The last map's error before and after.
    """
    names = [part for part in PARTS if not part[0].startswith("decoder.")]
    mine = [folded(Part(student, part)).requires_grad_(True) for part in names]
    fast, theirs = [quick(m) for m in mine], [Part(teacher, part) for part in names]
    groups = [pictures[at :: len(SIZES)] for at in range(len(SIZES))]
    groups = [group for group in groups if len(group) > 1]
    rng = np.random.default_rng(0)

    def maps(parts: list[nn.Module] | list[Part], x: Tensor) -> list[Tensor]:
        return [x := part(x) for part in parts]

    held = [normalized(teacher, g[: max(1, len(g) // 200)]) for g in groups]
    targets = [maps(theirs, x) for x in held]
    weights = [per_channel(list(ys)) for ys in zip(*targets, strict=True)]
    # The decoder hears the last map and the taps; the others only help them.
    counts = torch.tensor([1.0 if at in TAPS else 0.3 for at in range(len(names))])
    counts[-1] = 3.0

    def errors(x: Tensor, ys: list[Tensor]) -> Tensor:
        pairs = zip(maps(fast, x), ys, weights, strict=True)
        return torch.stack([((a - b).square() * w).mean() for a, b, w in pairs])

    def loss() -> Tensor:
        group = groups[int(rng.integers(len(groups)))]
        count = max(1, round(8 * PIXELS / group[0][0, 0].numel()))
        first = max(1, len(group) // 200)
        chosen = rng.integers(first, len(group), count)
        x = normalized(teacher, [group[int(at)] for at in chosen])
        with torch.no_grad():
            ys = maps(theirs, x)
        return errors(x, ys) @ counts

    @torch.no_grad()
    def last() -> float:
        pairs = zip(held, targets, strict=True)
        return float(torch.stack([errors(x, ys)[-1] for x, ys in pairs]).mean())

    before = last()
    parameters = [p for m in mine for p in m.parameters()]
    steps = descend(Soap(parameters, rate, 20), loss, seconds, 0.0, 5.0)
    after = last()
    for part, own in zip(names, mine, strict=True):
        unfold(Part(student, part), own.state_dict())
    return f"{before:.4f} to {after:.4f} in {steps} steps"


def draw_pictures(found: Index, count: int, seed: int) -> list[Tensor]:
    """Draw pictures in turn of each size, (1, 3, H, W), 8-bit."""
    pictures = []
    for number in trange(count, desc="pictures", leave=False):
        rng = np.random.default_rng((seed, number))
        how = MIXED if number // len(SIZES) % 3 else CLEAN
        size = SIZES[number % len(SIZES)]
        src = distill_sample(found, rng, 1, size, how, PHASE)["src"]
        pictures.append((src.clamp(0, 1) * 255).round().byte())
    return pictures


def normalized(teacher: MattingNetwork, pictures: list[Tensor]) -> Tensor:
    """Give 8-bit pictures of one size as the encoder's first layer takes them."""
    mean, std = cast(Tensor, teacher.backbone.mean), cast(Tensor, teacher.backbone.std)
    return (batched(pictures) / 255 - mean) / std


def encoder_examples(
    teacher: MattingNetwork, pictures: list[Tensor], only: set[Names]
) -> Iterator[tuple[Names, Kept]]:
    """Give what each part of the encoder is to learn, one after the other."""
    names = [part for part in PARTS if not part[0].startswith("decoder.")]
    parts = [Part(teacher, part) for part in names]
    last = max((names.index(part) for part in only if part in names), default=-1)

    def run(chosen: list[Tensor], begin: int, end: int) -> list[Tensor]:
        maps = []
        for x in tqdm(chosen, desc="teacher", leave=False):
            y = normalized(teacher, [x]) if begin == 0 else x.float()
            for part in parts[begin:end]:
                y = part(y)
            maps.append(y.half())
        return maps

    # The first four give or take maps at a quarter of the picture's sides or more.
    for begin, chosen in ((0, pictures[::FEW]), (4, pictures)):
        if last < begin:
            return
        maps = run(chosen, 0, begin) if begin else chosen
        for at in range(begin, 4 if begin == 0 else last + 1):
            targets = run(maps, at, at + 1)
            if names[at] in only:
                kept = Kept()
                for x, y in zip(maps, targets, strict=True):
                    kept.add((normalized(teacher, [x]) if at == 0 else x,), y)
                yield names[at], kept
            maps = targets


def decoder_examples(
    teacher: MattingNetwork, found: Index, clips: int, seed: int
) -> dict[Names, Kept]:
    """Give what the parts of the decoder are to learn: later frames, and a few first.

    The state before is the teacher's, so that no frame depends on the student's.
    """
    names = [part for part in PARTS if part[0].startswith("decoder.")]
    all_kept = {
        part: Kept(MARGIN if int(part[0][-1]) in CROPS else 0) for part in names
    }
    for number in trange(clips, desc="clips", leave=False):
        rng = np.random.default_rng((seed, 1, number))
        how, size = MIXED if number % 3 else CLEAN, CLIP_SIZES[number % len(CLIP_SIZES)]
        time = 4 if number % 2 else 2
        frames = distill_sample(found, rng, time, size, how, PHASE)["src"]
        state: list[Tensor | None] = [None] * 4
        for at, frame in enumerate(frames):
            before = state
            blocks = [part[0] for part in names] + ["project_mat"]
            with capture(teacher, blocks) as seen:
                _, _, *state = teacher(frame[None], *before)
            if at == time - 1 or (at == 0 and number % 4 == 0):
                for part, kept in all_kept.items():
                    _keep(kept, int(part[0][-1]), seen, before, rng)
    return all_kept


def _keep(
    kept: Kept, level: int, seen: Seen, states: list[Tensor | None], rng: Generator
) -> None:
    """Keep one frame of a decoder block, the larger maps cut at random."""
    arguments, target = seen[f"decoder.decode{level}"]
    if level == 0:
        target = seen["project_mat"][1]
    if level == 4:
        kept.add((arguments[0], states[3]), target)
        return
    height, width = target.shape[2:]
    side = CROPS.get(level, max(height, width))
    top, left = (
        2 * int(rng.integers(0, max(1, (whole - side) // 2 + 1)))
        for whole in (height, width)
    )
    half = np.s_[:, :, top // 2 : (top + side) // 2, left // 2 : (left + side) // 2]
    full = np.s_[:, :, top : top + side, left : left + side]
    state = [states[level - 1]] if level else []
    tensors = [arguments[0][half], *(a[full] for a in arguments[1 : 3 if level else 2])]
    kept.add((*tensors, *(s if s is None else s[full] for s in state)), target[full])


def examples(
    teacher: MattingNetwork,
    found: Index,
    pictures: Callable[[], list[Tensor]],
    only: set[Names],
    options: argparse.Namespace,
) -> Iterator[tuple[Names, Kept]]:
    """Give what each of the parts is to learn, one after the other."""
    encoder = {part for part in only if not part[0].startswith("decoder.")}
    if encoder:
        yield from encoder_examples(teacher, pictures(), encoder)
    if only - encoder:
        kept = decoder_examples(teacher, found, options.clips, options.seed)
        yield from ((part, kept[part]) for part in kept if part in only)


def save(part: nn.Module, target: Path) -> None:
    """Write a part's parameters, whole or not at all."""
    torch.save(part.state_dict(), target.with_suffix(".part"))
    target.with_suffix(".part").replace(target)


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description="Fit a student block by block.")
    parser.add_argument("out", type=Path, help="folder of the parts and the weights")
    parser.add_argument("--teacher", required=True, metavar="WEIGHTS")
    parser.add_argument("--start", metavar="WEIGHTS", help="default: random numbers")
    parser.add_argument("--shards", nargs="+", required=True, metavar="TAR")
    parser.add_argument("--minutes", type=float, default=170, help="of fitting parts")
    parser.add_argument(
        "--together", type=float, default=15, help="and then of the encoder"
    )
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--clips", type=int, default=700)
    parser.add_argument("--only", nargs="+", metavar="PART", help="first name of each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    only = {p for p in PARTS if options.only is None or p[0] in options.only}
    options.out.mkdir(parents=True, exist_ok=True)
    student = MattingNetwork("mobilenetv3").eval()
    if options.start:
        student = load_network(options.start)
    teacher = load_network(options.teacher)
    found, _ = index(Data(shards=tuple(options.shards))).split(Data().held_out)
    torch.set_flush_denormal(True)  # on a CPU they are a hundred times slower
    todo = {part for part in only if not (options.out / f"{part[0]}.pt").exists()}
    # Drawn when the first asks, and not again.
    pictures = cache(partial(draw_pictures, found, options.pictures, options.seed))
    for names, kept in examples(teacher, found, pictures, todo, options):
        part = folded(Part(student, names)).requires_grad_(True)
        share, scale = PARTS[names]
        seconds = 60 * options.minutes * share / sum(s for s, _ in PARTS.values())
        rate = 1e-3 if names[0].startswith("decoder.") else 5e-3
        told = fit(part, kept, seconds, rate, PIXELS / scale)
        save(part, options.out / f"{names[0]}.pt")
        print(f"{' and '.join(names)}: error {told}", flush=True)
    missing = [p[0] for p in PARTS if not (options.out / f"{p[0]}.pt").exists()]
    if missing:
        print(f"not fitted yet: {', '.join(missing)}")
        return 0
    for names in PARTS:
        fitted = torch.load(options.out / f"{names[0]}.pt", weights_only=True)
        unfold(Part(student, names), fitted)
    seconds = 60 * options.together
    told = fit_chain(student, teacher, pictures(), seconds, 1.5e-4)
    print(f"encoder: error {told}", flush=True)
    out = options.out / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in student.state_dict().items()}, out)
    print(out)
    return 0


if __name__ == "__main__":
    end(main)
