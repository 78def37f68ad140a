"""Measure weights against ground truth, not against a teacher.

    python benchmarks/ground_truth.py WEIGHTS... [--shared ../shared] [--out FOLDER]

Three questions, each a table:

1. How far is alpha from the truth at ratio 1? This is measured on a keyed clip and
   photos with masks that no training saw, and on cut-outs that training may have seen.
2. Does the deep guided filter beat bilinear enlargement and the fast guided filter,
   from the same coarse output, on 1080p pictures with bars, stripes and hair?
3. Does alpha flicker more than the teacher's, both against the truth?

The pictures are not part of the project: without the folder this prints a message and
does nothing. docs/evaluate.md explains the units and the limits of the figures.
"""

import argparse
import json
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional as F

from rematte.engines.tensors import to_pixels
from rematte.errors import end
from rematte.evaluate import METRICS, metrics
from rematte.evaluate.chroma_key import ColourDifferenceKey
from rematte.evaluate.dataset import Matte
from rematte.evaluate.evaluate import ClipScores, score
from rematte.evaluate.testset import fit_tensor
from rematte.network.guided_filter import (
    DeepGuidedFilter,
    FastGuidedFilter,
    refine,
    shrink,
)
from rematte.network.matting_network import MattingNetwork
from rematte.train.augment import Layers, composite, motion, place, straight, warp
from rematte.train.data import Index, Item, decode, index
from rematte.train.recipe import NO_AUGMENT, Data
from rematte.video.frame import Pixels
from rematte.video.reader import VideoReader
from rematte.weights.load import load_network

SHARED = Path(__file__).parent.parent.parent / "shared"
TEACHER = "weights/rvm_mobilenetv3_fgf_dequantized.safetensors"
HELD_OUT = 0.02  # as recipes have it
SIZE = (288, 512)
LARGE = (1080, 1920)
MOVING = replace(NO_AUGMENT, motion=1.0, flip=0.5)
MOST_FLICKER = 1.1  # dtSSD over the teacher's
WARM = 3  # frames of a still until the memory is filled

# Where the camera is on the man and he is whole, in frames of 60 per second.
WALL = "clips/man_uneven_backing.mp4"
WALL_STARTS = (60, 150, 270, 400, 470, 940, 1010, 1390)
REAL = "clips/talk_portrait_hevc.mp4"
REAL_FRAMES = range(0, 200, 20)
# Upright, with the head on top, so that there is a place for hair.
STANDING = {
    "cutouts/r_60.png": "wallpapers/Mountains and forest.jpg",
    "cutouts/r_64.png": "rooms/269_kitchen.jpg",
}
KINDS = ("railings", "stripes", "hair")

MEASURES = ("mad", "mse", "grad", "conn", "dtssd")
FILTERS = ("bilinear", "fast", "deep")
RATIOS = (0.5, 0.25)

# By weights, then by group of clips or pictures, then by measure.
Figures = dict[str, dict[str, dict[str, float]]]


class Clip(NamedTuple):
    """A composite and its truth."""

    src: Tensor  # what the network sees, (T, 3, H, W), of 8 bits
    pha: Tensor  # true alpha, (T, 1, H, W)


class Still(NamedTuple):
    """A large picture, its truth, and where to look."""

    src: Tensor  # (1, 3, H, W)
    pha: Tensor  # (1, 1, H, W)
    at: tuple[int, int]  # row and column of the middle of the detail


def tensor(picture: Pixels) -> Tensor:
    """Turn (..., H, W, C) of 8 bits into (..., C, H, W) in [0, 1]."""
    return torch.from_numpy(picture).movedim(-1, -3).float() / 255


def laid(layers: Layers) -> Clip:
    """Composite, rounded to 8 bits as a file would be."""
    return Clip(composite(layers).mul(255).round() / 255, layers.pha)


# Clips of ordinary size


def cutout_clip(item: Item, back: Item, frames: int, rng: Generator) -> Clip:
    """A cut-out over a background, both moving."""
    cut = tensor(decode(item.media, [0] * frames, "RGBA"))
    bgr = tensor(decode(back.media, [0] * frames, "RGB"))
    return laid(place(cut[:, :3], cut[:, 3:], bgr, SIZE, MOVING, rng))


def key_yellow(src: Tensor, low: float = 0.35, high: float = 0.6) -> Layers:
    """Key a man from a yellow wall: in the negative it is a blue screen.

    The thresholds are where the wall is black and the skin, which has some yellow, is
    white. They make edges steeper than they were. The background given back is `src`.
    """
    fgr, pha, *_ = ColourDifferenceKey("blue", low=low, high=high)(1 - src[None])
    return Layers(1 - fgr[0], pha[0], src)


def wall_clips(
    path: Path, backs: Sequence[Item], frames: int, count: int, rng: Generator
) -> Iterator[Clip]:
    """The man of the keyed clip over moving backgrounds, every other frame."""
    starts = WALL_STARTS[:count]
    wanted = {start + 2 * step for start in starts for step in range(frames)}
    with VideoReader(path) as reader:
        seen = {i: tensor(f.pixels) for i, f in enumerate(reader) if i in wanted}
    for number, start in enumerate(starts):
        src = torch.stack([seen[start + 2 * step] for step in range(frames)])
        keyed = key_yellow(src)
        cut = torch.cat([keyed.fgr * keyed.pha, keyed.pha], 1)
        # As wide as the frame and down to its lower edge, so that he does not float.
        high = round(src.shape[2] * SIZE[1] / src.shape[3])
        cut = F.interpolate(cut, (high, SIZE[1]), mode="bicubic").clamp(0, 1)
        cut = cut[:, :, -SIZE[0] :]
        bgr = tensor(decode(backs[number % len(backs)].media, [0] * frames, "RGB"))
        moves = motion(rng, frames, (1, 1.3), MOVING)
        bgr = warp(bgr, moves, SIZE, "cover", "reflection")
        yield laid(Layers(straight(cut[:, :3], cut[:, 3:]), cut[:, 3:], bgr))


def listed(items: Sequence[Item]) -> list[Item]:
    """The tenth of the cut-outs that is measured, by a hash of the names."""
    return [item for item in items if zlib.crc32(item.name.encode()) % 10 == 0]


def clip_groups(shared: Path, found: Index, quick: bool) -> dict[str, list[Clip]]:
    """Composites with exact truth: held out, and perhaps seen in training."""
    rng = default_rng(0)
    kept = found.split(HELD_OUT)[1]
    names = {item.name for item in kept.mattes}
    seen = [item for item in listed(found.mattes) if item.name not in names]
    frames, count = (4, 2) if quick else (12, len(WALL_STARTS))
    backs = [kept.backgrounds[i] for i in rng.permutation(len(kept.backgrounds))]
    wall = wall_clips(shared / WALL, backs, frames, count, rng)
    groups = {"keyed man, held out": list(wall)}
    # A held-out cut-out is rare: each is shown at four places.
    for name, items in (
        ("cut-outs, held out", [item for item in kept.mattes for _ in range(4)]),
        ("cut-outs, seen; rooms held out", seen[: count if quick else None]),
    ):
        pairs = enumerate(items)
        groups[name] = [
            cutout_clip(item, backs[i % len(backs)], frames, rng) for i, item in pairs
        ]
    return groups


def masked_photos(found: Index, quick: bool) -> list[Clip]:
    """Held-out photos of people with rough masks, each standing still."""
    items = found.split(HELD_OUT)[1].masks[: 4 if quick else None]
    clips = []
    for item in items:
        assert item.alpha is not None
        src = tensor(decode(item.media, [0] * WARM, "RGB"))
        clips.append(Clip(src, tensor(decode(item.alpha, [0] * WARM, "L")).round()))
    return clips


def alpha_of(model: nn.Module, src: Tensor) -> list[Tensor]:
    """Alpha (1, H, W) of each of (T, 3, H, W), states carried on, at ratio 1."""
    found, states = [], [None] * 4
    for frame in src:  # one by one: chunks take far more memory, and longer
        _, pha, *states = model(frame[None], *states)
        found.append(pha[0])
    return found


def measure(
    model: nn.Module, clips: Sequence[Clip]
) -> tuple[dict[str, float], list[Tensor]]:
    """Give the mean of `MEASURES` over clips, and each one's last alpha."""
    means, last = [], []
    for clip in clips:
        pred = alpha_of(model, clip.src)
        mine, theirs = ([Matte(a[0].numpy()) for a in x] for x in (pred, clip.pha))
        means.append(score("clip", mine, theirs, MEASURES).mean)
        last.append(pred[-1])
    return ClipScores("all", means).mean, last


def measure_masks(model: nn.Module, clips: Sequence[Clip]) -> dict[str, float]:
    """MAD and IoU of photos against their masks, when the memory is filled."""
    pred = (Matte(alpha_of(model, clip.src)[-1][0].numpy()) for clip in clips)
    true = (Matte(clip.pha[-1, 0].numpy()) for clip in clips)
    return score("photos", pred, true, ("mad", "iou")).mean


# Large pictures


def enlarge(rgba: NDArray[np.uint8], height: int, steep: float = 3.0) -> Tensor:
    """Enlarge a cut-out, and make its edge as sharp, or steep, as in a large photo."""
    width = round(rgba.shape[1] * height / rgba.shape[0])
    image = Image.fromarray(rgba).resize((width, height), Image.Resampling.LANCZOS)
    large = tensor(np.array(image))
    large[3] = ((large[3] - 0.5) * steep + 0.5).clamp(0, 1)
    return large


def add_hair(cut: Tensor, rng: Generator, strands: int = 250) -> Tensor:
    """Put drawn hair behind the head of a cut-out (4, H, W), of known alpha."""
    height, width = cut.shape[1:]
    inside = cut[3] > 0.5
    top = int(inside.any(1).nonzero()[0])
    reach = inside.any(1).sum().item()  # of the person, in pixels
    head = inside[top : top + int(0.1 * reach)].any(0).nonzero()
    middle = np.array([float(head.float().mean()), top + 0.07 * reach])
    drawn = Image.new("L", (2 * width, 2 * height))  # halved, for smooth lines
    pen = ImageDraw.Draw(drawn)
    for angle in rng.uniform(-1.1 * np.pi, 0.1 * np.pi, strands):
        # Each grows outwards, then bends down.
        step = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0.09, 0.13)
        bend = rng.uniform((-0.03, 0), (0.03, 0.06))
        along = np.linspace(0, 1, 24)[:, None]
        path = middle + reach * (step * along + bend * along**2)
        pen.line([tuple(2 * at) for at in path], 255, int(rng.integers(1, 4)))
    smooth = drawn.resize((width, height), Image.Resampling.BOX)
    behind = (1 - cut[3]) * tensor(np.array(smooth)[..., None])[0]
    brown = torch.tensor([0.20, 0.13, 0.09])[:, None, None]
    alpha = cut[3] + behind
    colour = (cut[:3] * cut[3] + brown * behind) / alpha.clamp(min=1e-6)
    return torch.cat([colour, alpha[None]])


def bars(size: tuple[int, int], period: int, share: float, slope: float) -> Tensor:
    """Bars, 1 on them and 0 between: (1, H, W), antialiased.

    A bar takes a share of the period [pixels]; the slope is in columns per row.
    """
    rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])[None]
    place = ((columns + slope * rows) / period) % 1
    edge = (share / 2 - (place - 0.5).abs()) * period
    return (edge + 0.5).clamp(0, 1)[None]


def large_still(rgba: NDArray[np.uint8], back: Tensor, kind: str) -> Still:
    """A large person before railings, stripes, or with hair, and exact truth."""
    height, width = LARGE
    bgr = fit_tensor(back, height, width, "cover")
    cut = enlarge(rgba, round(1.2 * height))
    side, above = cut.shape[2] // 4, height // 5
    cut = F.pad(cut, (side, side, above, 0))  # room for hair
    if kind == "railings":
        bgr = torch.lerp(bgr, bgr * 0.15, bars(LARGE, 56, 0.25, 0))
    if kind == "stripes":
        bgr = torch.lerp(bgr * 0.5, bgr * 0.5 + 0.4, bars(LARGE, 44, 0.5, 0.6))
    if kind == "hair":
        cut = add_hair(cut, default_rng(3))
    front = torch.zeros(4, height, width)
    left = (width - cut.shape[2]) // 2
    cut = cut[:, :height]
    front[:, -cut.shape[1] :, left : left + cut.shape[2]] = cut
    clip = laid(Layers(front[None, :3], front[None, 3:], bgr[None]))
    return Still(*clip, left_edge(front[3], 90 if kind == "hair" else 360))


def left_edge(alpha: Tensor, below: int) -> tuple[int, int]:
    """Where a person's outline is on the left, some rows below the top of it."""
    inside = alpha > 0.5
    row = int(inside.any(1).nonzero()[0]) + below
    return row, int(inside[row].nonzero()[0])


def large_stills(found: Index, quick: bool) -> dict[str, list[Still]]:
    """Large pictures of each kind."""
    named = {item.name: item for item in found.mattes + found.backgrounds}
    pictures: dict[str, list[Still]] = {kind: [] for kind in KINDS}
    for name, behind in list(STANDING.items())[: 1 if quick else None]:
        rgba = decode(named[name].media, [0], "RGBA")[0]
        back = tensor(decode(named[behind].media, [0], "RGB"))[0]
        for kind in KINDS:
            pictures[kind].append(large_still(rgba, back, kind))
    return pictures


def by_filter(model: MattingNetwork, src: Tensor, ratio: float) -> dict[str, Tensor]:
    """Alpha (1, 1, H, W) of the same coarse output, enlarged in each way there is."""
    picture = shrink(src, ratio)
    r1 = r2 = r3 = r4 = None
    for _ in range(WARM):
        f1, f2, f3, f4 = model.backbone(picture)
        features = f1, f2, f3, model.aspp(f4)
        hidden, r1, r2, r3, r4 = model.decoder(picture, features, (r1, r2, r3, r4), 1)
    coarse = model.project_mat(hidden)
    size = list(src.shape[-2:])
    plain = F.interpolate(coarse[:, 3:], size, mode="bilinear", align_corners=False)
    found = {"bilinear": plain, "fast": FastGuidedFilter(16)(picture, coarse, hidden)}
    if isinstance(model.refiner, DeepGuidedFilter):
        found["deep"] = model.refiner(picture, coarse, hidden)
    maps = {k: refine(src, *v)[:, 3:] if k != "bilinear" else v
            for k, v in found.items()}  # fmt: skip
    return {name: alpha.clamp(0, 1) for name, alpha in maps.items()}


def real_stills(teacher: MattingNetwork, path: Path, frames: range) -> list[Still]:
    """Frames of the real clip; what the teacher sees at ratio 1 is true."""
    stills = []
    with VideoReader(path) as reader:
        for frame in islice(reader, frames.start, frames.stop, frames.step):
            src = tensor(frame.pixels)[None]
            pha = alpha_of(teacher, src.expand(WARM, -1, -1, -1))[-1]
            stills.append(Still(src, pha[None], left_edge(pha[0], 90)))
    return stills


def measure_filters(
    model: MattingNetwork, pictures: dict[str, list[Still]], name: str, out: Path | None
) -> dict[str, dict[str, float]]:
    """Grad and MAD of each way to enlarge, by kind of picture and ratio.

    Crops of picture, truth, and each way's alpha are put into `out`.
    """
    found = {}
    for kind, ratio in product(pictures, RATIOS):
        rows, figures = [], []
        for still in pictures[kind]:
            alphas = by_filter(model, still.src, ratio)
            true = still.pha[0, 0].numpy()
            figures.append({
                f"{measure} {way}": call(alpha[0, 0].numpy(), true)
                for way, alpha in alphas.items()
                for measure, call in (("Grad", metrics.gradient), ("MAD", metrics.mad))
            })  # fmt: skip
            shown = [still.src, still.pha, *alphas.values()]
            rows.append([crop(picture[0], still.at) for picture in shown])
        found[f"{kind}, ratio {ratio}"] = {
            key: fmean(one[key] for one in figures) for key in figures[0]
        }
        save_sheet(out, f"{kind}_{ratio}_{name}", rows)
    return found


# What comes out


def crop(picture: Tensor, at: tuple[int, int], side: int = 320) -> Tensor:
    """Cut a square out of (C, H, W), as near to a place as the border allows."""
    top, left = (
        max(0, min(middle - side // 2, length - side))
        for middle, length in zip(at, picture.shape[-2:], strict=True)
    )
    return picture[:, top : top + side, left : left + side]


def save_sheet(out: Path | None, name: str, rows: Sequence[Sequence[Tensor]]) -> None:
    """Write rows of pictures, gray ones too, as one PNG."""
    if out is not None and rows:
        lines = [torch.cat([x.expand(3, -1, -1) for x in row], 2) for row in rows]
        pixels = to_pixels(torch.cat(lines, 1), False)
        plain = re.sub(r"[^\w.]+", "_", name)
        Image.fromarray(pixels).save(out / f"{plain}.png")


def table(figures: Figures, columns: Sequence[str]) -> list[str]:
    """Lines of a Markdown table: a row for each group and weights."""
    lines = [
        f"| what | weights | {' | '.join(METRICS.get(c, c) for c in columns)} |",
        "| --- | --- |" + " --- |" * len(columns),
    ]
    groups = dict.fromkeys(group for rows in figures.values() for group in rows)
    for group, name in product(groups, figures):
        row = figures[name].get(group, {})
        cells = [f"{row[key]:.3f}" if key in row else "-" for key in columns]
        lines.append(f"| {group} | {name} | {' | '.join(cells)} |")
    return lines


def verdicts(clips: Figures, filters: Figures, teacher: str) -> Iterator[str]:
    """Say for each weights whether they hold the two bars."""
    for name, rows in filters.items():
        with_deep = {key: row for key, row in rows.items() if "Grad deep" in row}
        lost = [
            key for key, row in with_deep.items()
            if row["Grad deep"] >= min(row["Grad bilinear"], row["Grad fast"])
        ]  # fmt: skip
        if with_deep:
            verdict = f"no: {'; '.join(lost)}" if lost else "yes"
            yield f"- {name}: deep guided filter best in Grad everywhere: {verdict}"
    for name, rows in clips.items():
        for group, row in rows.items():
            if name != teacher and "dtssd" in row and teacher in clips:
                share = row["dtssd"] / clips[teacher][group]["dtssd"]
                verdict = "yes" if share <= MOST_FLICKER else "no"
                yield (f"- {name}: dtSSD at most {MOST_FLICKER} times the teacher's "
                       f"over {group}: {verdict}, {share:.2f}")  # fmt: skip


def label(weights: str) -> str:
    """A short name: of the file and its folder, or as it is."""
    path = Path(weights)
    return f"{path.parent.name}/{path.stem}" if path.is_file() else weights


def run(
    names: Sequence[str], shared: Path, out: Path | None, quick: bool
) -> tuple[Figures, Figures]:
    """Measure all weights, of which the last is the teacher."""
    found = index(Data(shards=(str(shared / "train" / "*.tar"),)))
    groups, photos = clip_groups(shared, found, quick), masked_photos(found, quick)
    pictures = large_stills(found, quick)
    frames = REAL_FRAMES[: 1 if quick else None]
    pictures["real clip"] = real_stills(load_network(names[-1]), shared / REAL, frames)
    clips: Figures = {label(name): {} for name in names}
    filters: Figures = {label(name): {} for name in names}
    shown = {
        group: [[clip.src[-1], clip.pha[-1]] for clip in members]
        for group, members in groups.items()
    }
    for weights in names:
        model, name = load_network(weights), label(weights)
        for group, members in groups.items():
            row, last = measure(model, members) if members else ({}, [])
            clips[name][f"{group} ({len(members)})"] = row
            for cells, alpha in zip(shown[group], last, strict=True):
                cells.append(alpha)
        title = f"photos with rough masks, held out ({len(photos)})"
        clips[name][title] = measure_masks(model, photos)
        filters[name] = measure_filters(model, pictures, name, out)
        print(f"{name}: done", file=sys.stderr, flush=True)
    for group, rows in shown.items():
        save_sheet(out, group, rows)
    return clips, filters


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure against ground truth.")
    parser.add_argument("weights", nargs="+", help="names or files")
    parser.add_argument("--shared", type=Path, default=SHARED, help="the shared data")
    parser.add_argument("--teacher", help="weights to compare dtSSD with")
    parser.add_argument("--out", type=Path, help="write pictures into this folder")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write what is printed here")
    parser.add_argument("--quick", action="store_true", help="few and short clips")
    options = parser.parse_args()
    if not (options.shared / "train").is_dir():
        print(f"{options.shared}/train is not here; pass --shared FOLDER")
        return 0
    teacher = options.teacher or str(options.shared / TEACHER)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    labels = {label(name): name for name in options.weights}
    if len(labels) < len(options.weights):
        parser.error("two weights have the same file and folder name; rename one")
    names = [name for short, name in labels.items() if short != label(teacher)]
    with torch.inference_mode():
        clips, filters = run(
            [*names, teacher], options.shared, options.out, options.quick
        )
    ways = [f"{measure} {way}" for measure in ("Grad", "MAD") for way in FILTERS]
    lines = [*table(clips, [*MEASURES, "iou"]), "", *table(filters, ways), "",
             *verdicts(clips, filters, label(teacher))]  # fmt: skip
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        figures = {"clips": clips, "filters": filters}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    end(main)
