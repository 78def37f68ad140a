"""Prepares `--person`: finds who is at a point at a later time, before converting."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rematte.conversion.source import open_reader
from rematte.engines.choose import choose_engine
from rematte.matting.loop import run
from rematte.matting.people import Chosen
from rematte.matting.region import Regions
from rematte.options import Options
from rematte.video.mask_spec import parse_who
from rematte.video.tone import displayed


def make_chosen(options: Options) -> Chosen | None:
    """Make the follower of the person whom the options name; None if they name none."""
    return None if options.person is None else Chosen(parse_who(options.person))


def find_chosen(
    chosen: Chosen | None,
    model: Any,
    source: Path,
    options: Options,
    regions: Regions | None,
    watch: Callable[[], object] = lambda: None,
) -> None:
    """Matte the frames up to the time of the point, and choose who is there.

    The conversion that follows computes the same alpha, so it gives people the same
    numbers from the first frame on.

    Args:
        chosen: Receives the choice; nothing is done if it is None or has no time.
        model: A loaded network.
        source: The input.
        options: The options of the conversion.
        regions: Where the network looks; None for whole frames.
        watch: Called for each frame; may raise to stop.

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
    engine = choose_engine(
        model, engine=options.engine, device=options.device, dtype=options.dtype,
        report=str,
    )  # fmt: skip
    with open_reader(source, options, *options.span) as reader:
        mattes = run(
            engine, displayed(reader, reader.info.colour),
            downsample_ratio=options.ratio, regions=regions, warmup=options.warmup,
            cuts=True,
        )  # fmt: skip
        for matted in mattes:
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
