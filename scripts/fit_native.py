"""Fit what errs most in a student, on footage at its own scale.

    python scripts/fit_native.py OUT --teacher WEIGHTS --shards '../shared/train/*.tar'

A last step after `fit_blocks.py`. Most training pictures are small, and the crops that
are warped out of them are enlarged, so soft; edges of real footage are crisp, and there
a student errs twice as much. So nothing is enlarged here: photos are cut at their own
scale, and clips run for some time, student and teacher each with states of its own.

Two parts are fitted to what they really get, the student's maps before them, and to
what the teacher has behind them: the encoder's last blocks with LR-ASPP, and then the
decoder's last two blocks, these also to exact alpha where there is some.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from fit_blocks import (
    END_MARGIN,
    END_SIDE,
    ENDS,
    Kept,
    Part,
    descend,
    fit_ends,
    normalized,
    per_channel,
    quick,
    unfold,
)
from numpy.random import Generator
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from rematte.engines import folded
from rematte.errors import end
from rematte.network import MattingNetwork
from rematte.train.augment import vary_frames
from rematte.train.batches import matte_sample
from rematte.train.data import Index, Item, decode, index
from rematte.train.distill import capture
from rematte.train.settings import Augment, Data
from rematte.weights import load_network

LONG_SIDE = 512  # pixels; what is larger is made smaller
GRID = 16  # pixels, the coarsest scale of the network
SOFT = Augment(blur=0.02, noise=0.15, colour=0.3, grayscale=0.02, jpeg=0.15)
RUN = 12  # frames of a clip
EVERY = 3  # one of so many frames of a clip is kept
TRUE = 0.2  # composites with exact alpha for each photo or clip
BEFORE = 13  # blocks of the encoder before its tail
TAIL = (
    *((f"backbone.features.{number}",) for number in (13, 14, 15)),
    ("backbone.features.16", "aspp"),
)
SHARES = torch.tensor([0.3, 0.3, 0.3, 3.0])  # of the tail's maps in its loss
BATCH = 4500  # positions of the tail's maps per step
HELD_OUT = 25


def fitted(pixels: Tensor) -> Tensor:
    """Bring (T, H, W, 3) of 8 bits to (T, 3, h, w) in [0, 1], never enlarged."""
    x = pixels.movedim(-1, 1).float() / 255
    scale = LONG_SIDE / max(x.shape[-2:])
    if scale < 1:
        size = [round(side * scale) for side in x.shape[-2:]]
        x = F.interpolate(x, size, mode="bilinear", antialias=True).clamp(0, 1)
    height, width = (side // GRID * GRID for side in x.shape[-2:])
    return x[..., :height, :width]


def frames(item: Item, rng: Generator, count: int) -> Tensor:
    """Give successive frames of a clip, or a photo once; half of them flipped."""
    length = min(count, item.media.frames)
    first = int(rng.integers(0, item.media.frames - length + 1))
    order = range(first, first + length)
    x = fitted(torch.from_numpy(decode(item.media, order, "RGB")))
    if length == 1:
        x = vary_frames(x, SOFT, rng)
    return x.flip(-1) if rng.random() < 0.5 else x


def footage(found: Index, share: float, rng: Generator) -> list[Item]:
    """Give photos and clips in a random order; `share` of all photos."""
    people = found.people + found.masks
    photos = [item for item in people if item.media.frames == 1]
    photos += [*found.backgrounds[::4], *found.others[::2]]  # some have no people
    photos = [item for item in photos if item.media.frames == 1]
    chosen = [photos[int(at)] for at in rng.permutation(len(photos))]
    chosen = chosen[: round(share * len(photos))]
    chosen += [item for item in people if item.media.frames > 1]
    return [chosen[int(at)] for at in rng.permutation(len(chosen))]


# The encoder's tail


def tail_maps(
    student: MattingNetwork, teacher: MattingNetwork, picture: Tensor
) -> list[Tensor]:
    """Give what the student's tail gets, and what the teacher's gives at each part."""
    names = [part[-1] for part in TAIL]
    with capture(teacher, names) as theirs:
        teacher.aspp(teacher.backbone(picture)[-1])
    features = cast(nn.Sequential, student.backbone.features)
    given = features[:BEFORE](normalized(teacher, [picture * 255]))
    return [given.half(), *(theirs[name][1].half() for name in names)]


def fit_tail(
    student: MattingNetwork,
    teacher: MattingNetwork,
    found: Index,
    seconds: float,
    rate: float,
    share: float,
) -> str:
    """Fit the encoder's last blocks and LR-ASPP to the student's maps before them."""
    rng = np.random.default_rng(1)
    groups: dict[torch.Size, list[list[Tensor]]] = {}
    for item in tqdm(footage(found, share, rng), desc="pictures"):
        seen = frames(item, rng, 240)[:: 1 if item.media.frames == 1 else 20]
        for picture in seen:
            maps = tail_maps(student, teacher, picture[None])
            groups.setdefault(maps[0].shape, []).append(maps)
    kept = [group for group in groups.values() if len(group) > 1]
    kinds = np.array([len(group) for group in kept], float)
    mine = [folded(Part(student, part)).requires_grad_(True) for part in TAIL]
    fast = [quick(part) for part in mine]

    def stack(chosen: Sequence[list[Tensor]]) -> list[Tensor]:
        columns = (torch.cat(column).float() for column in zip(*chosen, strict=True))
        return [x.contiguous(memory_format=torch.channels_last) for x in columns]

    held = [stack(group[: math.ceil(len(group) / HELD_OUT)]) for group in kept]
    weights = [per_channel([h[at + 1] for h in held]) for at in range(len(TAIL))]

    def errors(example: list[Tensor]) -> Tensor:
        x, *targets = example
        found = []
        for part, target, weight in zip(fast, targets, weights, strict=True):
            x = part(x)
            found.append(((x - target).square() * weight).mean())
        return torch.stack(found)

    def loss() -> Tensor:
        group = kept[int(rng.choice(len(kept), p=kinds / kinds.sum()))]
        count = max(1, BATCH // group[0][0][0, 0].numel())
        first = math.ceil(len(group) / HELD_OUT)
        chosen = rng.integers(min(first, len(group) - 1), len(group), count)
        return errors(stack([group[int(at)] for at in chosen])) @ SHARES

    @torch.no_grad()
    def error() -> str:
        counts = [h[0][:, 0].numel() for h in held]
        means = sum(errors(h) * n for h, n in zip(held, counts, strict=True))
        return " ".join(f"{float(m) / sum(counts):.4f}" for m in means)  # type: ignore[union-attr]

    before = error()
    print("before", before, len(held), sum(map(len, kept)), flush=True)
    parameters = [p for part in mine for p in part.parameters()]
    steps = descend([(parameters, rate)], loss, seconds, 0.3, 5.0)
    for names, part in zip(TAIL, mine, strict=True):
        unfold(Part(student, names), part.state_dict())
    return f"{before} to {error()} in {steps} steps"


# The decoder's ends


class Seen(NamedTuple):
    """A frame that both networks saw.

    Attributes:
        inputs: What the last two blocks of the student's decoder get, the frame last.
        middle: What the teacher has between the two.
        out: What it has behind them: residual of the foreground, and raw alpha.
    """

    inputs: tuple[Tensor | None, ...]
    middle: Tensor
    out: Tensor


def watch(
    student: MattingNetwork, teacher: MattingNetwork, clip: Tensor
) -> Iterator[Seen]:
    """Run both over (T, 3, H, W), each with states of its own."""
    first, last = ENDS[0][0], "project_mat"
    mine: list[Tensor | None] = [None] * 4
    theirs = list(mine)
    for frame in clip[:, None]:
        with capture(teacher, [first, last]) as wanted:
            _, _, *theirs = teacher(frame, *theirs)
        old = mine[0]
        with capture(student, [first]) as got:
            _, _, *mine = student(frame, *mine)
        (x, skip, picture, *_), _ = got[first]
        yield Seen((x, skip, picture, old, frame), wanted[first][1], wanted[last][1])


def corrected(seen: Seen, fgr: Tensor, pha: Tensor) -> Seen:
    """Put the truth in the teacher's place; raw alpha beyond 0 and 1 may stay there."""
    raw, frame = seen.out[:, 3:], cast(Tensor, seen.inputs[-1])
    alpha = torch.where(pha == 0, raw.clamp(max=0), pha)
    alpha = torch.where(pha == 1, raw.clamp(min=1), alpha)
    residual = torch.where(pha > 0, fgr - frame, seen.out[:, :3])
    return seen._replace(out=torch.cat([residual, alpha], 1))


def keep(kept: Kept, seen: Seen, rng: Generator, count: int) -> None:
    """Keep those of a few crops with most of an edge in them."""
    alpha = seen.out[0, 3]
    edge = (alpha > 0.02) & (alpha < 0.98)
    found = []
    for _ in range(4):
        top, left = (
            4 * int(rng.integers(0, (side - END_SIDE) // 4 + 1)) for side in edge.shape
        )
        inside = edge[top : top + END_SIDE, left : left + END_SIDE]
        found.append((int(inside.sum()), top, left))
    for _, top, left in sorted(found)[-count:]:

        def cut(x: Tensor, by: int, top: int = top, left: int = left) -> Tensor:
            side, y, x0 = END_SIDE // by, top // by, left // by
            return x[..., y : y + side, x0 : x0 + side]

        scales = (4, 2, 2, 2, 1)
        inputs = (
            None if x is None else cut(x, by)
            for x, by in zip(seen.inputs, scales, strict=True)
        )
        kept.add((*inputs, cut(seen.middle, 2)), cut(seen.out, 1))


def end_examples(
    student: MattingNetwork, teacher: MattingNetwork, found: Index, share: float
) -> Kept:
    """Give what the decoder's last two blocks get from the student, and are to give."""
    kept = Kept(END_MARGIN)
    rng = np.random.default_rng(2)
    for item in tqdm(footage(found, share, rng), desc="footage"):
        clip = frames(item, rng, RUN)
        if min(clip.shape[-2:]) >= END_SIDE:
            seen = watch(student, teacher, clip)
            for frame in islice(seen, 0, None, EVERY):
                keep(kept, frame, rng, 1 if len(clip) == 1 else 2)
        if found.mattes and rng.random() < TRUE:
            made = matte_sample(found, rng, 4, (256, 256), SOFT)
            seen = watch(student, teacher, made["src"])
            for at, frame in islice(enumerate(seen), 0, None, EVERY):
                true = made["fgr"][at][None], made["pha"][at][None]
                keep(kept, corrected(frame, *true), rng, 2)
    return kept


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description="Fit what errs most in a student.")
    parser.add_argument("out", type=Path, help="safetensors to write")
    parser.add_argument("--teacher", required=True, metavar="WEIGHTS")
    parser.add_argument("--start", default="rematte-mobilenetv3", metavar="WEIGHTS")
    parser.add_argument("--shards", nargs="+", required=True, metavar="TAR")
    parser.add_argument("--minutes", type=float, default=30, help="of each part")
    parser.add_argument("--share", type=float, default=0.5, help="of all photos")
    parser.add_argument("--only", choices=("tail", "ends"))
    parser.add_argument("--rate", type=float, help="of learning, at first")
    options = parser.parse_args()
    student, teacher = load_network(options.start), load_network(options.teacher)
    found, _ = index(Data(shards=tuple(options.shards))).split(Data().held_out)
    torch.set_flush_denormal(True)  # on a CPU they are a hundred times slower
    seconds = 60 * options.minutes
    if options.only != "ends":
        rate = options.rate or 6e-4
        told = fit_tail(student, teacher, found, seconds, rate, options.share)
        print(f"encoder's tail: error {told}", flush=True)
    if options.only != "tail":
        kept = end_examples(student, teacher, found, options.share)
        told = fit_ends(student, kept, seconds, options.rate or 6e-4)
        print(f"alpha: error {told}", flush=True)
    save_file({k: v.contiguous() for k, v in student.state_dict().items()}, options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    end(main)
