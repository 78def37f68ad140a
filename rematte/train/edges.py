"""Trains parts of the decoder on crops of edges, from precomputed maps.

The encoder decides what a person is, and the decoder's last two blocks locate the edge;
phases of kind edges train these blocks. Phases of kind sequences train the decoder
without its deepest block, with its recurrence, from alpha and colour alone, so that it
may have fewer channels than the teacher.
"""

from collections.abc import Sequence

import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from rematte.network.matting_network import MattingNetwork
from rematte.train.batches import stack
from rematte.train.blocks import capture, cut, last_frame
from rematte.train.extras import Sample, Terms
from rematte.train.losses import DISTILLED, map_error, output_terms
from rematte.train.recipe import CROPPED, Phase

ENDS = ("decoder.decode1", "decoder.decode0", "project_mat")
FROM_EACH = 3  # crops per picture
_PLACES = 6  # positions that are tried for each crop
_EDGY = 0.8  # share of crops at the position with the most edge
_AT_BORDER = 0.3  # share of crops that touch a border of the picture
_MARGIN = 12  # receptive field of the last two blocks on each side [pixels]
BLOCKS = (*(f"decoder.decode{level}" for level in (3, 2, 1, 0)), "project_mat")
_SURE = 0.2  # of the squared error of alpha before clamping, in units of its variance
_AROUND = 24  # most of the receptive field of a sequence [pixels]


def cut_crops(
    maps: Sample, alpha: Tensor, side: int, unit: int, rng: Generator, margin: int = 0
) -> Sample:
    """Crop the same squares from maps, most of them where alpha (H, W) has edges.

    Each map is (..., H / step, W / step), with a step of its own, and becomes
    (FROM_EACH, ..., side / step, side / step). Rows and columns of crops are multiples
    of `unit` [pixels]. A `margin`, the receptive field on each side [pixels], adds
    "seen"; see `seen_whole`.
    """
    whole, edge = alpha.shape, (alpha > 0.02) & (alpha < 0.98)
    most = [max(0, length - side) // unit for length in whole]
    crops: list[Sample] = []
    for _ in range(FROM_EACH):
        border = int(rng.integers(4)) if rng.random() < _AT_BORDER else None
        found = []
        for _ in range(_PLACES):
            at = [unit * int(rng.integers(0, room + 1)) for room in most]
            if border is not None:
                at[border // 2] = border % 2 * most[border // 2] * unit
            found.append((int(cut(edge, whole, at, side, 1).sum()), at))
        _, at = max(found) if rng.random() < _EDGY else found[0]
        crop = {name: cut(x, whole, at, side, unit) for name, x in maps.items()}
        if margin:
            crop["seen"] = seen_whole(whole, at, side, margin)
        crops.append(crop)
    return stack(crops)


def seen_whole(
    size: Sequence[int], at: Sequence[int], side: int, margin: int = _MARGIN
) -> Tensor:
    """Mark where a crop contains all that the teacher saw: (1, side, side), 1 or 0.

    Margins are 0, except at the picture's own borders, where the network must learn to
    handle the padding.
    """
    top, left = (begin + margin * (begin > 0) for begin in at)
    bottom, right = (
        begin + side - margin * (begin + side < whole)
        for begin, whole in zip(at, size, strict=True)
    )
    seen = torch.zeros(1, *size)
    seen[:, top:bottom, left:right] = 1
    return cut(seen, size, at, side, 1)


def not_beyond(alpha: Tensor, true: Tensor) -> Tensor:
    """Replace alpha by the truth where it differs only by what clamping removes."""
    beyond = ((true == 1) & (alpha > 1)) | ((true == 0) & (alpha < 0))
    return torch.where(beyond, true, alpha)


def end_examples(
    student: MattingNetwork, teacher: MattingNetwork, sample: Sample, phase: Phase,
    rng: Generator,
) -> Sample | None:  # fmt: skip
    """Compute inputs and targets of the decoder's last two blocks in crops.

    The crops are from the last frame of one clip; None if it is smaller than a crop.
    The inputs are the student's; the teacher labels frames without true alpha.
    """
    src = sample["src"]
    if min(src.shape[-2:]) < phase.crop:
        return None
    picture = src[:, -1]
    (x, skip, small, state), middle = last_frame(student, src, ENDS[:1])[ENDS[0]]
    if sample["coloured"].item():
        fgr, pha = sample["fgr"][:, -1], sample["pha"][:, -1]
        target, middle = torch.cat([fgr - picture, pha], 1), torch.zeros_like(middle)
    else:
        wanted = last_frame(teacher, src, ENDS)
        target, middle = wanted["project_mat"][1], wanted[ENDS[0]][1]
    maps = {
        "src": picture, "x": x, "skip": skip, "small": small, "state": state,
        "middle": middle, "target": target,
    }  # fmt: skip
    maps, unit = {name: x[0] for name, x in maps.items()}, CROPPED["edges"]
    crops = cut_crops(maps, target[0, 3], phase.crop, unit, rng, _MARGIN)
    return crops | {"known": sample["coloured"][:, 0].expand(FROM_EACH, -1, -1, -1)}


def end_errors(student: MattingNetwork, sample: Sample, phase: Phase) -> Terms:
    """Return the error of the decoder's last two blocks in alpha and colour.

    Exact alpha adds the error of its gradient. The teacher's alpha adds the error of
    the teacher's maps, which contain more than alpha and colour show.
    """
    src, target, known = sample["src"], sample["target"], sample["known"]
    given = (sample[name] for name in ("x", "skip", "small", "state"))
    middle, _ = student.decoder.decode1(*given, 1)
    out = student.project_mat(student.decoder.decode0(middle, src))
    counted = sample["seen"] / sample["seen"].mean()
    true, alpha = target[:, 3:].clamp(0, 1), out[:, 3:]
    wrong = not_beyond(alpha, true) - true
    # Its gradient vanishes with the error; that of the absolute value would be noise.
    zero = torch.zeros_like(wrong)
    close = F.smooth_l1_loss(wrong, zero, beta=5e-3, reduction="none")
    mine, theirs = ((src + x[:, :3]).clamp(0, 1) for x in (out, target))
    colour = (mine - theirs).abs() * (true > 0)
    off = (alpha.clamp(0, 1) - true) * sample["seen"] * known
    steps = off.diff(dim=-1).square().mean() + off.diff(dim=-2).square().mean()
    taught = (1 - known) * counted
    return {
        "alpha": 5 * (close * counted).mean(),
        "colour": (colour * (3 - 2 * known) * counted).mean(),
        "steps": 5 * steps,
        "outputs": 0.4 * map_error(out, target, taught),
        "maps": 0.6 * map_error(middle, sample["middle"], F.avg_pool2d(taught, 2)),
    }


def sequence_examples(
    student: MattingNetwork, teacher: MattingNetwork, sample: Sample, phase: Phase,
    rng: Generator,
) -> Sample:  # fmt: skip
    """Compute inputs and targets of blocks in crops of a clip, (N, T, C, h, w)."""
    src, unit = sample["src"], CROPPED["sequences"]
    with capture(teacher, BLOCKS) as seen:
        teacher(src)
    (x, f3, *_), (_, f2, *_), (_, f1, *_) = (seen[name][0] for name in BLOCKS[:3])
    target = seen["project_mat"][1]
    maps = {"src": src[0], "f1": f1, "f2": f2, "f3": f3, "x": x, "target": target}
    return cut_crops(maps, target[-1, 3], phase.crop, unit, rng, _AROUND)


def sequence_errors(student: MattingNetwork, sample: Sample, phase: Phase) -> Terms:
    """Return the terms whose sum is the error in alpha and colour."""
    count = sample["src"].shape[:2]
    flat = {name: each.flatten(0, 1) for name, each in sample.items()}
    src, f1, f2, f3, x = (flat[name] for name in ("src", "f1", "f2", "f3", "x"))
    hidden, *_ = student.decoder.rest(src, (f1, f2, f3), x, (None,) * 3, count[1])
    out = student.project_mat(hidden)
    residual, alpha = out.unflatten(0, count).split([3, 1], 2)
    goal, true = sample["target"].split([3, 1], 2)
    true = true.clamp(0, 1)
    alpha = not_beyond(alpha, true)  # keeps the gradient
    fgr, true_fgr = ((sample["src"] + part).clamp(0, 1) for part in (residual, goal))
    seen = sample["seen"][:, None] / sample["seen"].mean()
    # Colours do not matter where alpha is 0.
    shown = seen * (true > 0)
    terms = output_terms(
        fgr * shown, alpha * seen, true_fgr * shown, true * seen, DISTILLED
    )
    # The teacher's distance beyond 0 or 1 shows its confidence.
    counted = seen.expand(-1, count[1], -1, -1, -1).flatten(0, 1)
    sure = map_error(out[:, 3:], flat["target"][:, 3:], counted)
    return terms | {"sure": _SURE * sure}
