"""Fit the deep guided filter of trained weights, and nothing else of them.

    python scripts/fit_filter.py WEIGHTS OUT --teacher WEIGHTS --shards TAR...

What the network gives at the small size does not change while only its filter learns,
so that is computed once, and the filter, 740 parameters, is fitted for many steps to
crops with edges in them: of composites of cut-outs, to their exact alpha, and of
enlarged photos and frames, to what the teacher makes of them at full size. Cut-outs of
the shards are small and soft; their alpha is made steeper by a random factor before it
is composited, so that there are crisp edges to learn from. Behind them are railings and
stripes, or something out of focus and a camera's noise, which steep slopes make
visible.

Each crop's error counts in units of what the fast guided filter leaves of it, which has
nothing to learn: otherwise the hardest crops are all that counts.

Variances and covariances of a picture are a hundredth of the decoder's features. They
need weights of a hundred, where no optimiser with a step of its own size arrives from
one. So what learns is the weight of each input in units of that input.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from fit_blocks import Soap, descend
from ground_truth import bars
from numpy.random import Generator
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations
from tqdm import tqdm

from rematte.errors import InputError, end
from rematte.network.guided_filter import (
    DeepGuidedFilter,
    FastGuidedFilter,
    refine,
    shrink,
)
from rematte.network.matting_network import MattingNetwork
from rematte.train.augment import Layers, composite, stripes
from rematte.train.batches import matte_sample
from rematte.train.data import Index, decode, index
from rematte.train.distill import capture
from rematte.train.recipe import NO_AUGMENT, Data
from rematte.weights.load import load_network

SIZES = ((1088, 1088), (1088, 1440), (1440, 1088))
# Of crops: the side at the small size, a unit there, and how many pixels it shows.
CROPS = {0.25: (64, 1, 4), 0.5: (112, 1, 2)}
STEEP = (1, 2, 3, 3, 4)  # what alpha's slope is multiplied with
WARM = 3  # times a picture is shown, so that the recurrent state settles
LOST = 0.05  # a picture whose mean alpha is so wrong teaches the filter nothing
LEAST = 400  # shorter side of a photo or frame from which on it teaches [pixels]
TAUGHT = 0.4  # of pictures are of these
LARGER = (1.4, 2.4)  # by how much they are enlarged
NOISE = (0.002, 0.014)  # standard deviation
FROM_EACH = 5  # crops, at each ratio
BATCH = 6  # crops
SIGMA = 1.4  # of the slopes that the loss compares, as in the Grad metric [pixels]
HOW = replace(NO_AUGMENT, noise=0.05, sharpness=0.3, jpeg=0.05)
# Squared error of the slopes' lengths and of themselves; L1 of alpha and of colour.
WEIGHTS = torch.tensor([2.0, 0.3, 0.5, 0.15])


class Sample(NamedTuple):
    """Crops (N, C, H, W) of pictures, their truth, and what the network makes of it."""

    src: Tensor
    fgr: Tensor
    pha: Tensor
    picture: Tensor
    coarse: Tensor
    hidden: Tensor


def steeper(sample: dict[str, Tensor], factor: float) -> Layers:
    """Take a composite apart and give its layers with a crisper alpha."""
    src, fgr, pha = sample["src"], sample["fgr"], sample["pha"]
    behind = (src - pha * fgr) / (1 - pha).clamp(min=0.02)
    return Layers(fgr, ((pha - 0.5) * factor + 0.5).clamp(0, 1), behind.clamp(0, 1))


def drawn_over(found: Index, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a composite with crisp edges; give it, its foreground and its alpha."""
    size = SIZES[int(rng.integers(len(SIZES)))]
    sample = matte_sample(found, rng, 1, size, HOW)
    fgr, pha, behind = steeper(sample, float(rng.choice(STEEP)))
    kind = rng.random()
    if kind < 0.45:
        behind = railings(behind, rng)
    elif kind < 0.65:
        behind = stripes(behind, replace(HOW, stripes=1.0), rng)
    else:
        blur = int(rng.choice((16, 32, 64)))
        low = F.avg_pool2d(behind, blur, ceil_mode=True, count_include_pad=False)
        behind = F.interpolate(low, size, mode="bicubic").clamp(0, 1)
    src = composite(Layers(fgr, pha, behind))
    if kind >= 0.65:
        src = src + grain(size, rng) * float(rng.uniform(*NOISE))
    return src.clamp(0, 1), fgr, pha


def railings(behind: Tensor, rng: Generator) -> Tensor:
    """Put dark or light bars before a background (1, 3, H, W), mostly upright."""
    period, share = int(rng.integers(26, 90)), float(rng.uniform(0.15, 0.6))
    slope = float(rng.choice((0, 0, 0, rng.uniform(-1, 1))))
    size = behind.shape[-2], behind.shape[-1]
    if rng.random() < 0.6:
        colour = behind * float(rng.uniform(0.05, 0.5))
    else:
        colour = behind * 0.5 + float(rng.uniform(0.2, 0.5))
    return torch.lerp(behind, colour, bars(size, period, share, slope)[None])


def grain(size: tuple[int, int], rng: Generator) -> Tensor:
    """Noise of about 1, partly of all channels alike, and more or less soft."""
    torch.manual_seed(int(rng.integers(2**31)))
    noise = torch.randn(1, 1, *size) + 0.5 * torch.randn(1, 3, *size)
    return torch.lerp(noise, 2.2 * F.avg_pool2d(noise, 3, 1, 1), float(rng.random()))


def last_map(model: MattingNetwork, picture: Tensor, times: int) -> Tensor:
    """Give the decoder's last map of a picture (1, 3, H, W) that is shown so often."""
    hidden: Tensor
    states: list[Tensor | None] = [None] * 4
    for _ in range(times):
        f1, f2, f3, f4 = model.backbone(picture)
        features = f1, f2, f3, model.aspp(f4)
        hidden, *states = model.decoder(picture, features, tuple(states), 1)
    return hidden


def pictures(
    teacher: MattingNetwork, found: Index, count: int, rng: Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Give so many large pictures with foreground and alpha, (1, C, H, W) each."""
    items = found.people + found.masks
    order = iter([items[int(at)] for at in rng.permutation(len(items))])
    taught = round(TAUGHT * count)
    given = 0
    for item in order:
        if given == taught:
            break
        at = int(rng.integers(item.media.frames))
        x = torch.from_numpy(decode(item.media, [at], "RGB")).movedim(-1, 1) / 255
        if min(x.shape[-2:]) >= LEAST:
            by = float(rng.uniform(*LARGER))
            x = F.interpolate(x, scale_factor=by, mode="bicubic").clamp(0, 1)
            src = on_grid(x)
            states: list[Tensor | None] = [None] * 4
            for _ in range(WARM):
                fgr, pha, *states = teacher(src, *states)
            yield src, fgr, pha
            given += 1
    for _ in range(count - given):
        yield drawn_over(found, rng)


def on_grid(x: Tensor) -> Tensor:
    """Cut (..., H, W) to the network's coarsest scale: all ratios give whole pixels."""
    height, width = (side // 16 * 16 for side in x.shape[-2:])
    return x[..., :height, :width]


def crops(
    model: MattingNetwork, truth: tuple[Tensor, Tensor, Tensor], rng: Generator
) -> Iterator[Sample]:
    """Cut places out of a picture, mostly those with most of an edge in them.

    Nothing comes of a picture whose person the network does not find.
    """
    for ratio in CROPS:
        yield from crops_at(model, truth, ratio, rng)


def crops_at(
    model: MattingNetwork,
    truth: tuple[Tensor, Tensor, Tensor],
    ratio: float,
    rng: Generator,
) -> Iterator[Sample]:
    """Give those of `crops` at one ratio."""
    src, _, pha = truth
    side, unit, shown = CROPS[ratio]
    picture = shrink(src, ratio)
    most = [(length - side) // unit for length in picture.shape[-2:]]
    if min(most) < 0:
        return
    hidden = last_map(model, picture, WARM)
    coarse = model.project_mat(hidden)
    if abs(float(coarse[:, 3:].clamp(0, 1).mean() - pha.mean())) > LOST:
        return
    edge = ((pha > 0.02) & (pha < 0.98))[0, 0]

    def cut(x: Tensor, at: list[int], by: int) -> Tensor:
        (top, left), length = at, side // unit * by
        return x[..., top * by :, left * by :][..., :length, :length].clone()

    for _ in range(FROM_EACH):
        places = rng.integers(0, np.array(most) + 1, (6, 2)).tolist()
        amounts = [int(cut(edge, at, shown).sum()) for at in places]
        best = int(np.argmax(amounts)) if rng.random() < 0.85 else 0
        at = places[best]
        large = (cut(x, at, shown) for x in truth)
        yield Sample(*large, *(cut(x, at, unit) for x in (picture, coarse, hidden)))


def slopes(x: Tensor) -> Tensor:
    """Derivatives of a Gaussian-blurred (N, 1, H, W): (N, 2, H - 8, W - 8)."""
    at = torch.arange(-4.0, 5.0)
    bell = torch.exp(-at.square() / (2 * SIGMA**2))
    across = bell[:, None] * (at * bell)
    across = across / across.square().sum().sqrt()
    return F.conv2d(x, torch.stack([across, across.T])[:, None])


def errors(refiner: nn.Module, sample: Sample) -> Tensor:
    """What a filter leaves of crops, (N, 4); see `WEIGHTS`."""
    out = refine(sample.src, *refiner(sample.picture, sample.coarse, sample.hidden))
    # What lies beyond a crop would have reached two pixels of the small size.
    edge = 2 * math.ceil(sample.src.shape[-1] / sample.picture.shape[-1])
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    pha, true = out[:, 3:].clamp(0, 1)[inside], sample.pha[inside]
    mine, theirs = slopes(pha), slopes(true)
    long, right = ((x.square().sum(1) + 1e-8).sqrt() for x in (mine, theirs))
    wrong = (sample.src + out[:, :3]).clamp(0, 1) - sample.fgr
    parts = (
        (long - right).square(),
        (mine - theirs).square().sum(1),
        (pha - true).abs(),
        (wrong[inside] * (true > 0)).abs(),
    )
    return torch.stack([part.flatten(1).mean(1) for part in parts], 1)


class PerInput(nn.Module):
    """Weights of a convolution as those of inputs that were divided by their size."""

    def __init__(self, size: Tensor) -> None:
        super().__init__()
        self.size = size.view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Give the weights."""
        return x / self.size

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Give what learns."""
        return weight * self.size


@torch.no_grad()
def input_size(refiner: nn.Module, samples: list[Sample]) -> Tensor:
    """Root mean square of what the filter's first convolution gets, (C)."""
    squares = []
    for sample in samples:
        with capture(refiner, ["conv"]) as seen:
            refiner(sample.picture, sample.coarse, sample.hidden)
        ((x,), _) = seen["conv"]
        squares.append(x.square().mean((0, 2, 3)))
    return torch.stack(squares).mean(0).sqrt().clamp(min=1e-4)


def fit(
    refiner: DeepGuidedFilter, samples: list[Sample], seconds: float, rate: float
) -> int:
    """Fit to crops for some time, the rate annealed at last; give the steps taken."""
    first = refiner.conv[0]
    register_parametrization(first, "weight", PerInput(input_size(refiner, samples)))
    refiner.requires_grad_(True)
    groups: dict[torch.Size, list[tuple[Sample, Tensor]]] = {}
    for sample in samples:
        fast = errors(FastGuidedFilter(16), sample)
        groups.setdefault(sample.picture.shape, []).append((sample, fast))
    kinds = list(groups.values())
    means = [torch.cat([fast for _, fast in kind]).mean(0) for kind in kinds]
    share = np.array([len(kind) for kind in kinds]) / len(samples)
    rng = np.random.default_rng(0)

    def step() -> Tensor:
        which = int(rng.choice(len(kinds), p=share))
        kind = kinds[which]
        chosen = [kind[int(at)] for at in rng.integers(0, len(kind), BATCH)]
        parts = [sample for sample, _ in chosen]
        fast = torch.cat([unit for _, unit in chosen])
        found = errors(refiner, Sample(*map(torch.cat, zip(*parts, strict=True))))
        # The mean of all holds up where the fast filter leaves next to nothing.
        return (found / (0.5 * fast + 0.5 * means[which]) @ WEIGHTS).mean()

    steps = descend(Soap(list(refiner.parameters()), rate), step, seconds, 0.3, 1.0)
    remove_parametrizations(first, "weight")
    return steps


def write(weights: str, out: Path, name: str, layer: nn.Module) -> None:
    """Write weights in float16; all but the layer stays as it was, to the last bit."""
    state = load_file(weights)
    state |= {f"{name}.{k}": v.detach() for k, v in layer.state_dict().items()}
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    save_file({k: v.contiguous() for k, v in half.items()}, out, metadata)


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description="Fit the deep guided filter.")
    parser.add_argument("weights", help="safetensors to begin with")
    parser.add_argument("out", type=Path, help="safetensors to write, float16")
    parser.add_argument("--teacher", required=True, metavar="WEIGHTS")
    parser.add_argument("--shards", nargs="+", required=True, metavar="TAR")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model, teacher = load_network(options.weights), load_network(options.teacher)
    if not isinstance(model.refiner, DeepGuidedFilter):
        raise InputError(f"{options.weights} has no deep guided filter to fit")
    trained, _ = index(Data(shards=tuple(options.shards))).split(Data().held_out)
    rng = np.random.default_rng(options.seed)
    drawn = pictures(teacher, trained, options.pictures, rng)
    truths = tqdm(drawn, "pictures", options.pictures)
    samples = [sample for truth in truths for sample in crops(model, truth, rng)]
    steps = fit(model.refiner, samples, 60 * options.minutes, options.rate)
    write(options.weights, options.out, "refiner", model.refiner)
    print(f"{options.out}: {steps} steps, {len(samples)} crops")
    return 0


if __name__ == "__main__":
    end(main)
