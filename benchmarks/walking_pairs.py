"""Measure `--person` on clips of two people who walk past each other.

    python benchmarks/walking_pairs.py [SHARDS...] [--seed 0] [--clips 12]
        [--flags "--quality best"]
    python benchmarks/walking_pairs.py --filmed FOLDER [--flags "--quality best"]

Draws cut-outs, half to 85% as tall as the frame, over rooms at 1280x720: one walks to
the right and one to the left, past each other. `rematte convert` cuts out the one who
starts on the left, then the one on the right. Prints for each the mean IoU of alpha at
0.5 with the true person before, during and after contact, and whether the people were
swapped at the end. Another seed draws other clips. With --filmed, filmed people are cut
out of clips by `--quality best` and walk past each other over a filmed room. The truth
is the alpha by which they were pasted, so it is exact whatever the quality of that
cut-out. Needs the extra `train`. The pictures and clips are not part of the project:
without the pictures this prints a message and does nothing.
"""

import argparse
import shlex
import tempfile
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from far_clips import Clip, Person, Scene, cut_out, rooms_of, save, upright
from far_people import SHARDS, convert, read_gray
from numpy.random import default_rng
from torch import Tensor
from torch.nn import functional as F

from rematte.errors import InputError, end
from rematte.evaluate import metrics
from rematte.evaluate.testset import fit_tensor
from rematte.train.data import Index, decode, index
from rematte.train.recipe import Data
from rematte.video.frame import Pixels
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

BAR = 0.95  # of each choice before they touch
SIZE, RATE, FRAMES = (1280, 720), 25, 60
HEIGHTS = (0.5, 0.85)  # of the frame's
NEAR = 8  # columns between people who touch
# Clips of one person, who does not touch the sides, from the left and from the right;
# how tall each becomes, as a share of the frame's height; and the room.
FILMED = (
    ("signer_again.mkv", 0.8, "signer_eat.mkv", 0.85),
    ("signer_hungry.mkv", 0.7, "squats_portrait.mp4", 0.9),
    ("squats_portrait.mp4", 0.85, "signer_again.mkv", 0.75),
)
ROOM = "lobby_one_by_one.mp4"  # empty at first


def draw(found: Index, seed: int, number: int) -> Clip:
    """Draw a clip; the same seed and number give the same one."""
    rng = default_rng([seed, number])
    wide, high = SIZE
    rooms = rooms_of(found.backgrounds)
    pixels = decode(rooms[int(rng.integers(len(rooms)))].media, [0], "RGB")[0]
    room = torch.from_numpy(pixels).movedim(-1, 0) / 255
    shares = np.sort(rng.uniform(*HEIGHTS, 2))
    chosen = rng.choice(len(standing := upright(found.mattes)), 2, replace=False)
    people = []
    for share, at, right in zip(shares, chosen, rng.permutation([0, 1]), strict=True):
        cut = cut_out(standing[at], round(share * high))
        x = wide * np.linspace(*((0.82, 0.18) if right else (0.18, 0.82)), FRAMES)
        steps = np.abs(np.sin(2 * np.pi * np.arange(FRAMES) / RATE))
        y = high * (0.9 + 0.08 * share) - 0.01 * share * high * steps
        people.append(Person(cut, np.stack([x, y, np.ones(FRAMES)], 1)))
    scene = Scene(fit_tensor(room, high, wide, "cover"), people)
    return Clip(f"{number:02}", RATE, rng.uniform(0.5, 2), [scene])


def film(clip: Path, height: int, folder: Path) -> Tensor:
    """Cut a filmed person out, (FRAMES, 4, h, w), premultiplied, to a height."""
    target = folder / "cutout.mkv"
    flags = ["--quality", "best", "--region", "full", "--limit", str(FRAMES), "-y"]
    flags += ["--black-point", "0.1", "--white-point", "0.9", "--output", str(target)]
    convert(clip, folder / "alpha.mkv", flags)
    with VideoReader(target, ReadOptions(alpha=True)) as reader:
        frames = [frame.pixels for frame in reader]
    frames += frames[-2:0:-1]  # a short one plays back again
    rgba = torch.from_numpy(np.stack(frames[:FRAMES])).movedim(-1, 1) / 255
    inside = (rgba[:, 3] > 0.05).any(0).nonzero()
    (top, left), right = inside.amin(0), inside[:, 1].max() + 1
    rgba = rgba[:, :, top:, left:right]
    rgba[:, :3] *= rgba[:, 3:]
    size = height, round(rgba.shape[3] * height / rgba.shape[2])
    return F.interpolate(rgba, size, mode="bilinear", antialias=True).clamp(0, 1)


def compose(clips: Path, number: int, folder: Path) -> Clip:
    """Let two filmed people walk past each other, the second one in front."""
    wide, high = SIZE
    names, shares = FILMED[number][::2], FILMED[number][1::2]
    people = []
    for name, share, ends in zip(names, shares, ((0.2, 0.8), (0.8, 0.2)), strict=True):
        cuts = film(clips / str(name), round(float(share) * high), folder)
        x = wide * np.linspace(*ends, FRAMES)
        path = np.stack([x, np.full(FRAMES, high), np.ones(FRAMES)], 1)
        people.append(Person(cuts, path))
    with VideoReader(clips / ROOM) as reader:
        room = torch.from_numpy(next(iter(reader)).pixels).movedim(-1, 0) / 255
    back = fit_tensor(room, high, wide, "cover")
    return Clip(f"filmed {number}", RATE, 1.0, [Scene(back, people)])


def gap(labels: Pixels) -> int:
    """Columns between the two people; less than 0 where they overlap."""
    one, two = (np.flatnonzero((labels == who).any(0)) for who in (1, 2))
    return int(max(two[0] - one[-1], one[0] - two[-1])) if len(one) and len(two) else -1


def measure(folder: Path, side: str, flags: list[str]) -> dict[str, float]:
    """Cut out who begins at a side; give the mean IoU by part, and if it is swapped."""
    target = folder / f"{side}.mkv"
    convert(folder / "com.mp4", target, ["--person", side, *flags])
    parts: dict[str, list[float]] = {"before": [], "touching": [], "after": []}
    part, who, last = "before", 0, [0.0, 0.0]
    for alpha, labels in zip(
        read_gray(target), read_gray(folder / "people.mkv"), strict=True
    ):
        if not who:
            middles = [np.flatnonzero((labels == k).any(0)).mean() for k in (1, 2)]
            who = 1 + int((middles[0] > middles[1]) == (side == "left"))
        near = gap(labels) < NEAR
        if near and part == "before":
            part = "touching"
        elif not near and part == "touching":
            part = "after"
        last = [
            metrics.iou(alpha / 255.0, (labels == k).astype(float)) or 0.0
            for k in (who, 3 - who)
        ]
        parts[part].append(last[0])
    means = {name: fmean(values) for name, values in parts.items() if values}
    return means | {"least": min(parts["before"]), "swapped": float(last[1] > last[0])}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", nargs="*", default=[str(SHARDS / "*.tar")])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--filmed", type=Path, metavar="FOLDER",
                        help="paste people of the clips in this folder")  # fmt: skip
    parser.add_argument("--flags", default="", help="further flags of rematte convert")
    words = parser.parse_args()
    try:
        found = None if words.filmed else index(Data(shards=tuple(words.shards)))
    except InputError as error:
        print(f"nothing to draw from: {error}")
        return 0
    held = []
    for number in range(len(FILMED) if words.filmed else words.clips):
        with tempfile.TemporaryDirectory() as place:
            if found is None:
                clip = compose(words.filmed, number, Path(place))
            else:
                clip = draw(found, words.seed, number)
            save(clip, Path(place), words.seed)
            for side in ("left", "right"):
                row = measure(Path(place), side, shlex.split(words.flags))
                held.append(row["before"] >= BAR)
                print(
                    clip.name,
                    side,
                    {k: round(v, 3) for k, v in row.items()},
                    flush=True,
                )
    print(f"{sum(held)} of {len(held)} reach {BAR} before they touch")
    return 0


if __name__ == "__main__":
    end(main)
