"""Checks the values of options against rules that an `Option` cannot state.

`Option` itself states choices and least numbers. Nothing heavy is imported, since
`rematte --help` needs this module.
"""

from pathlib import Path
from typing import Any

from rematte.video import values
from rematte.video.mask_spec import parse_masks, parse_who


def check_ranges(options: Any) -> None:
    """Refuse an `Options` with a value out of range, or two that exclude each other."""
    _check_edges(options)
    resize, mbps, crf = options.input_resize, options.output_video_mbps, options.crf
    if resize is not None and not (len(resize) == 2 and min(resize) >= 1):
        raise ValueError(
            f"input_resize must be a width and a height of 1 or more, got {resize}"
        )
    if mbps is not None and not 0 < mbps < 1000:
        raise ValueError(f"output_video_mbps must be in (0, 1000), got {mbps}")
    if crf is not None and not 0 <= crf <= 63:
        raise ValueError(f"crf must be from 0 (best) to 63, got {crf}")
    if crf is not None and mbps is not None:
        raise ValueError("crf and output_video_mbps (--mbps) exclude each other")
    chunk = options.seq_chunk
    if chunk != "auto" and (not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f'seq_chunk must be 1 or more, or "auto", got {chunk!r}')
    warmup = options.warmup
    if warmup != "auto" and (not isinstance(warmup, int) or warmup < 0):
        raise ValueError(f'warmup must be 0 or more, or "auto", got {warmup!r}')
    if options.cuts is not None and Path(options.cuts).suffix.lower() != ".csv":
        raise ValueError(f"cuts must be a path that ends in .csv, got {options.cuts}")
    values.check_region(options.region)


def _check_edges(options: Any) -> None:
    for name in ("include", "exclude"):
        if given := getattr(options, name):
            parse_masks(name, given)
    if options.person is not None:
        parse_who(options.person)
    if not 0 <= options.black_point < options.white_point <= 1:
        raise ValueError(
            "black_point and white_point must be in [0, 1], black_point the "
            f"smaller one, got {options.black_point} and {options.white_point}"
        )
    if not 0 <= options.light_wrap <= 1:
        raise ValueError(f"light_wrap must be in [0, 1], got {options.light_wrap}")
    for name, least in (("grow", -32), ("feather", 0)):
        value = getattr(options, name)
        if not least <= value <= 32:
            raise ValueError(f"{name} must be {least} to 32 pixels, got {value}")
