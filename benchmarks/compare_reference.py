"""Compare weights with the reference's alpha on the shared development clips.

    python benchmarks/compare_reference.py [WEIGHTS] [--against WEIGHTS] [--frames 30]
        [--json OUT.json]

The first frames of each clip are resized by libswscale's AREA to a long side of 512
(never enlarged) and run through the network at ratio 1, with recurrent states. MAD x1e3
and IoU at 0.5 are averaged over frames. `--against` compares with the alpha of other
weights instead of the reference's. The clips are not part of the project: without the
folder this prints a message and does nothing.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation

from rematte.errors import InputError, end
from rematte.evaluate.dataset import Matte
from rematte.evaluate.evaluate import ClipScores, score
from rematte.matting.loop import matte
from rematte.video.frame import Frame, Pixels
from rematte.weights.load import load_model

CLIPS = Path(__file__).parent.parent.parent / "shared" / "clips"
LONG_SIDE = 512
# In no training set of the bundled weights.
UNSEEN = (
    *("talk_portrait_hevc", "half_body_720p", "thoughtful", "squats_portrait"),
    "man_uneven_backing",
)


def frames(path: Path) -> Iterator[Frame]:
    """Yield a clip's frames as the reference saw them."""
    with av.open(str(path)) as container:
        for index, picture in enumerate(container.decode(video=0)):
            scale = min(1.0, LONG_SIDE / max(picture.width, picture.height))
            rgb = picture.reformat(
                round(picture.width * scale),
                round(picture.height * scale),
                "rgb24",
                interpolation=Interpolation.AREA,
            )
            pixels = cast(Pixels, rgb.to_ndarray())
            yield Frame(pixels, Fraction(index), Fraction(1))


def mattes_of(model: torch.nn.Module, clip: Path, count: int) -> Iterator[Matte]:
    """Matte the first frames of a clip."""
    for matted in matte(model, islice(frames(clip), count), downsample_ratio=1):
        yield Matte(matted.pha[0].numpy())


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare with the reference's alpha.")
    parser.add_argument("weights", nargs="?", help="name or file (default: bundled)")
    parser.add_argument("--against", help="name or file, in place of the reference")
    parser.add_argument("--clips", type=Path, default=CLIPS, help="the shared clips")
    parser.add_argument("--frames", type=int, default=30, help="per clip, at most 30")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    alphas = sorted((options.clips / "reference_alpha").glob("*.npz"))
    if not alphas:
        print(f"{options.clips}/reference_alpha is not here; pass --clips FOLDER")
        return 0
    model = load_model(options.weights)
    other = load_model(options.against) if options.against else None
    found = {}
    print(f"{'clip':<20} {'MAD x1e3':>9} {'IoU':>7}", flush=True)
    for alpha in alphas:
        clip = next(options.clips.glob(f"{alpha.stem}.m*"), None)
        if clip is None:
            raise InputError(f"{options.clips}: no video {alpha.stem} for its alpha")
        truth: Iterable[Matte]
        if other is not None:
            truth = mattes_of(other, clip, options.frames)
        else:
            stored = np.load(alpha)["alpha"][: options.frames]
            truth = map(Matte, stored / np.float32(255))
        mattes = mattes_of(model, clip, options.frames)
        found[alpha.stem] = score(alpha.stem, mattes, truth, ("mad", "iou")).mean
        show(alpha.stem, found[alpha.stem])
    means = {"all": ClipScores("all", list(found.values())).mean}
    if unseen := [found[name] for name in UNSEEN if name in found]:
        means["unseen"] = ClipScores("unseen", unseen).mean
    for name, figures in means.items():
        show(f"mean of {name}", figures)
    if options.json:
        text = json.dumps({"clips": found, "means": means}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


def show(name: str, figures: dict[str, float]) -> None:
    overlap = f"{figures['iou']:7.4f}" if "iou" in figures else f"{'-':>7}"
    print(f"{name:<20} {figures['mad']:9.2f} {overlap}", flush=True)


if __name__ == "__main__":
    end(main)
