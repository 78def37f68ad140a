"""Fit what errs most in a student, on footage at its own scale.

    python scripts/fit_native.py OUT --teacher WEIGHTS --shards '../shared/train/*.tar'

A last step after `fit_blocks.py`. Most training pictures are small, and the crops that
are warped out of them are enlarged, so soft; edges of real footage are crisp. So here
nothing is enlarged: photos are panned over by whole pixels, and clips run for some
frames, so that states are filled as they are in use.

What a person is, is decided in the encoder: its later blocks learn as a chain from what
the student's earlier ones give them. Where the edge lies is decided in the last two
blocks of the decoder: they learn together from what the teacher's blocks before them
give, so that neither waits for the other: `--only` fits one of the two.
"""

import argparse
import math
from pathlib import Path
from typing import cast

import numpy as np
import torch
from fit_blocks import (
    PARTS,
    Example,
    Kept,
    Part,
    Soap,
    batched,
    descend,
    normalized,
    per_channel,
    quick,
    unfold,
)
from fit_filter import on_grid, steeper
from numpy.random import Generator
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from rematte.errors import end
from rematte.network.matting_network import MattingNetwork
from rematte.network.parts import folded
from rematte.train.augment import composite, vary_frames
from rematte.train.batches import matte_sample
from rematte.train.data import Index, Item, decode, index
from rematte.train.distill import capture
from rematte.train.recipe import Augment, Data
from rematte.weights.load import load_network

LONG_SIDE = 512  # pixels; what is larger is made smaller
SOFT = Augment(blur=0.03, noise=0.2, colour=0.3, grayscale=0.03, jpeg=0.2)
MOVING = Augment(
    motion=0.7, time=0.0, blur=0.03, noise=0.2, colour=0.3, sharpness=0.1, jpeg=0.15,
    stripes=0.1,
)  # fmt: skip
LATEST = 260  # frames of a clip that are looked at
PAN = 16  # pixels that a photo is panned over at most
FRAMES = 6  # of a sequence at most
CLIPS = 0.45  # of taught sequences; others are photos
TRUE = 0.25  # of crops: from composites with exact alpha
EDGES = {True: 0.85, False: 0.5}  # of exact and taught crops: chosen for their edges
CRISP = (1, 1, 1, 2, 3)  # what the slope of a cut-out's alpha is multiplied with
SIZES = ((256, 256), (288, 512), (288, 512), (320, 256))  # of composites
BEFORE = 7  # blocks of the encoder that stay as they are
TAIL = (
    tuple(f"backbone.features.{number}" for number in range(BEFORE, 11)),
    ("backbone.features.11", "backbone.features.12"),
    *((f"backbone.features.{number}",) for number in (13, 14, 15)),
    ("backbone.features.16", "aspp"),
)
SHARES = torch.tensor([0.3, 0.3, 0.3, 0.3, 0.3, 3.0])  # of the tail's maps in its loss
BATCH = 9000  # positions of the tail's first map per step
HELD_OUT = 25
ENDS = list(PARTS)[-2:]  # the parts of the decoder that learn together
SIDE = 192  # pixels of the crops they learn from
MARGIN = 12  # pixels that both look around
AT_BORDER = 0.3  # of crops: at a border of the picture
FROM_EACH = 2  # crops of a frame


def fitted(pixels: Tensor) -> Tensor:
    """Bring (T, H, W, 3) of 8 bits to (T, 3, h, w) in [0, 1], never enlarged."""
    x = pixels.movedim(-1, 1).float() / 255
    scale = LONG_SIDE / max(x.shape[-2:])
    if scale < 1:
        size = [round(side * scale) for side in x.shape[-2:]]
        x = F.interpolate(x, size, mode="bilinear", antialias=True).clamp(0, 1)
    return on_grid(x)


def photos(found: Index) -> list[Item]:
    """Photos of people, whether or not they have a mask."""
    return [item for item in found.people + found.masks if item.media.frames == 1]


def clips(found: Index) -> list[Item]:
    """Clips of people."""
    return [item for item in found.people + found.masks if item.media.frames > 1]


def frame(item: Item, at: int) -> Tensor:
    """Give a photo, or a frame of a clip, (1, 3, h, w)."""
    return fitted(torch.from_numpy(decode(item.media, [at], "RGB")))


# The encoder's tail


def pictures(found: Index, count: int, rng: Generator) -> list[tuple[Item, int]]:
    """So many photos, some without people, and every second frame of all clips."""
    stills = [*photos(found), *found.backgrounds[::4], *found.others[::2]]
    stills = [item for item in stills if item.media.frames == 1]
    chosen = [(stills[int(at)], 0) for at in rng.permutation(len(stills))[:count]]
    for clip in clips(found):
        chosen += [(clip, at) for at in range(0, min(clip.media.frames, LATEST), 2)]
    return [chosen[int(at)] for at in rng.permutation(len(chosen))]


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


def varied(picture: Tensor, rng: Generator) -> Tensor:
    """Vary half of the pictures in their values, flip half, cut some in half."""
    x = vary_frames(picture, SOFT, rng) if rng.random() < 0.5 else picture
    x = x.flip(-1) if rng.random() < 0.5 else x
    if rng.random() < 0.2:
        height, width = x.shape[-2:]
        lower = rng.random() < 0.5
        x = on_grid(x[..., : height * 3 // 4, :] if lower else x[..., width // 4 :])
    return x


def fit_tail(
    student: MattingNetwork,
    teacher: MattingNetwork,
    found: Index,
    seconds: float,
    rate: float,
    count: int,
) -> str:
    """Fit the encoder's later blocks and LR-ASPP as a chain.

    Args:
        student: Learns; its BatchNorms only add a bias afterwards.
        teacher: Of the same variant.
        found: What pictures there are.
        seconds: For how long.
        rate: Of learning, at first.
        count: Photos.

    Returns:
        The error of each part's map before and after.
    """
    rng = np.random.default_rng(1)
    groups: dict[torch.Size, list[list[Tensor]]] = {}
    for item, at in tqdm(pictures(found, count, rng), desc="pictures"):
        maps = tail_maps(student, teacher, varied(frame(item, at), rng))
        groups.setdefault(maps[0].shape, []).append(maps)
    kept = [group for group in groups.values() if len(group) > 1]
    kinds = np.array([len(group) for group in kept], float)
    mine = [folded(Part(student, part)).requires_grad_(True) for part in TAIL]
    fast = [quick(part) for part in mine]

    def stack(chosen: list[list[Tensor]]) -> list[Tensor]:
        return [batched(list(column)) for column in zip(*chosen, strict=True)]

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
        size = max(1, BATCH // group[0][0][0, 0].numel())
        first = math.ceil(len(group) / HELD_OUT)
        chosen = rng.integers(min(first, len(group) - 1), len(group), size)
        return errors(stack([group[int(at)] for at in chosen])) @ SHARES

    @torch.no_grad()
    def error() -> str:
        counts = [h[0][:, 0].numel() for h in held]
        means = sum(
            (errors(h) * n for h, n in zip(held, counts, strict=True)),
            torch.zeros(len(TAIL)),
        )
        return " ".join(f"{float(m) / sum(counts):.4f}" for m in means)

    before = error()
    parameters = [p for part in mine for p in part.parameters()]
    steps = descend(Soap(parameters, rate, 20), loss, seconds, 0.2, 5.0)
    for names, part in zip(TAIL, mine, strict=True):
        unfold(Part(student, names), part.state_dict())
    return f"{before} to {error()} in {steps} steps"


# The decoder's ends


def sequence(found: Index, rng: Generator) -> Tensor:
    """Give 1 to 6 successive frames of a clip, or a pan over a photo, (T, 3, h, w)."""
    moving = clips(found)
    if rng.random() < CLIPS and moving:
        item = moving[int(rng.integers(len(moving)))]
        count = min(FRAMES, item.media.frames)
        first = int(rng.integers(0, item.media.frames - count + 1))
        order = range(first, first + count)
        x = fitted(torch.from_numpy(decode(item.media, order, "RGB")))
    else:
        stills = photos(found)
        x = panned(frame(stills[int(rng.integers(len(stills)))], 0)[0], rng)
        x = vary_frames(x, SOFT, rng) if rng.random() < 0.5 else x
    return x.flip(-1) if rng.random() < 0.5 else x


def true_sequence(found: Index, rng: Generator) -> tuple[Tensor, Tensor]:
    """Give 1 to 6 frames of a composite, and what the network should say of them.

    Returns:
        (T, 3, h, w), and colour less picture, and alpha, (T, 4, h, w).
    """
    size = SIZES[int(rng.integers(len(SIZES)))]
    drawn = matte_sample(found, rng, int(rng.integers(1, FRAMES + 1)), size, MOVING)
    crisp = float(rng.choice(CRISP))
    src, fgr, pha = drawn["src"], drawn["fgr"], drawn["pha"]
    if crisp > 1:
        layers = steeper(drawn, crisp)
        src, fgr, pha = composite(layers), layers.fgr, layers.pha
    src = (src * 255).round() / 255
    return src, torch.cat([fgr - src, pha], 1)


def panned(photo: Tensor, rng: Generator) -> Tensor:
    """Move a camera over (3, H, W) by whole pixels, so that edges stay crisp."""
    height, width = photo.shape[-2:]
    room = PAN if min(height, width) >= SIDE + PAN else 0
    at, step = np.full(2, room / 2), rng.normal(0, 2, 2)
    seen = []
    for _ in range(int(rng.integers(1, FRAMES + 1))):
        top, left = (int(v) for v in np.clip(np.round(at), 0, room))
        seen.append(photo[:, top : top + height - room, left : left + width - room])
        at = at + step
    return on_grid(torch.stack(seen))


def end_examples(
    student: MattingNetwork,
    teacher: MattingNetwork,
    found: Index,
    count: int,
    seed: int,
) -> Kept:
    """Give so many crops of what the decoder's last two blocks get and are to give.

    Those with exact alpha come without the teacher's map between the two blocks. Many
    are the one of five crops with most of an edge in it; some lie at a border of the
    picture.
    """
    kept = Kept()
    rng = np.random.default_rng((seed, 3))
    first, last = ENDS[0][0], "project_mat"
    true = round(TRUE * count) if found.mattes and found.backgrounds else 0
    crops = 0
    bar = tqdm(total=count, desc="crops")
    while crops < count:
        exact = crops < true
        if exact:
            shown, outs = true_sequence(found, rng)
        else:
            shown = sequence(found, rng)
        if min(shown.shape[-2:]) < SIDE:
            continue
        mine, theirs = ([None] * 4 for _ in range(2))
        for number, picture in enumerate(shown[:, None]):
            old = mine
            with capture(student, [first]) as seen:
                _, _, *mine = student(picture, *old)
            (x, skip, small, *_), _ = seen[first]
            if exact:
                middle, out = None, outs[number, None]
            else:
                with capture(teacher, [first, last]) as taught:
                    _, _, *theirs = teacher(picture, *theirs)
                middle, out = taught[first][1], taught[last][1]
            begins = number == 0 and (len(shown) == 1 or rng.random() < 0.4)
            if number == len(shown) - 1 or begins:
                # Zeros are what a first frame begins with: all crops are alike so.
                r1 = torch.zeros_like(mine[0]) if old[0] is None else old[0]
                inputs = (x, skip, small, r1, picture)
                _keep(kept, inputs, middle, out, rng)
                crops += FROM_EACH
                bar.update(FROM_EACH)
    return kept


def _keep(
    kept: Kept,
    inputs: tuple[Tensor, ...],
    middle: Tensor | None,
    out: Tensor,
    rng: Generator,
) -> None:
    alpha = out[0, 3]
    edge = (alpha > 0.02) & (alpha < 0.98)
    most = [(side - SIDE) // 4 * 4 for side in alpha.shape]

    def cut(x: Tensor, by: int, top: int, left: int) -> Tensor:
        side, y, x0 = SIDE // by, top // by, left // by
        return x[..., y : y + side, x0 : x0 + side]

    for _ in range(FROM_EACH):
        side = int(rng.integers(4)) if rng.random() < AT_BORDER else None
        found = []
        for _ in range(5):
            at = [4 * int(rng.integers(0, room // 4 + 1)) for room in most]
            if side is not None:
                at[side // 2] = side % 2 * most[side // 2]
            found.append((int(cut(edge, 1, *at).sum()), *at))
        wanted = rng.random() < EDGES[middle is None]
        _, top, left = max(found) if wanted else found[0]
        scales = (4, 2, 2, 2, 1)
        parts = (cut(x, n, top, left) for x, n in zip(inputs, scales, strict=True))
        between = None if middle is None else cut(middle, 2, top, left)
        target = cut(out, 1, top, left)
        kept.add((*parts, known(alpha, top, left), between), target)


def known(alpha: Tensor, top: int, left: int) -> Tensor:
    """Where a crop shows all that the teacher saw: (1, 1, SIDE, SIDE), 1 or 0.

    That is not so near its edges, but for those that are the picture's own. There what
    is padded has to be learned: left out, it would be free to do anything.
    """
    seen = torch.zeros(1, 1, SIDE, SIDE)
    height, width = alpha.shape
    rows, columns = (
        slice(0 if at == 0 else MARGIN, SIDE if at + SIDE == whole else SIDE - MARGIN)
        for at, whole in ((top, height), (left, width))
    )
    seen[..., rows, columns] = 1
    return seen


def fit_ends(student: MattingNetwork, kept: Kept, seconds: float, rate: float) -> str:
    """Fit the last two parts of the decoder together, on what is seen: alpha, colour.

    Where alpha is exact, its slopes count too. Where it is the teacher's, so do the
    teacher's maps, which hold for what alpha and colour do not tell.

    Args:
        student: Learns; its BatchNorms only add a bias afterwards.
        kept: From `end_examples`.
        seconds: For how long.
        rate: Of learning, at first.

    Returns:
        Mean absolute error of alpha before and after, of each kind of crop.
    """
    first, last = (folded(Part(student, p)).requires_grad_(True) for p in ENDS)
    held = list(kept.held_out())
    taught = [example for example in held if example[0][-1] is not None]
    map_weight = per_channel([inputs[-1] for inputs, _ in taught])
    out_weight = per_channel([target for _, target in taught])
    rng = np.random.default_rng(0)

    def losses(example: Example) -> tuple[Tensor, Tensor]:
        *inputs, src, seen, target_map = example[0]
        target = example[1]
        assert src is not None
        assert seen is not None
        middle = first(*inputs)
        out = last(middle, src)
        counted = seen / seen.mean()
        true, alpha = target[:, 3:].clamp(0, 1), out[:, 3:]
        # What clamping takes away is not wrong.
        beyond = ((true == 1) & (alpha > 1)) | ((true == 0) & (alpha < 0))
        wrong = torch.where(beyond, 0.0, alpha - true) * seen
        # A slope that vanishes with the error: the absolute value's would be noise.
        learned = F.smooth_l1_loss(wrong, torch.zeros_like(wrong), beta=0.005)
        mine, theirs = ((src + x[:, :3]).clamp(0, 1) for x in (out, target))
        colour = ((mine - theirs).abs() * (true > 0) * counted).mean()
        if target_map is None:
            off = (alpha.clamp(0, 1) - true) * seen
            steps = [off.diff(dim=at).square().mean() for at in (-1, -2)]
            rest = colour + 5 * (steps[0] + steps[1])
        else:
            half = F.avg_pool2d(counted, 2)
            raw = ((out - target).square() * out_weight * counted).mean()
            maps = ((middle - target_map).square() * map_weight * half).mean()
            rest = 3 * colour + 0.4 * raw + 0.6 * maps
        total = 5 * learned / seen.mean() + rest
        return total, wrong.abs().mean() / seen.mean()

    def loss() -> Tensor:
        return losses(kept.draw(rng, 4 * SIDE**2))[0]

    @torch.no_grad()
    def error() -> str:
        return " ".join(f"{float(losses(example)[1]):.5f}" for example in held)

    before = error()
    parameters = [*first.parameters(), *last.parameters()]
    steps = descend(Soap(parameters, rate), loss, seconds, 0.2, 1.0)
    after = error()
    for names, own in zip(ENDS, (first, last), strict=True):
        unfold(Part(student, names), own.state_dict())
    return f"{before} to {after} in {steps} steps"


@torch.no_grad()
def main() -> int:
    parser = argparse.ArgumentParser(description="Fit what errs most in a student.")
    parser.add_argument("out", type=Path, help="safetensors to write")
    parser.add_argument("--teacher", required=True, metavar="WEIGHTS")
    parser.add_argument("--start", default="rematte-mobilenetv3", metavar="WEIGHTS")
    parser.add_argument("--shards", nargs="+", required=True, metavar="TAR")
    parser.add_argument("--minutes", type=float, default=45, help="of each part")
    parser.add_argument(
        "--pictures", type=int, default=1100, help="photos, of the tail"
    )
    parser.add_argument("--crops", type=int, default=1800, help="of the ends")
    parser.add_argument("--only", choices=("tail", "ends"))
    parser.add_argument(
        "--share", type=float, default=0.7, help="of the way that the ends go"
    )
    options = parser.parse_args()
    student, teacher = load_network(options.start), load_network(options.teacher)
    found, _ = index(Data(shards=tuple(options.shards))).split(Data().held_out)
    torch.set_flush_denormal(True)  # on a CPU they are a hundred times slower
    seconds = 60 * options.minutes
    if options.only != "ends":
        told = fit_tail(student, teacher, found, seconds, 1.5e-4, options.pictures)
        print(f"encoder's tail: error {told}", flush=True)
    if options.only != "tail":
        kept = end_examples(student, teacher, found, options.crops, 0)
        begun = {key: value.clone() for key, value in student.state_dict().items()}
        print(f"alpha: error {fit_ends(student, kept, seconds, 1e-3)}", flush=True)
        for key, value in student.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.lerp(begun[key], value, options.share))
    save_file({k: v.contiguous() for k, v in student.state_dict().items()}, options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    end(main)
