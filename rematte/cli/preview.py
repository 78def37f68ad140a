"""`rematte preview`: a contact sheet of a few moments."""

import dataclasses
import json
import sys
from argparse import Namespace
from pathlib import Path

from rematte.cli import flags, messages
from rematte.cli.parser import Commands
from rematte.errors import EXIT_CODES

# Those of a conversion that change what is on the sheet.
_OPTIONS = (
    *("background", "background_fit", "quality", "downsample_ratio", "region"),
    *("device", "dtype", "engine", "start", "end", "input_resize", "fit"),
    *("ignore_errors", "max_pixels", "allow_lists", "input_alpha"),
)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "preview",
        help="draw a contact sheet of what a conversion will give",
        usage="%(prog)s [options] INPUT -o SHEET",
        description="Draw what a conversion will give at a few moments: in each column "
        "the source with the windows in which the network looks, alpha, the cut-out "
        "over a checkerboard, and the composite over the background. The network sees "
        "ten frames before each, as it would in a conversion.",
        epilog="example: rematte preview talk.mp4 -o sheet.png --background blur; "
        f"{EXIT_CODES}",
    )
    parser.add_argument("input", help="video file, folder of images, pattern or image")
    parser.add_argument(
        "-o", "--output", required=True, metavar="PATH", help="the sheet, one image"
    )
    parser.add_argument(
        "--frames", type=int, default=4, metavar="N",
        help="evenly spaced moments, from left to right (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--people", action="store_true",
        help="number the people, for --person NUMBER of convert; takes as long as a "
        "conversion up to the last moment",
    )  # fmt: skip
    for name in _OPTIONS:
        flags.add_option(parser, name)
    flags.add_weights(parser)
    flags.add_option(parser, "overwrite")
    flags.add_messages(parser, "print what was done as JSON")


def run(words: Namespace) -> int:
    """Draw the sheet, and print which moments are on it."""
    from rematte.engines.device import choose_device
    from rematte.inspect.preview import check_sheet, preview
    from rematte.options import Options
    from rematte.prefetch import share_heap

    share_heap()
    path, target = Path(words.input), Path(words.output)
    check_sheet(path, target, words.overwrite)
    device, why = choose_device(words.device)
    flags.choose_weights(words)
    given = {name: getattr(words, name) for name in (*_OPTIONS, "overwrite")}
    options = Options(**given | {"device": device})
    report = preview(
        flags.model_loader(words, device)(), path, target, options,
        number=words.frames, people=words.people,
        progress=not words.quiet and sys.stderr.isatty(),
    )  # fmt: skip
    if not words.quiet:
        messages.print_notes(report.notes)
    if words.json:
        print(json.dumps(dataclasses.asdict(report)))
    elif not words.quiet:
        times = ", ".join(f"{time:.2f}" for time in report.times)
        print(f"frames at {times} s; downsample ratio {report.downsample_ratio:.3g}")
        for number in sorted({each["number"] for each in report.people}):
            points = ", ".join(
                f"{each['x']},{each['y']}@{each['time']:.2f}"
                for each in report.people
                if each["number"] == number
            )
            print(f"--person {number} is at {points} (X,Y@TIME)")
        print(f"device {device} ({why}), engine {report.engine}\nsheet: {target}")
    return 0
