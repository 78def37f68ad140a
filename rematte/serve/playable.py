"""A small video that any browser plays: the original, and the views of a result.

The views lie side by side in one picture, so that they never drift apart, and a cut-out
is multiplied by alpha, so that the page can lay it over anything.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from rematte.inspect.figures import NO_ONE, coverage
from rematte.video.encoding import choose
from rematte.video.frame import Frame, Pixels
from rematte.video.pixels import with_depth
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.sheet import shrunk_size
from rematte.video.tone import as_sdr, displayed
from rematte.video.writer import FileWriter

LONGEST = 120  # of what is played [s]
_SIDE = 640  # longer side of a view, at most [pixels]


def views_of(outputs: list[str]) -> list[str]:
    """Name the views of a result, from left to right.

    They are "original"; "cutout" and "alpha" where an output has alpha; "mp4".
    """
    alpha = ["cutout", "alpha"] if {"mov", "webm", "alpha"} & set(outputs) else []
    return ["original", *alpha, *(kind for kind in outputs if kind == "mp4")]


def write_playable(
    before: Path, files: Mapping[str, Path], target: Path, start: float | None
) -> bool:
    """Write the views of a result side by side into an MP4 file, with its sound.

    The part of `before` that was converted begins at `start` [s]; `files` are the
    outputs by their names. Gives whether alpha shows nobody in the whole result.
    """
    clear = [kind for kind in ("mov", "webm", "alpha") if kind in files][:1]
    shown = [*clear, *(kind for kind in files if kind == "mp4")]
    with VideoReader(files[shown[0]]) as reader:
        info, colour = reader.info, reader.info.colour
    size = shrunk_size(info.width, info.height, _SIDE)
    # A sticker has another shape than the original, and square pixels.
    shape = "contain" if info.sample_aspect_ratio == 1 else "stretch"
    since = None if start is None else Fraction(start).limit_denominator(90_000)
    with ExitStack() as stack:

        def opened(path: Path, since: Fraction | None = None) -> Iterator[Frame]:
            source = path == before
            fit = shape if source else "stretch"
            how = ReadOptions(size=size, fit=fit, alpha=not source, start=since)
            reader = stack.enter_context(VideoReader(path, how))
            return displayed(reader, reader.info.colour)

        originals = _paced(opened(before, since))
        made = [opened(files[kind]) for kind in shown]
        views = views_of(list(files))
        info = replace(
            info,
            width=size[0] * len(views),
            height=size[1],
            depth=8,
            colour=as_sdr(colour),
        )
        encoding = choose(target, info, alpha=False, codec="h264", crf=21)
        sound = files[shown[0]]
        writer = FileWriter(target, info, encoding, sound, end=Fraction(LONGEST))
        try:
            begin: Fraction | None = None
            nobody = bool(clear)
            for frames in zip(*made, strict=False):
                if frames[0].time >= LONGEST:
                    nobody = False  # they may come later
                    break
                begin = frames[0].time if begin is None else begin
                original = originals(frames[0].time - begin)
                pixels = _views(original, dict(zip(shown, frames, strict=True)))
                nobody = nobody and coverage(pixels[2] / np.float32(255)) < NO_ONE
                writer.write(replace(frames[0], pixels=np.hstack(pixels), alpha=None))
            writer.finish()
            return nobody
        except BaseException:
            writer.discard()
            raise


def _paced(frames: Iterator[Frame]) -> Callable[[Fraction], Pixels]:
    """Give a function of a time, which must not decrease, to the pixels shown then.

    Times count from the first frame. Bars are black.
    """
    now = next(frames)
    following, start = next(frames, None), now.time

    def at(time: Fraction) -> Pixels:
        nonlocal now, following
        # Half a millisecond: WebM rounds times.
        while following and following.time - start <= time + Fraction(1, 2000):
            now, following = following, next(frames, None)
        pixels = with_depth(now.pixels, False)
        return pixels if now.alpha is None else pixels * (now.alpha > 0)

    return at


def _views(original: Pixels, frames: Mapping[str, Frame]) -> list[Pixels]:
    views = [original]
    for kind, frame in frames.items():
        pixels = with_depth(frame.pixels, False)
        if kind == "mp4":
            views.append(pixels[..., :3])
            continue
        alpha = pixels[..., 3:] if pixels.shape[2] == 4 else pixels[..., :1]
        colours = pixels if pixels.shape[2] == 4 else original
        over = colours[..., :3].astype(np.uint16) * alpha
        views += [((over + 127) // 255).astype(np.uint8), alpha.repeat(3, 2)]
    return views
