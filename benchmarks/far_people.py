"""Measure conversions on clips with small people and exact alpha.

    python benchmarks/far_people.py [SHARDS...] [--seed 0] [--clips 20]
        [--held-out SHARE] [--variant full="--region full"]

Draws clips of cut-outs over rooms and landscapes at 1080p or 4K: one to three people, 8
to 25% of the frame's height, who stand, walk across, enter late, leave or stand far
apart, some with a cut to another scene with other people. Then `rematte convert`
produces alpha with the flags of each variant, in separate processes that take turns;
flags that begin with the word live are those of `rematte live`, which drops no frame.
Another seed draws other clips. MAD x1e3, dtSSD x1e2 and IoU are means over frames; a
person is lost in a frame if the first variant finds them and another does not. Needs
the extra `train`. The pictures are not part of the project: without them this prints a
message and does nothing.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from far_clips import draw, name_of, save

from rematte.errors import InputError, end
from rematte.evaluate import metrics
from rematte.evaluate.dataset import Array, Matte
from rematte.evaluate.evaluate import score
from rematte.train.data import index
from rematte.train.recipe import Data
from rematte.video.frame import Pixels
from rematte.video.reader import VideoReader

SHARDS = Path(__file__).parent.parent.parent / "shared" / "train"
VARIANTS = ("full=--region full", "auto=--region auto")
MEASURES = ("mad", "dtssd", "iou")
# Of the whole process; without choosing and building an engine; of all cores.
TIMES = ("seconds", "work", "cpu")
BARS = {"mad": 0.25, "dtssd": 1.3, "iou": 0.96}

# For each frame, by person: the mean alpha on them, and IoU in the box around them.
Finds = list[dict[int, tuple[float, float]]]


def find_people(alpha: Array, labels: Pixels) -> dict[int, tuple[float, float]]:
    """How well alpha covers each of the people in a frame; label 0 is nobody."""
    found = {}
    for person in np.unique(labels)[1:]:
        here = labels == person
        rows, columns = (np.flatnonzero(here.any(axis)) for axis in (1, 0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        overlap = metrics.iou(alpha[box], (labels[box] > 0).astype(float))
        found[int(person)] = float(alpha[here].mean()), overlap or 0.0
    return found


def lost_people(first: Finds, other: Finds) -> dict[int, list[int]]:
    """The frames, by person, in which the first finds them and the other does not."""
    lost: dict[int, list[int]] = {}
    for frame, (mine, theirs) in enumerate(zip(first, other, strict=True)):
        for person, (covered, overlap) in mine.items():
            if covered > 0.5 and overlap > 0.3 and theirs[person][0] < 0.2:
                lost.setdefault(person, []).append(frame)
    return lost


def read_gray(path: Path) -> Iterator[Pixels]:
    """Yield the frames of a gray video, (H, W)."""
    with VideoReader(path) as reader:
        for frame in reader:
            yield frame.pixels[..., 0]


def watched(alpha: Path, people: Path, finds: Finds) -> Iterator[Matte]:
    """Yield the frames of an alpha, and note whom each of them finds."""
    for pixels, labels in zip(read_gray(alpha), read_gray(people), strict=True):
        matte = Matte(pixels / np.float32(255))
        finds.append(find_people(matte.alpha, labels))
        yield matte


def convert(clip: Path, alpha: Path, flags: Sequence[str]) -> dict[str, Any]:
    """Run a conversion as a process; give its times [s] and its own report."""
    words = ["convert", str(clip), "--alpha", str(alpha), "--json", *flags]
    if flags[:1] == ["live"]:
        shown = ("-o", str(alpha), "--show", "alpha", "--no-drop", "--no-pace")
        words = ["live", str(clip), *shown, "--json", *flags[1:]]
    begin, used = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-m", "rematte", *words], capture_output=True, text=True
    )
    seconds, after = time.perf_counter() - begin, os.times()
    if done.returncode:
        raise InputError(f"rematte {shlex.join(words)}: {done.stderr.strip()}")
    report = json.loads(done.stdout.splitlines()[-1])
    work = report["seconds"] - report.get("setup", 0)  # live states none
    # Other programs change this time less.
    cpu = sum(after[2:4]) - sum(used[2:4])
    return {"seconds": seconds, "work": work, "cpu": cpu, "report": report}


def measure(
    folder: Path, variants: dict[str, list[str]], repeat: int, turn: int
) -> dict[str, dict[str, Any]]:
    """Convert a clip with all variants, and measure each.

    The first variant is what the others are compared with. Of `repeat` runs the
    shortest times count; `turn` says which variant begins.
    """
    rows: dict[str, dict[str, Any]] = {name: {} for name in variants}
    finds: dict[str, Finds] = {name: [] for name in variants}
    turn %= len(variants)
    with tempfile.TemporaryDirectory() as made:
        targets = {name: Path(made) / f"{i}.mkv" for i, name in enumerate(variants)}
        for _ in range(repeat):
            for name in (*targets, *targets)[turn : turn + len(variants)]:
                targets[name].unlink(missing_ok=True)
                run = convert(folder / "com.mp4", targets[name], variants[name])
                least = {k: min(run[k], rows[name].get(k, run[k]))
                         for k in TIMES}  # fmt: skip
                rows[name] |= run | least
        for name, alpha in targets.items():
            pred = watched(alpha, folder / "people.mkv", finds[name])
            true = (Matte(x / np.float32(255)) for x in read_gray(folder / "pha.mkv"))
            rows[name] |= score(folder.name, pred, true, MEASURES).mean
    first = next(iter(variants))
    for name in variants:
        rows[name]["lost"] = lost_people(finds[first], finds[name])
    return rows


def line(clip: str, name: str, row: dict[str, Any], lost: str) -> str:
    """A line of the table."""
    cells = [f"{row[key]:.3f}" for key in MEASURES]
    cells += [f"{row[key]:.1f}" for key in TIMES]
    return f"| {clip} | {name} | {' | '.join(cells)} | {lost or '-'} |"


def spans(frames: list[int]) -> str:
    """Frame numbers as ranges, such as 3-5, 9."""
    begins = [f for f in frames if f - 1 not in frames]
    ends = [f for f in frames if f + 1 not in frames]
    pairs = zip(begins, ends, strict=True)
    return ", ".join(f"{a}-{b}" if a < b else f"{a}" for a, b in pairs)


def summary(found: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Means over clips, sums of times, and the number of lost people, by variant."""
    means: dict[str, dict[str, Any]] = {}
    for name in next(iter(found.values())):
        rows = [variants[name] for variants in found.values()]
        means[name] = {key: fmean(row[key] for row in rows) for key in MEASURES}
        for key in TIMES:
            means[name][key] = sum(row[key] for row in rows)
        means[name]["lost"] = sum(len(row["lost"]) for row in rows)
    return means


def show_summary(means: dict[str, dict[str, Any]]) -> None:
    first = next(iter(means.values()))
    for name, row in means.items():
        print(line("all", name, row, f"{row['lost']} people"))
    for name, row in means.items():
        held = [row[key] >= bar if key == "iou" else row[key] <= bar
                for key, bar in BARS.items()]  # fmt: skip
        told = ", ".join(
            f"{key} {'holds' if ok else 'misses'} {bar}"
            for ok, (key, bar) in zip(held, BARS.items(), strict=True)
        )
        times = [f"{row[key] / first[key]:.2f}" for key in TIMES]
        print(f"{name}: {told}; times over the first's: {', '.join(times)}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure clips of small people.")
    parser.add_argument("shards", type=Path, nargs="*", help="default: the shared ones")
    parser.add_argument("--seed", type=int, default=0, help="of the clips")
    parser.add_argument("--clips", type=int, default=20, help="how many")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of clips instead")
    parser.add_argument("--variant", action="append", metavar="NAME=FLAGS",
                        help='default: full="--region full", auto="--region auto"'
                        )  # fmt: skip
    parser.add_argument("--repeat", type=int, default=1, help="take the shortest of")
    parser.add_argument("--held-out", type=float, default=0.0, metavar="SHARE",
                        help="draw from the pictures alone that training with this "
                        "data.held_out keeps back")  # fmt: skip
    parser.add_argument("--folder", type=Path, help="keep the clips here, to use again")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    shards = options.shards or sorted(SHARDS.glob("*.tar"))
    if not shards:
        print(f"{SHARDS}/*.tar are not here; give SHARDS")
        return 0
    pairs = [text.partition("=") for text in options.variant or VARIANTS]
    variants = {name: shlex.split(flags) for name, _, flags in pairs}
    pictures = index(Data(shards=tuple(map(str, shards))))
    if options.held_out:
        pictures = pictures.split(options.held_out)[1]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    print("| clip | variant | MAD | dtSSD | IoU | s | without set-up | CPU s |"
          " lost person: frames |")  # fmt: skip
    print("| --- |" + " --- |" * 8)
    with tempfile.TemporaryDirectory() as made:
        for number in options.only or range(options.clips):
            top = options.folder or Path(made)
            folder = top / f"seed{options.seed}" / name_of(number)
            if not (folder / "com.mp4").exists():
                save(draw(pictures, options.seed, number), folder, options.seed)
            found[folder.name] = measure(folder, variants, options.repeat, number)
            for name, row in found[folder.name].items():
                told = [f"{who}: {spans(at)}" for who, at in row["lost"].items()]
                print(line(folder.name, name, row, "; ".join(told)), flush=True)
    means = summary(found)
    show_summary(means)
    if options.output:
        figures = {"seed": options.seed, "variants": variants, "means": means,
                   "clips": found}  # fmt: skip
        options.output.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    end(main)
