"""Composites foreground and alpha over backgrounds into a test set with known truth.

The layout is that of the VideoMatte240K tests: SET/CLIP/{com,pha,fgr,bgr}/0000.png.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rematte.engines.tensors import composite, to_pixels, to_tensor
from rematte.errors import InputError, OutputError
from rematte.evaluate import MOTIONS
from rematte.evaluate.dataset import Source, find_clips, read_mattes
from rematte.video.encoding import choose
from rematte.video.fitting import fitted_size
from rematte.video.frame import MATRIX_RGB, RANGE_FULL, Colour, Frame, VideoInfo
from rematte.video.image_writer import ImageWriter
from rematte.video.output_paths import as_output_error, check_target, temporary_path
from rematte.video.reader import VideoReader

PARTS = ("com", "pha", "fgr", "bgr")
_PAN = 1.2  # size of a panned picture over the size that is seen


def make_testset(
    target: Path,
    foregrounds: Sequence[Path],
    backgrounds: Sequence[Path],
    alphas: Sequence[Path] = (),
    frames: int = 100,
    size: tuple[int, int] = (512, 288),
    motion: str = "own",
    clips_each: int = 1,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Write a test set; its folder, new or empty before, appears when it is complete.

    Every foreground is shown whole, in the middle, in `clips_each` clips of at most so
    many frames. It is transparent, or opaque with an alpha matte in the same place of
    `alphas`. Backgrounds fill the frame: "own" motion plays videos in a loop, "none"
    holds their first frame, and "pan" plays videos and moves all slowly across the
    frame. The composite is made from the rounded truth that is written, so it is exact.

    The seed determines the set: the order of the backgrounds (each is used once before
    any repeats), the frame at which they start, and how they pan.

    Returns:
        A row for each clip with the keys clip, foreground, alpha, background, begin and
        frames; also written to testset.json.

    Raises:
        ValueError: If an argument is out of its range.
        InputError: If a source cannot be read, or is opaque with no alpha given.
        OutputError: If the folder is not empty, or cannot be written.
    """
    if alphas and len(alphas) != len(foregrounds):
        raise ValueError(
            f"give an alpha for each foreground or for none, got {len(alphas)} for "
            f"{len(foregrounds)}"
        )
    if not foregrounds or not backgrounds:
        raise ValueError("give one foreground and one background at least")
    if motion not in MOTIONS:
        raise ValueError(f"motion must be one of {', '.join(MOTIONS)}, got {motion!r}")
    if min(frames, clips_each, *size) < 1 or seed < 0:
        raise ValueError(
            f"frames, clips_each and both sides of size must be 1 or more and seed not "
            f"negative, got {frames}, {clips_each}, {size} and {seed}"
        )
    draw = np.random.default_rng(seed)
    order = chain.from_iterable(map(draw.permutation, repeat(len(backgrounds))))
    rows: list[dict[str, Any]] = []
    sources = [s for s in _sources(foregrounds, alphas) for _ in range(clips_each)]
    with _whole(target) as folder:
        for index, source in enumerate(sources):
            name, background = f"{index:04d}", backgrounds[next(order)]
            begin = _draw_begin(background, frames, draw)
            pictures = _background(background, begin, size, motion, frames, draw)
            mattes = islice(_foreground(source, size), frames)
            count = _write_clip(folder / name, size, mattes, pictures)
            rows.append({
                "clip": name, "alpha": str(source.alpha),
                "foreground": str(source.foreground or source.alpha),
                "background": str(background), "begin": begin, "frames": count,
            })  # fmt: skip
        recipe = {"seed": seed, "size": size, "motion": motion, "clips": rows}
        text = json.dumps(recipe, indent=1) + "\n"
        (folder / "testset.json").write_text(text, encoding="utf-8")
    return rows


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Make a hidden folder that is renamed at the end, or deleted after an error."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(f"{target} exists; delete it or choose another name")
    check_target(target, overwrite=True)
    folder = temporary_path(target)
    try:
        with as_output_error(target):
            folder.mkdir()
            yield folder
            folder.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # there only after an error


def _draw_begin(path: Path, frames: int, draw: np.random.Generator) -> int:
    """Draw the first frame so that the background does not end too early."""
    with VideoReader(path) as reader:
        spare = (reader.info.frames or 0) - frames
    return int(draw.integers(spare + 1)) if spare > 0 else 0


def _sources(foregrounds: Sequence[Path], alphas: Sequence[Path]) -> Iterator[Source]:
    if alphas:
        yield from map(Source, alphas, foregrounds)
        return
    for path in foregrounds:
        yield from find_clips(path).values()


def _foreground(
    source: Source, size: tuple[int, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield foreground (3, H, W) and alpha (1, H, W) at the set's size."""
    for matte in read_mattes(source):
        if matte.foreground is None:
            raise InputError(
                f"{source.alpha}: a gray matte has no colours; give a transparent "
                "cut-out, or the foreground and --alpha"
            )
        pha = torch.from_numpy(matte.alpha).float()[None]
        fgr = torch.from_numpy(matte.foreground).float().movedim(-1, 0)
        if pha.shape[1:] != (size[1], size[0]):
            # Weighted by alpha, so that hidden colours do not bleed into edges.
            both = fit_tensor(torch.cat([fgr * pha, pha]), size[1], size[0], "contain")
            fgr, pha = both[:3] / both[3:].clamp(min=1e-6), both[3:]
        yield fgr, pha


def _background(
    path: Path, begin: int, size: tuple[int, int], motion: str, frames: int,
    draw: np.random.Generator,
) -> Iterator[Tensor]:  # fmt: skip
    """Yield endless pictures (3, H, W)."""
    factor = _PAN if motion == "pan" else 1
    wide, high = (round(side * factor) for side in size)
    spare = np.array([high - size[1], wide - size[0]])
    start, end = draw.random((2, 2)) * spare
    pictures = _play(path, begin, motion == "none")
    shown: Frame | None = None
    for index, frame in enumerate(pictures):
        if frame is not shown:  # an image is resized once
            picture = to_tensor(frame.pixels, "cpu", torch.float32)
            large, shown = fit_tensor(picture, high, wide, "cover"), frame
        along = min(index / max(frames - 1, 1), 1)
        top, left = (start + (end - start) * along).round().astype(int)
        yield large[:, top : top + size[1], left : left + size[0]]


def _play(path: Path, begin: int, hold: bool) -> Iterator[Frame]:
    """Yield frames from `begin` on, in a loop."""
    while True:
        with VideoReader(path) as reader:
            for frame in islice(reader, begin, None):
                if hold or reader.info.still:
                    yield from repeat(frame)
                yield frame
        begin = 0


def _write_clip(
    folder: Path,
    size: tuple[int, int],
    mattes: Iterator[tuple[Tensor, Tensor]],
    backgrounds: Iterator[Tensor],
) -> int:
    """Write the four parts of a clip and return the number of frames."""
    colour = Colour(MATRIX_RGB, RANGE_FULL)
    info = VideoInfo(*size, Fraction(30), Fraction(1, 30), colour)
    folder.mkdir()
    writers = {}
    for part in PARTS:
        encoding = choose(folder / part, info, alpha=False, gray=part == "pha")
        writers[part] = ImageWriter(folder / part, info, encoding)
    count = 0
    for (fgr, pha), bgr in zip(mattes, backgrounds, strict=False):
        truth = {"pha": pha, "fgr": fgr, "bgr": bgr}
        pixels = {part: to_pixels(image, False) for part, image in truth.items()}
        alpha, front, back = (
            to_tensor(written, "cpu", torch.float32) for written in pixels.values()
        )
        pixels["com"] = to_pixels(composite(front, alpha, back), False)
        for part, writer in writers.items():
            writer.write(Frame(pixels[part], Fraction(count, 30), Fraction(1, 30)))
        count += 1
    for writer in writers.values():
        writer.finish()
    return count


def fit_tensor(picture: Tensor, height: int, width: int, fit: str) -> Tensor:
    """Bring a picture (3, h, w) to a size [pixels]; `fit` is that of `fit_picture`."""
    h, w = picture.shape[-2:]
    size = fitted_size((h, w), (height, width), fit)
    dtype = picture.dtype
    picture = picture[None].float()  # antialiasing knows no half precision on a CPU
    picture = F.interpolate(picture, size, mode="bilinear", antialias=True)[0].to(dtype)
    down, right = height - size[0], width - size[1]
    # Negative padding cuts off.
    edges = [right // 2, right - right // 2, down // 2, down - down // 2]
    return F.pad(picture, edges)
