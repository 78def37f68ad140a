"""Learning from sequences: the decoder but for its deepest block, on crops of edges.

The encoder and the decoder's deepest block are the teacher's, so what they give is
computed once. Every block above them, with its recurrence, learns from alpha and colour
alone, so that its channels may be fewer than the teacher's. Knows no files.
"""

import torch
from numpy.random import Generator
from torch import Tensor

from rematte.network.matting_network import MattingNetwork
from rematte.train.batches import Sample, stack
from rematte.train.distill import capture, output_terms
from rematte.train.edges import crop, places, seen_whole
from rematte.train.losses import channel_weights

BLOCKS = (*(f"decoder.decode{level}" for level in (3, 2, 1, 0)), "project_mat")
UNIT = 16  # pixels of the frame for one of the deepest map
_SURE = 0.2  # of the squared error of alpha before clamping, in units of its variance
_MARGIN = 24  # pixels that most of what a pixel needs lies within


def sequence_examples(
    teacher: MattingNetwork, src: Tensor, side: int, rng: Generator
) -> Sample:
    """Compute what the blocks get and are to give in crops of a clip.

    Args:
        teacher: The network that labels; its encoder is the student's.
        src: (1, T, 3, H, W), sides multiples of 16.
        side: Largest height and width of a crop [pixels].
        rng: Random generator for the places.

    Returns:
        Crops of all frames, (N, T, C, h, w) each.
    """
    with torch.no_grad(), capture(teacher, list(BLOCKS)) as seen:
        teacher(src)
    (x, f3), f2, f1 = (
        seen[BLOCKS[0]][0][:2],
        seen[BLOCKS[1]][0][1],
        seen[BLOCKS[2]][0][1],
    )
    target = seen["project_mat"][1]
    parts = {
        "src": (src[0], 1), "f1": (f1, 2), "f2": (f2, 4), "f3": (f3, 8), "x": (x, UNIT),
        "target": (target, 1),
    }  # fmt: skip
    alpha = target[-1, 3]
    crops: list[Sample] = []
    for at in places(alpha, side, UNIT, rng):
        cut = {
            name: crop(value, [v // step for v in at], side // step)
            for name, (value, step) in parts.items()
        }
        crops.append(cut | {"seen": seen_whole(alpha.shape, at, side, _MARGIN)})
    return stack(crops)


def sequence_errors(student: MattingNetwork, sample: Sample) -> dict[str, Tensor]:
    """Return the terms whose sum is the error in alpha and colour.

    Args:
        student: The network that is trained.
        sample: The result of `sequence_examples`.
    """
    count = sample["src"].shape[:2]
    src, f1, f2, f3, x = (
        sample[name].flatten(0, 1) for name in ("src", "f1", "f2", "f3", "x")
    )
    states = (None, None, None)
    hidden, *_ = student.decoder.rest(src, (f1, f2, f3), x, states, count[1])
    out = student.project_mat(hidden).unflatten(0, count)
    residual, alpha = out.split([3, 1], 2)
    goal, true = sample["target"].split([3, 1], 2)
    true = true.clamp(0, 1)
    # What clamping takes away is not wrong; what it would hide still has a slope.
    beyond = ((true == 1) & (alpha > 1)) | ((true == 0) & (alpha < 0))
    alpha = torch.where(beyond, true, alpha)
    fgr, true_fgr = ((sample["src"] + part).clamp(0, 1) for part in (residual, goal))
    seen = sample["seen"][:, None] / sample["seen"].mean()
    # Colours where nothing of the foreground shows are not worth any channel.
    shown = seen * (true > 0)
    terms = output_terms(fgr * shown, alpha * seen, true_fgr * shown, true * seen)
    # How far beyond 0 or 1 the teacher is tells how sure it is.
    raw = [x.flatten(0, 1)[:, 3:] for x in (out, sample["target"])]
    sure = (raw[0] - raw[1]).square() * channel_weights(raw[1])
    return terms | {"sure": _SURE * (sure.unflatten(0, count) * seen).mean()}
