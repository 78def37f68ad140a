"""`rematte inspect`: how sure the network is of a clip; a check of finished files."""

import json
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rematte.cli import flags, messages
from rematte.cli.parser import Commands
from rematte.errors import EXIT_CODES

if TYPE_CHECKING:
    from rematte.inspect.clip import ClipReport
    from rematte.inspect.finished import MatteReport

_NETWORK = ("quality", "downsample_ratio", "region", "device", "dtype", "engine")
_READING = ("start", "end", "limit", "ignore_errors", "max_pixels", "allow_lists")


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "inspect",
        help="see how sure the network is of a clip, or check a finished file",
        usage="%(prog)s [options] CLIP|FILE",
        description="For a clip, matte some moments as they are, as mirror images, "
        "backwards and at another downsample ratio, and show where the mattes differ, "
        "where alpha has holes or flickers, and where no people are found. For a file "
        "with an alpha channel, or with --matte, check that it is complete.",
        epilog="example: rematte inspect talk.mp4 -o talk-inspected; exit code 1 also "
        f"if a finished file fails a check; {EXIT_CODES}",
    )
    parser.add_argument(
        "input", type=Path, metavar="CLIP|FILE",
        help="video file, folder of images, pattern or image; with an alpha channel "
        "it is a finished cut-out",
    )  # fmt: skip
    parser.add_argument(
        "--matte", action="store_true", help="the file is a gray alpha matte"
    )
    parser.add_argument(
        "--source", type=Path, metavar="PATH",
        help="the clip that the finished file was made of, to compare frames, times "
        "and colours with",
    )  # fmt: skip
    moments = parser.add_mutually_exclusive_group()
    moments.add_argument(
        "--frames", type=int, metavar="N",
        help="moments to look at (default: one in 8 s and in 200 frames, from 4 to 24; "
        "of a finished file all frames)",
    )  # fmt: skip
    moments.add_argument(
        "--every", type=float, metavar="SECONDS", help="time between moments instead"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR",
        help="write a page, its figures as JSON, and pictures into this folder",
    )  # fmt: skip
    network = parser.add_argument_group("network (of a clip)")
    for name in _NETWORK:
        flags.add_option(network, name)
    flags.add_weights(network)
    part = parser.add_argument_group("what to look at")
    for name in _READING:
        flags.add_option(part, name)
    flags.add_option(parser, "overwrite")
    flags.add_messages(parser, "print what was found as JSON")


def run(words: Namespace) -> int:
    """Inspect a clip or a file, and print what was found."""
    from rematte.engines.device import choose_device
    from rematte.inspect.clip import inspect_clip
    from rematte.inspect.finished import inspect_matte, is_transparent
    from rematte.inspect.page import check_folder, write_report
    from rematte.options import Options
    from rematte.prefetch import share_heap

    share_heap()
    path, folder = words.input, words.output
    if folder is not None:
        check_folder(folder, words.overwrite)
    device, _ = choose_device(words.device)
    given = {name: getattr(words, name) for name in (*_NETWORK, *_READING)}
    options = Options(**given | {"device": device})
    finished = words.matte or words.source is not None or is_transparent(path, options)
    _check_flags(words, finished)
    flags.choose_weights(words)
    options = replace(options, quality=words.quality)
    shown = not words.quiet and sys.stderr.isatty()
    report: ClipReport | MatteReport
    if finished:
        report = inspect_matte(
            path, options, gray=words.matte, source=words.source,
            number=words.frames, every=words.every, progress=shown,
        )  # fmt: skip
    else:
        report = inspect_clip(
            flags.model_loader(words, device)(), path, options,
            number=words.frames, every=words.every, progress=shown,
        )  # fmt: skip
    files = write_report(report, folder, options) if folder is not None else []
    if not words.quiet:
        messages.print_notes(report.notes)
    if words.json:
        print(json.dumps(report.as_json()))
    elif not words.quiet:
        print("\n".join([*report.lines(), *map(str, files[:1])]))
    return 0 if report.ok else 1


def _check_flags(words: Namespace, finished: bool) -> None:
    """Refuse flags that do nothing for what is inspected."""
    from rematte.conversion.needs import need
    from rematte.options import OPTIONS

    need("inspect --overwrite", words.overwrite, words.output is not None)
    need("inspect --weights", words.weights, not finished)
    need("inspect --variant", words.variant, not finished)
    for name in _NETWORK:
        value = getattr(words, name)
        given = None if value == flags.DEFAULTS[name] else value
        need(f"inspect {OPTIONS[name].flag}", given, not finished)
    part = not finished or words.source is not None
    for name in ("start", "end", "limit"):
        need(f"inspect {OPTIONS[name].flag}", getattr(words, name), part)
