"""Write the table of docs/formats.md on transparent files over a colour.

    python benchmarks/recomposition_table.py clip.mp4 --limit 20

Every format is composited over three colours and compared with `--composition` over the
same colour. Needs Pillow.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

import rematte
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader

BEHIND = {"black": (0, 0, 0), "white": (255, 255, 255), "120,255,155": (120, 255, 155)}
FORMATS: dict[str, tuple[str, int | None]] = {
    "MKV (FFV1)": ("cut.mkv", None),
    "MOV (ProRes 4444)": ("cut.mov", None),
    "APNG": ("cut.apng", None),
    "PNG": ("png/%04d.png", None),
    "TIFF": ("tif/%04d.tif", None),
    "OpenEXR": ("exr/%04d.exr", None),
    "WebP, `--crf 0`": ("lossless.webp", 0),
    "WebP": ("cut.webp", None),
    "WebM, `--crf 0`": ("fine.webm", 0),
    "WebM, `--crf 4`": ("good.webm", 4),
    "WebM": ("cut.webm", None),
    "AVIF, `--crf 0`": ("fine.avif", 0),
    "AVIF": ("cut.avif", None),
    "GIF": ("cut.gif", None),
}
Floats = NDArray[np.float32]


def read(path: Path) -> Iterator[Floats]:
    """Frames (H, W, 4) in [0, 1], straight; Pillow reads what FFmpeg reads in part."""
    if path.is_dir() or path.suffix in (".mkv", ".mov", ".webm"):
        with VideoReader(path, ReadOptions(alpha=True, hold_gaps=False)) as reader:
            for frame in reader:
                most = np.float32(np.iinfo(frame.pixels.dtype).max)
                yield frame.pixels.astype(np.float32) / most
        return
    with Image.open(path) as image:
        for each in ImageSequence.Iterator(image):
            yield np.asarray(each.convert("RGBA")).astype(np.float32) / np.float32(255)


def compare(path: Path, exact: list[Floats], over: dict[str, list[Floats]]) -> str:
    """The columns of one format."""
    edges, others = [], []
    for index, cut in enumerate(read(path)):
        alpha = cut[..., 3:]
        true = exact[index][..., 3]
        edge = (true > 0) & (true < 1)
        for name, colour in BEHIND.items():
            behind = np.array(colour, np.float32) / 255
            again = np.rint((cut[..., :3] * alpha + behind * (1 - alpha)) * 255)
            error = np.abs(again - over[name][index]).max(-1)
            edges.append(error[edge])
            others.append(error[~edge])
    columns = []
    for errors in (np.concatenate(edges), np.concatenate(others)):
        within, more = np.percentile(errors, 99), (errors > 1).mean()
        columns.append(f"{errors.max():.0f} | {within:.0f} | {more:.1%}")
    return " | ".join(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--limit", type=int, default=20)
    given = parser.parse_args()
    model = rematte.load_model()

    def convert(**settings: Any) -> None:
        limit = given.limit
        rematte.convert_video(
            model, given.clip, limit=limit, progress=False, edge_colour="clean",
            **settings,
        )  # fmt: skip

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        over = {}
        for colour in BEHIND:
            path = folder / f"over-{colour}.mkv"
            convert(output_composition=path, background=colour)
            with VideoReader(path) as reader:
                over[colour] = [frame.pixels.astype(np.float32) for frame in reader]
        exact: list[Floats] = []
        for title, (file, crf) in FORMATS.items():
            target = folder / file
            if "/" in file:
                target.parent.mkdir()
            convert(output=target, **({} if crf is None else {"crf": crf}))
            made = target.parent if "/" in file else target
            exact = exact or list(read(made))
            files = made.iterdir() if made.is_dir() else [made]
            size = sum(each.stat().st_size for each in files) / len(exact) / 1000
            print(
                f"| {title} | {size:.0f} | {compare(made, exact, over)} |", flush=True
            )


if __name__ == "__main__":
    main()
