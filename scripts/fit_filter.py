"""Fit the deep guided filter of trained weights, and nothing else of them.

    python scripts/fit_filter.py WEIGHTS OUT --shards '../shared/train/*.tar'

What the network gives at the small size does not change while only its filter learns,
so it is computed once for a few large composites of cut-outs, and the filter, 700
parameters, is fitted to their exact alpha for many steps. Cut-outs of the shards are
small and soft; their alpha is made steeper by a random factor before it is composited,
so that there are crisp edges to learn from. Stripes lie over most backgrounds.

Variances and covariances of a picture are a hundredth of the decoder's features. They
need weights of a hundred, where no optimiser with a step of its own size arrives from
one. So what learns is the weight of each input in units of that input.
"""

import argparse
import math
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from fit_blocks import Soap
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations
from tqdm import trange

from rematte.errors import InputError, end
from rematte.network import DeepGuidedFilter, MattingNetwork, refine, shrink
from rematte.train.augment import Layers, composite
from rematte.train.batches import matte_sample
from rematte.train.data import Index, index
from rematte.train.distill import capture
from rematte.train.losses import pyramid_loss
from rematte.train.settings import Augment, Data
from rematte.weights import load_network

SIZES = ((896, 896), (768, 1024))
RATIOS = (0.25, 0.25, 0.35, 0.5)
STEEP = (1, 2, 4, 8)  # what alpha's slope is multiplied with
WARM = 3  # times a picture is shown, so that the recurrent state settles
LOST = 0.05  # a sample whose mean alpha is so wrong teaches the filter nothing
HOW = Augment(
    motion=0.0, time=0.0, noise=0.05, sharpness=0.3, blur=0.0, jpeg=0.05, stripes=0.6
)


class Sample(NamedTuple):
    """A composite (1, C, H, W) with its truth, and what the network makes of it."""

    src: Tensor
    fgr: Tensor
    pha: Tensor
    picture: Tensor
    coarse: Tensor
    hidden: Tensor


def steeper(sample: dict[str, Tensor], factor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Composite again with a crisper alpha.

    Returns:
        The composite, foreground and alpha.
    """
    src, fgr, pha = sample["src"], sample["fgr"], sample["pha"]
    behind = (src - pha * fgr) / (1 - pha).clamp(min=0.02)
    crisp = ((pha - 0.5) * factor + 0.5).clamp(0, 1)
    layers = Layers(fgr, crisp, behind.clamp(0, 1))
    return composite(layers), fgr, crisp


def last_map(model: MattingNetwork, picture: Tensor, times: int) -> Tensor:
    """Give the decoder's last map of a picture (1, 3, H, W) that is shown so often."""
    hidden: Tensor
    states: list[Tensor | None] = [None] * 4
    for _ in range(times):
        f1, f2, f3, f4 = model.backbone(picture)
        features = f1, f2, f3, model.aspp(f4)
        hidden, *states = model.decoder(picture, features, tuple(states), 1)
    return hidden


@torch.no_grad()
def make_sample(
    model: MattingNetwork, found: Index, rng: np.random.Generator
) -> Sample | None:
    """Draw a sample; None if the network does not find the person."""
    size = SIZES[int(rng.integers(len(SIZES)))]
    drawn = matte_sample(found, rng, 1, size, HOW)
    src, fgr, pha = steeper(drawn, float(rng.choice(STEEP)))
    picture = shrink(src, float(rng.choice(RATIOS)))
    hidden = last_map(model, picture, WARM)
    coarse = model.project_mat(hidden)
    if abs(float(coarse[:, 3:].clamp(0, 1).mean() - pha.mean())) > LOST:
        return None
    return Sample(src, fgr, pha, picture, coarse, hidden)


def slope(x: Tensor) -> Tensor:
    """Magnitude of the gradient of (N, 1, H, W), by central differences."""
    across = x[..., 1:-1, 2:] - x[..., 1:-1, :-2]
    down = x[..., 2:, 1:-1] - x[..., :-2, 1:-1]
    return (across.square() + down.square() + 1e-8).sqrt()


def loss(model: MattingNetwork, sample: Sample) -> Tensor:
    """Alpha: 5 L1 + 2 pyramid + 20 squared error of slopes; foreground: 3 L1."""
    a, b = model.refiner(sample.picture, sample.coarse, sample.hidden)
    out = refine(sample.src, a, b)
    pha = out[:, 3:].clamp(0, 1)
    fgr = (sample.src + out[:, :3]).clamp(0, 1)
    seen = sample.pha > 0
    return (
        5 * F.l1_loss(pha, sample.pha)
        + 2 * pyramid_loss(pha[:, None], sample.pha[:, None])
        + 20 * F.mse_loss(slope(pha), slope(sample.pha))
        + 3 * F.l1_loss(fgr * seen, sample.fgr * seen)
    )


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
def input_size(model: MattingNetwork, samples: list[Sample]) -> Tensor:
    """Root mean square of what the filter's first convolution gets, (C)."""
    squares = []
    for sample in samples:
        with capture(model.refiner, ["conv"]) as seen:
            model.refiner(sample.picture, sample.coarse, sample.hidden)
        ((x,), _) = seen["conv"]
        squares.append(x.square().mean((0, 2, 3)))
    return torch.stack(squares).mean(0).sqrt().clamp(min=1e-4)


def fit(
    model: MattingNetwork, samples: list[Sample], steps: int, rate: float, seed: int
) -> None:
    """Fit, the rate annealed by a cosine."""
    first = cast(nn.Sequential, model.refiner.conv)[0]
    register_parametrization(first, "weight", PerInput(input_size(model, samples)))
    optimizer = Soap(list(model.refiner.parameters()), rate)
    rng = np.random.default_rng(seed)
    for step in trange(steps):
        factor = 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = rate * factor * min(1, (step + 1) / 20)
        optimizer.zero_grad()
        loss(model, samples[int(rng.integers(len(samples)))]).backward()
        optimizer.step()
    remove_parametrizations(first, "weight")


def write(weights: str, out: Path, name: str, layer: nn.Module) -> None:
    """Write weights in float16; all but the layer stays as it was, to the last bit."""
    state = load_file(weights)
    state |= {f"{name}.{k}": v.detach() for k, v in layer.state_dict().items()}
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    save_file({k: v.contiguous() for k, v in half.items()}, out, metadata)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fit the deep guided filter.")
    parser.add_argument("weights", help="safetensors to begin with")
    parser.add_argument("out", type=Path, help="safetensors to write, float16")
    parser.add_argument("--shards", nargs="+", required=True, metavar="TAR")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--rate", type=float, default=6e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = load_network(options.weights)
    if not isinstance(model.refiner, DeepGuidedFilter):
        raise InputError(f"{options.weights} has no deep guided filter to fit")
    trained, _ = index(Data(shards=tuple(options.shards))).split(Data().held_out)
    rng = np.random.default_rng(options.seed)
    drawn = [make_sample(model, trained, rng) for _ in trange(options.samples)]
    samples = [sample for sample in drawn if sample is not None]
    model.refiner.requires_grad_(True)
    fit(model, samples, options.steps, options.rate, options.seed)
    write(options.weights, options.out, "refiner", model.refiner)
    print(f"{options.out}: {len(samples)} of {len(drawn)} samples used")
    return 0


if __name__ == "__main__":
    end(main)
