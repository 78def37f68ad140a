"""Learning from sequences: the decoder but for its deepest block, on crops of edges.

The encoder and the decoder's deepest block are the teacher's, so what they give is
computed once. Every block above them, with its recurrence, learns from alpha and colour
alone, so that its channels may be fewer than the teacher's. Knows no files.
"""

import torch
from numpy.random import Generator
from torch import Tensor

from rematte.network.matting_network import MattingNetwork
from rematte.train.blocks import capture
from rematte.train.edges import cut_crops, not_beyond
from rematte.train.extras import Sample
from rematte.train.losses import DISTILLED, map_error, output_terms
from rematte.train.recipe import CROPPED, Phase

BLOCKS = (*(f"decoder.decode{level}" for level in (3, 2, 1, 0)), "project_mat")
_SURE = 0.2  # of the squared error of alpha before clamping, in units of its variance
_MARGIN = 24  # pixels that most of what a pixel needs lies within


def sequence_examples(
    student: MattingNetwork, teacher: MattingNetwork, sample: Sample, phase: Phase,
    rng: Generator,
) -> Sample:  # fmt: skip
    """Compute what the blocks get and are to give in crops of all frames of a clip.

    Returns:
        (N, T, C, h, w) each.
    """
    src, unit = sample["src"], CROPPED["sequences"]
    with torch.no_grad(), capture(teacher, BLOCKS) as seen:
        teacher(src)
    (x, f3, *_), (_, f2, *_), (_, f1, *_) = (seen[name][0] for name in BLOCKS[:3])
    target = seen["project_mat"][1]
    maps = {
        "src": (src[0], 1), "f1": (f1, 2), "f2": (f2, 4), "f3": (f3, 8), "x": (x, unit),
        "target": (target, 1),
    }  # fmt: skip
    return cut_crops(maps, target[-1, 3], phase.crop, unit, rng, _MARGIN)


def sequence_errors(
    student: MattingNetwork, sample: Sample, phase: Phase
) -> dict[str, Tensor]:
    """Return the terms whose sum is the error in alpha and colour."""
    count = sample["src"].shape[:2]
    src, f1, f2, f3, x = (
        sample[name].flatten(0, 1) for name in ("src", "f1", "f2", "f3", "x")
    )
    states = (None, None, None)
    hidden, *_ = student.decoder.rest(src, (f1, f2, f3), x, states, count[1])
    out = student.project_mat(hidden)
    residual, alpha = out.unflatten(0, count).split([3, 1], 2)
    goal, true = sample["target"].split([3, 1], 2)
    true = true.clamp(0, 1)
    alpha = not_beyond(alpha, true)  # what clamping would hide still has a slope
    fgr, true_fgr = ((sample["src"] + part).clamp(0, 1) for part in (residual, goal))
    seen = sample["seen"][:, None] / sample["seen"].mean()
    # Colours where nothing of the foreground shows are not worth any channel.
    shown = seen * (true > 0)
    terms = output_terms(
        fgr * shown, alpha * seen, true_fgr * shown, true * seen, DISTILLED
    )
    # How far beyond 0 or 1 the teacher is tells how sure it is.
    theirs = sample["target"].flatten(0, 1)
    counted = seen.expand(-1, count[1], -1, -1, -1).flatten(0, 1)
    sure = map_error(out[:, 3:], theirs[:, 3:], counted)
    return terms | {"sure": _SURE * sure}
