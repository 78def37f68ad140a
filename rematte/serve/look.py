"""Functions for worker processes: pictures of a moment, and how sure mattes are.

Each reads a video at a time [s], and writes a target whose suffix says in which format.
What was computed last stays in the process, so that another choice of who is cut out
is drawn at once.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rematte.conversion.outputs import make_finish
from rematte.inspect import figures
from rematte.inspect.moments import Timeline, read_moment, read_timeline
from rematte.matter.matter import Matter
from rematte.matting.background import Renderer
from rematte.matting.matte import Matted
from rematte.matting.person import Person
from rematte.options import Options
from rematte.serve.choice import Choice
from rematte.serve.processes import Networks
from rematte.video.frame import Frame
from rematte.video.output_paths import write_whole
from rematte.video.pixels import with_depth
from rematte.video.read_options import ReadOptions
from rematte.video.reader import VideoReader
from rematte.video.sheet import encode_picture, shrunk_size
from rematte.video.tone import displayed

SIDE = 1024  # longer side of the pictures, at most [pixels]
# Soft edges of the picture and of its mirror image agree less than this where the
# network is unsure of them.
_EDGES_AGREE = 0.7
_FEWEST = 0.0005  # share of the picture from which on soft edges are judged


def still(networks: Any, path: Path, target: Path, at: float, side: int) -> None:
    """Write the frame itself, with a longer side of at most `side` [pixels]."""
    with VideoReader(path) as reader:
        size = shrunk_size(reader.info.width, reader.info.height, side)
        colour = reader.info.colour
    how = ReadOptions(size=size, start=Fraction(at).limit_denominator(90_000))
    with VideoReader(path, how) as reader:
        frame = next(displayed(reader, colour), None)
    if frame is None:  # past the last frame, whose end only the file's end states
        frame = _moment(path, at, size)[-1]
    pixels = with_depth(frame.pixels, False)
    write_whole(target, encode_picture(pixels, target.suffix))


def cutout(
    networks: Networks,
    path: Path,
    target: Path,
    at: float,
    quality: str,
    choice: Choice,
) -> None:
    """Write the cut-out of who was chosen, as an image with alpha."""
    matted = _matted(networks, path, at, quality, False)
    size = matted.size[::-1]
    chosen = _find(networks, path, quality, choice, size)
    matted.cache.clear()  # of the choice before
    matted.cut = choice.at != at  # the person is recognised by their colours
    with TemporaryDirectory(prefix="rematte-") as folder:
        given = choice.options(*size, Path(folder))
        options = Options(
            edge_colour="clean",
            include=given.get("include"),
            exclude=given.get("exclude"),
        )
        finish = make_finish(options, chosen=chosen)
        pixels = Renderer("output", finish=finish)(matted)
    write_whole(target, encode_picture(pixels, target.suffix))


def _find(
    networks: Networks, path: Path, quality: str, choice: Choice, size: tuple[int, int]
) -> Person | None:
    """Find the chosen person where they were clicked; None for everybody."""
    person = choice.person_option(*size)
    if person is None:
        return None
    chosen = Person(person)
    matted = _matted(networks, path, choice.at, quality, False)
    matted.cut = False
    labels = chosen.look(matted, matted.pixels("alpha", True))
    try:
        chosen.take(labels, matted.size)
    except ValueError as error:
        raise ValueError("nobody is there; click on a person") from error
    return chosen


def judge(
    networks: Networks, path: Path, target: Path, at: float, quality: str
) -> None:
    """Write how sure the network is of a moment, as JSON: "nobody", "unsure", "edges".

    The frame and its mirror image should show the same people.
    """
    one, other = (
        _matted(networks, path, at, quality, mirror).pixels("alpha", False)[..., 0]
        / np.float32(255)
        for mirror in (False, True)
    )
    other = other[:, ::-1]
    soft = np.abs((one + other) / 2 - 0.5) < 0.5 - figures.EDGE
    found = {
        "nobody": figures.coverage(one) < figures.NO_ONE,
        "unsure": figures.agreement(one, other) < 1 - figures.DISAGREES,
        "edges": bool(soft.mean() > _FEWEST)
        and figures.agreement(one * soft, other * soft) < _EDGES_AGREE,
    }
    target.write_text(json.dumps(found))


@lru_cache(maxsize=8)
def _timeline(path: Path) -> Timeline:
    return read_timeline(path, Options())


@lru_cache(maxsize=4)
def _matter(model: Any, quality: Any) -> Matter:
    return Matter(model, quality=quality, edge_colour="clean")


def _moment(path: Path, at: float, size: tuple[int, int]) -> Sequence[Frame]:
    """Read the frame at a time, after those that the network sees before it."""
    timeline = _timeline(path)
    index = min(max(bisect_right(timeline.times, at) - 1, 0), timeline.stop - 1)
    moment = read_moment(path, Options(), timeline, index, 1, size=size)
    if moment is None:
        raise ValueError(f"no frame could be decoded at {at:.2f} s")
    return [*moment.before, *moment.frames]


@lru_cache(maxsize=6)
def _matted(
    networks: Networks, path: Path, at: float, quality: str, mirror: bool
) -> Matted:
    """Matte the frame at a time, or its mirror image."""
    info = _timeline(path).info
    size = shrunk_size(info.width, info.height, SIDE)
    frames = _moment(path, at, size)
    if mirror:
        frames = [frame.mirrored() for frame in frames]
    model, quality = networks.choose(quality)
    # The coarse pass has the size that it has of the whole frame.
    stream = _matter(model, quality).stream()
    *_, matted = map(stream, frames)
    return matted
