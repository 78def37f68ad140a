"""Trains the guided filter on crops of edges at full size."""

import math
from collections.abc import Sequence

import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from rematte.network.guided_filter import FastGuidedFilter, refine, shrink
from rematte.network.matting_network import MattingNetwork
from rematte.train.blocks import capture, inside
from rematte.train.edges import cut_crops
from rematte.train.extras import Sample, Terms
from rematte.train.recipe import Phase

_WARM = 3  # repetitions of a picture until the recurrent state settles
_LOST = 0.05  # pictures with a larger mean error of alpha are skipped
_SIGMA = 1.4  # sigma of the gradients in the loss, as in the Grad metric [pixels]
# Squared error of the gradients' lengths and vectors; L1 of alpha and of colour.
_TERMS = {"length": 2.0, "slope": 0.3, "alpha": 0.5, "colour": 0.15}


def filter_examples(
    student: MattingNetwork, teacher: MattingNetwork, sample: Sample, phase: Phase,
    rng: Generator,
) -> Sample | None:  # fmt: skip
    """Compute inputs and targets of the guided filter in crops of one picture.

    The coarse output is the student's; the teacher labels pictures without true alpha
    at full size. The result is None if the picture is too small or nobody was found.
    """
    ratio = phase.ratio[int(rng.integers(2))]
    src, scale = sample["src"][:, -1], round(1 / ratio)
    picture = shrink(src, ratio)
    if min(picture.shape[-2:]) < phase.crop:
        return None
    fgr, pha = sample["fgr"][:, -1], sample["pha"][:, -1]
    if not sample["coloured"].item():
        fgr, pha = (x[:, -1] for x in teacher(_still(src))[:2])
    hidden = last_map(student, _still(picture))
    coarse = student.project_mat(hidden)
    if abs(float(coarse[:, 3:].clamp(0, 1).mean() - pha.mean())) > _LOST:
        return None
    maps = {
        "src": src[0], "fgr": fgr[0], "pha": pha[0], "picture": picture[0],
        "coarse": coarse[0], "hidden": hidden[0],
    }  # fmt: skip
    return cut_crops(maps, pha[0, 0], phase.crop * scale, scale, rng)


def _still(picture: Tensor) -> Tensor:
    return picture[:, None].expand(-1, _WARM, -1, -1, -1)


def last_map(network: MattingNetwork, src: Tensor) -> Tensor:
    """Return the decoder's last map of the last frame of (B, T, 3, H, W)."""
    with capture(network, ["project_mat"]) as seen:
        network(src)
    ((hidden,), _) = seen["project_mat"]
    return hidden.unflatten(0, src.shape[:2])[:, -1]  # type: ignore[no-any-return]


def filter_parts(refiner: nn.Module, sample: Sample) -> Tensor:
    """Return the four error terms of a filter's output in each crop, (N, 4)."""
    maps = refiner(sample["picture"], sample["coarse"], sample["hidden"])
    out = refine(sample["src"], *maps)
    # Pixels beyond a crop affect two pixels of the small size at its edges.
    edge = 2 * math.ceil(sample["src"].shape[-1] / sample["picture"].shape[-1])
    pha, true = inside(out[:, 3:].clamp(0, 1), edge), inside(sample["pha"], edge)
    mine, theirs = _slopes(pha), _slopes(true)
    long, right = ((x.square().sum(1) + 1e-8).sqrt() for x in (mine, theirs))
    wrong = (sample["src"] + out[:, :3]).clamp(0, 1) - sample["fgr"]
    parts = (
        (long - right).square(),
        (mine - theirs).square().sum(1),
        (pha - true).abs(),
        (inside(wrong, edge) * (true > 0)).abs(),
    )
    return torch.stack([part.flatten(1).mean(1) for part in parts], 1)


def _slopes(x: Tensor) -> Tensor:
    """Return derivatives of a Gaussian-blurred (N, 1, H, W): (N, 2, H - 8, W - 8)."""
    at = torch.arange(-4.0, 5.0, device=x.device)
    bell = torch.exp(-at.square() / (2 * _SIGMA**2))
    across = bell[:, None] * (at * bell)
    across = across / across.square().sum().sqrt()
    return F.conv2d(x, torch.stack([across, across.T])[:, None])


def filter_errors(student: MattingNetwork, sample: Sample, phase: Phase) -> Terms:
    """Return the error of the guided filter, relative to the fast guided filter.

    Without this normalisation only the hardest crops would count.
    """
    with torch.no_grad():
        fast = filter_parts(FastGuidedFilter(16), sample)
    # The mean bounds the ratio where the fast filter is nearly perfect.
    unit = 0.5 * fast + 0.5 * fast.mean(0) + 1e-8
    means = (filter_parts(student.refiner, sample) / unit).mean(0)
    return {name: means[at] * by for at, (name, by) in enumerate(_TERMS.items())}


@torch.no_grad()
def input_sizes(refiner: nn.Module, samples: Sequence[Sample]) -> Tensor:
    """Measure the root mean square of the first convolution's inputs, (1, C, 1, 1).

    Variances and covariances are about a hundredth of the decoder's features and need
    weights of about a hundred, which an optimiser with fixed step sizes does not reach
    from one. So the steps of each input's weights are scaled by its size.
    """
    squares = []
    for sample in samples:
        with capture(refiner, ["conv"]) as seen:
            refiner(sample["picture"], sample["coarse"], sample["hidden"])
        ((x,), _) = seen["conv"]
        squares.append(x.square().mean((0, 2, 3)))
    return torch.stack(squares).mean(0).sqrt().clamp(min=1e-4).view(1, -1, 1, 1)


def scale_steps(
    optimizer: torch.optim.Optimizer, refiner: nn.Module, samples: Sequence[Sample]
) -> None:
    """Divide the steps of the first weight by `input_sizes` of some samples."""
    weight, size = refiner.get_parameter("conv.0.weight"), input_sizes(refiner, samples)
    before: list[Tensor] = []

    def remember(*arguments: object) -> None:
        before[:] = [weight.detach().clone()]

    @torch.no_grad()
    def scale(*arguments: object) -> None:
        weight.copy_(before[0] + (weight - before[0]) / size)

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(scale)
