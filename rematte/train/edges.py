"""Learning from crops of edges: the decoder's last two blocks, and the guided filter.

The encoder decides what a person is. The decoder's last two blocks decide where the
edge lies, as the guided filter does at full size. Each of these learns here from crops
with edges in them, on maps that the rest of the network gives, so that many small steps
are cheap. Knows no files.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.nn import functional as F

from rematte.network.guided_filter import FastGuidedFilter, refine, shrink
from rematte.network.matting_network import MattingNetwork
from rematte.train.batches import Sample, stack
from rematte.train.distill import capture
from rematte.train.losses import channel_weights

ENDS = ("decoder.decode1", "decoder.decode0", "project_mat")
FROM_EACH = 3  # crops of a picture
_PLACES = 6  # that are looked at for a crop
_EDGY = 0.8  # share of crops that are the place of those with most of an edge in it
_AT_BORDER = 0.3  # share of crops that touch a border of the picture
_MARGIN = 12  # pixels that the last two blocks look around
_WARM = 3  # times that a picture is shown, so that the recurrent state settles
_LOST = 0.05  # a picture whose mean alpha is so wrong teaches the filter nothing
_SIGMA = 1.4  # of the slopes that the loss compares, as in the Grad metric [pixels]
# Squared error of the slopes' lengths and of themselves; L1 of alpha and of colour.
_TERMS = {"length": 2.0, "slope": 0.3, "alpha": 0.5, "colour": 0.15}


def places(alpha: Tensor, side: int, unit: int, rng: Generator) -> Iterator[list[int]]:
    """Choose places of crops, mostly those with most of an edge in them.

    Args:
        alpha: (H, W) in [0, 1].
        side: Height and width of a crop, where `alpha` is as large [pixels].
        unit: What rows and columns are multiples of [pixels].
        rng: Random generator.

    Yields:
        Row and column of `FROM_EACH` crops.
    """
    edge = (alpha > 0.02) & (alpha < 0.98)
    most = [max(0, length - side) // unit for length in alpha.shape]
    for _ in range(FROM_EACH):
        border = int(rng.integers(4)) if rng.random() < _AT_BORDER else None
        found = []
        for _ in range(_PLACES):
            at = [unit * int(rng.integers(0, room + 1)) for room in most]
            if border is not None:
                at[border // 2] = border % 2 * most[border // 2] * unit
            found.append((int(crop(edge, at, side).sum()), at))
        yield (max(found) if rng.random() < _EDGY else found[0])[1]


def crop(x: Tensor, at: Sequence[int], side: int) -> Tensor:
    """Cut a square out of (..., H, W), or what there is of it."""
    return x[..., at[0] : at[0] + side, at[1] : at[1] + side]


# The decoder's last two blocks


def end_examples(
    student: MattingNetwork,
    teacher: MattingNetwork,
    sample: Sample,
    side: int,
    rng: Generator,
) -> Sample | None:
    """Compute what the decoder's last two blocks get and are to give in crops.

    Args:
        student: The network that is trained; what comes before the blocks is its own.
        teacher: The network that labels what has no true alpha.
        sample: One clip of `distill_sample`, with a batch of one.
        side: Height and width of a crop [pixels].
        rng: Random generator for the places.

    Returns:
        Crops of the last frame; None if it is smaller than a crop.
    """
    src, exact = sample["src"], bool(sample["coloured"].item())
    if min(src.shape[-2:]) < side:
        return None
    mine: list[Tensor | None] = [None] * 4
    theirs = mine
    for picture in src.unbind(1):
        before = mine
        with torch.no_grad(), capture(student, [ENDS[0]]) as got:
            _, _, *mine = student(picture, *before)
        if not exact:
            with torch.no_grad(), capture(teacher, [ENDS[0], ENDS[2]]) as wanted:
                _, _, *theirs = teacher(picture, *theirs)
    x, skip, small = got[ENDS[0]][0][:3]
    state = before[0] if before[0] is not None else torch.zeros_like(mine[0])  # type: ignore[arg-type]
    if exact:
        fgr, pha = sample["fgr"][:, -1], sample["pha"][:, -1]
        target = torch.cat([fgr - picture, pha], 1)
        middle = torch.zeros_like(got[ENDS[0]][1])
    else:
        target, middle = wanted[ENDS[2]][1], wanted[ENDS[0]][1]
    parts = {
        "src": (picture, 1), "x": (x, 4), "skip": (skip, 2), "small": (small, 2),
        "state": (state, 2), "middle": (middle, 2), "target": (target, 1),
    }  # fmt: skip
    alpha = target[0, 3]
    crops: list[Sample] = []
    for at in places(alpha, side, 4, rng):
        cut = {
            name: crop(value[0], [v // step for v in at], side // step)
            for name, (value, step) in parts.items()
        }
        seen = seen_whole(alpha.shape, at, side)
        crops.append(cut | {"seen": seen, "known": sample["coloured"][0, 0]})
    return stack(crops)


def seen_whole(
    size: Sequence[int], at: Sequence[int], side: int, margin: int = _MARGIN
) -> Tensor:
    """Mark where a crop shows all that the teacher saw: (1, side, side), 1 or 0.

    That is not so near its edges, but for those that are the picture's own. There the
    padding has to be learned: left out, it would be free to do anything.
    """
    seen = torch.zeros(1, *size)
    rows, columns = (
        slice(
            0 if begin == 0 else begin + margin,
            whole if begin + side >= whole else begin + side - margin,
        )
        for begin, whole in zip(at, size, strict=True)
    )
    seen[:, rows, columns] = 1
    return crop(seen, at, side)


def end_errors(student: MattingNetwork, sample: Sample) -> dict[str, Tensor]:
    """Return the error of the decoder's last two blocks in alpha and colour.

    Where alpha is exact, its slopes count too. Where it is the teacher's, so do the
    teacher's maps, which hold for what alpha and colour do not show.

    Args:
        student: The network that is trained.
        sample: The result of `end_examples`.
    """
    src, target, known = sample["src"], sample["target"], sample["known"]
    decoder = student.decoder
    middle, _ = decoder.decode1(
        sample["x"], sample["skip"], sample["small"], sample["state"], 1
    )
    out = student.project_mat(decoder.decode0(middle, src))
    counted = sample["seen"] / sample["seen"].mean()
    true, alpha = target[:, 3:].clamp(0, 1), out[:, 3:]
    # What clamping takes away is not wrong.
    beyond = ((true == 1) & (alpha > 1)) | ((true == 0) & (alpha < 0))
    wrong = torch.where(beyond, 0.0, alpha - true)
    # A slope that vanishes with the error: the absolute value's would be noise.
    close = F.smooth_l1_loss(
        wrong, torch.zeros_like(wrong), beta=5e-3, reduction="none"
    )
    mine, theirs = ((src + x[:, :3]).clamp(0, 1) for x in (out, target))
    colour = (mine - theirs).abs() * (true > 0)
    off = (alpha.clamp(0, 1) - true) * sample["seen"] * known
    steps = off.diff(dim=-1).square().mean() + off.diff(dim=-2).square().mean()
    taught = (1 - known) * counted
    maps = (middle - sample["middle"]).square() * channel_weights(sample["middle"])
    raw = (out - target).square() * channel_weights(target)
    return {
        "alpha": 5 * (close * counted).mean(),
        "colour": (colour * (3 - 2 * known) * counted).mean(),
        "steps": 5 * steps,
        "outputs": 0.4 * (raw * taught).mean(),
        "maps": 0.6 * (maps * F.avg_pool2d(taught, 2)).mean(),
    }


# The guided filter


def filter_examples(
    student: MattingNetwork,
    teacher: MattingNetwork,
    sample: Sample,
    side: int,
    ratio: float,
    rng: Generator,
) -> Sample | None:
    """Compute what the guided filter gets and is to give in crops of one picture.

    Args:
        student: The network that is trained; its coarse output is its own.
        teacher: The network that labels what has no true alpha, at full size.
        sample: One clip of `distill_sample`, with a batch of one.
        side: Height and width of a crop at the size of the coarse pass [pixels].
        ratio: The downsample ratio, 1 over a whole number.
        rng: Random generator for the places.

    Returns:
        Crops; None if the picture is too small or its person was not found.
    """
    src = sample["src"][:, -1]
    picture, scale = shrink(src, ratio), round(1 / ratio)
    if min(picture.shape[-2:]) < side:
        return None
    with torch.no_grad():
        fgr, pha = sample["fgr"][:, -1], sample["pha"][:, -1]
        if not sample["coloured"].item():
            still = src[:, None].expand(-1, _WARM, -1, -1, -1)
            fgr, pha = (x[:, -1] for x in teacher(still)[:2])
        hidden = last_map(student, picture[:, None].expand(-1, _WARM, -1, -1, -1))
        coarse = student.project_mat(hidden)
    if abs(float(coarse[:, 3:].clamp(0, 1).mean() - pha.mean())) > _LOST:
        return None
    small = {"picture": picture, "coarse": coarse, "hidden": hidden}
    large = {"src": src, "fgr": fgr, "pha": pha}
    crops = []
    for at in places(pha[0, 0], side * scale, scale, rng):
        shown = {name: crop(x[0], at, side * scale) for name, x in large.items()}
        at = [place // scale for place in at]
        crops.append(shown | {n: crop(x[0], at, side) for n, x in small.items()})
    return stack(crops)


def last_map(network: MattingNetwork, src: Tensor) -> Tensor:
    """Return the decoder's last map of the last frame of (B, T, 3, H, W)."""
    with capture(network, ["project_mat"]) as seen:
        network(src)
    ((hidden,), _) = seen["project_mat"]
    last: Tensor = hidden.unflatten(0, src.shape[:2])[:, -1]
    return last


def filter_parts(refiner: nn.Module, sample: Sample) -> Tensor:
    """Return the error that a filter leaves in each crop, (N, 4), term by term."""
    maps = refiner(sample["picture"], sample["coarse"], sample["hidden"])
    out = refine(sample["src"], *maps)
    # What lies beyond a crop would have reached two pixels of the small size.
    edge = 2 * math.ceil(sample["src"].shape[-1] / sample["picture"].shape[-1])
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    pha, true = out[:, 3:].clamp(0, 1)[inside], sample["pha"][inside]
    mine, theirs = _slopes(pha), _slopes(true)
    long, right = ((x.square().sum(1) + 1e-8).sqrt() for x in (mine, theirs))
    wrong = (sample["src"] + out[:, :3]).clamp(0, 1) - sample["fgr"]
    parts = (
        (long - right).square(),
        (mine - theirs).square().sum(1),
        (pha - true).abs(),
        (wrong[inside] * (true > 0)).abs(),
    )
    return torch.stack([part.flatten(1).mean(1) for part in parts], 1)


def filter_errors(student: MattingNetwork, sample: Sample) -> dict[str, Tensor]:
    """Return the error of the guided filter in units of the fast guided filter's.

    That has nothing to learn. Otherwise the hardest crops would be all that counts.

    Args:
        student: The network that is trained.
        sample: The result of `filter_examples`.
    """
    with torch.no_grad():
        fast = filter_parts(FastGuidedFilter(16), sample)
    # The mean holds where the fast filter leaves next to nothing of a crop.
    unit = 0.5 * fast + 0.5 * fast.mean(0) + 1e-8
    share = filter_parts(student.refiner, sample) / unit
    means = share.mean(0)
    return {name: means[at] * by for at, (name, by) in enumerate(_TERMS.items())}


def input_sizes(refiner: nn.Module, samples: Sequence[Sample]) -> Tensor:
    """Measure the root mean square of each input of the filter's first convolution.

    Variances and covariances are a hundredth of the decoder's features. They need
    weights of a hundred, where an optimiser with a step of its own size does not arrive
    from one: so each input's weights take steps in units of that input.

    Returns:
        (1, C, 1, 1).
    """
    squares = []
    for sample in samples:
        with torch.no_grad(), capture(refiner, ["conv"]) as seen:
            refiner(sample["picture"], sample["coarse"], sample["hidden"])
        ((x,), _) = seen["conv"]
        squares.append(x.square().mean((0, 2, 3)))
    return torch.stack(squares).mean(0).sqrt().clamp(min=1e-4).view(1, -1, 1, 1)


def scale_steps(
    optimizer: torch.optim.Optimizer, weight: nn.Parameter, size: Tensor
) -> None:
    """Divide each step of a weight by the size of its input; see `input_sizes`."""
    before: list[Tensor] = []

    def remember(*arguments: object) -> None:
        before[:] = [weight.detach().clone()]

    @torch.no_grad()
    def scale(*arguments: object) -> None:
        weight.copy_(before[0] + (weight - before[0]) / size)

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(scale)


def _slopes(x: Tensor) -> Tensor:
    """Derivatives of a Gaussian-blurred (N, 1, H, W): (N, 2, H - 8, W - 8)."""
    at = torch.arange(-4.0, 5.0, device=x.device)
    bell = torch.exp(-at.square() / (2 * _SIGMA**2))
    across = bell[:, None] * (at * bell)
    across = across / across.square().sum().sqrt()
    return F.conv2d(x, torch.stack([across, across.T])[:, None])
