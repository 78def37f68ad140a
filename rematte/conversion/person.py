"""Prepares `--person`: finds the person at a later time, or where segments begin."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from rematte.conversion.model import bind_loop, make_engine
from rematte.conversion.source import open_reader
from rematte.matting.matte import Matted
from rematte.matting.person import Person
from rematte.matting.region import Regions
from rematte.options import Options
from rematte.video.reader import VideoReader
from rematte.video.tone import displayed


def find_chosen(
    chosen: Person | None,
    model: Any,
    source: Path,
    options: Options,
    regions: Regions | None,
    watch: Callable[[], object] = lambda: None,
) -> None:
    """Matte the frames up to the time of the point, and choose who is there.

    The conversion that follows computes the same alpha, so it gives people the same
    numbers from the first frame on. Nothing is done if nobody is chosen, or without a
    time. `watch` is called for each frame, and may raise to stop.

    Raises:
        ValueError: If nobody is at the point then, or that part is not converted.
        InputError: If the input cannot be read.
    """
    if chosen is None or chosen.who.time is None:
        return
    since = options.span[0]
    if since is not None and chosen.who.time < since:
        raise ValueError(
            f"person {options.person} (--person): the part that is converted begins at "
            f"{float(since):.2f} s; give a later time"
        )
    with open_reader(source, options, *options.span) as reader:
        for matted in matte_all(model, reader, options, regions):
            watch()
            labels = chosen.look(matted, matted.pixels("alpha", True))
            end = matted.frame.time + matted.frame.duration
            if end > chosen.who.time or reader.info.still:
                break
        else:
            raise ValueError(
                f"person {options.person} (--person): the part that is converted ends "
                f"at {float(end):.2f} s; give an earlier time"
            )
    chosen.take(labels, matted.size)
    chosen.begin()


def follow_between(
    chosen: Person,
    model: Any,
    source: Path,
    options: Options,
    regions: Regions | None,
    starts: Sequence[Fraction],
) -> list[dict[str, Any]]:
    """Follow the person, from the first frame, and save the state where segments begin.

    `starts` are the times [s] when they do, in order.

    Returns:
        For each segment, `Person.as_json` before its first frame.
    """
    states: list[dict[str, Any]] = []
    with open_reader(source, options, *options.span) as reader:
        for matted in matte_all(model, reader, options, regions):
            if matted.frame.time >= starts[len(states)]:
                states.append(chosen.as_json())
                if len(states) == len(starts):
                    break
            chosen.follow(matted, matted.pixels("alpha", True))
    return states


def matte_all(
    model: Any, reader: VideoReader, options: Options, regions: Regions | None
) -> Iterator[Matted]:
    """Matte frames as the conversion of this source does, with cuts marked."""
    engine = make_engine(model, options, str)
    matting = bind_loop(engine, options, regions, reader.info.still, cuts=True)
    return matting(islice(displayed(reader, reader.info.colour), options.limit))
