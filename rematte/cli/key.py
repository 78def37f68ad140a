"""`rematte key`: key a green or blue screen, as ground truth."""

import sys
from argparse import Namespace

from rematte.cli import flags, messages
from rematte.cli.parser import Commands
from rematte.errors import EXIT_CODES
from rematte.evaluate import SCREENS


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "key",
        help="key a green or blue screen, as ground truth",
        usage="%(prog)s [options] INPUT",
        description="Key footage in front of a green or blue screen by its colour "
        "difference, and remove the screen's tint. No network: for ground truth.",
        epilog=f"example: rematte key shot.mp4 -o shot.mkv; {EXIT_CODES}",
    )
    parser.add_argument("input", help="video file, folder of images, or image")
    parser.add_argument("-o", "--output", metavar="PATH", help="transparent cut-out")
    parser.add_argument("--alpha", metavar="PATH", help="the alpha matte")
    parser.add_argument("--foreground", metavar="PATH", help="the despilled colours")
    parser.add_argument(
        "--screen", choices=tuple(SCREENS), default="green",
        help="colour of the screen (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--screen-colour", metavar="COLOUR",
        help="#rrggbb or r,g,b (default: measured in the first frame)",
    )  # fmt: skip
    parser.add_argument(
        "--low", type=float, default=0.1, metavar="A",
        help="alpha up to this becomes 0 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--high", type=float, default=0.9, metavar="A",
        help="alpha from this on becomes 1 (default: %(default)s)",
    )  # fmt: skip
    flags.add_option(parser, "overwrite")
    flags.add_quiet(parser)


def run(options: Namespace) -> int:
    """Key one file, and print what was done."""
    import numpy as np  # noqa: F401 - first: torch hides a Ctrl-C in its import
    import torch

    from rematte.convert import convert_video
    from rematte.evaluate.chroma_key import ColourDifferenceKey
    from rematte.matting.background import parse_colour

    text = options.screen_colour
    colour = None if text is None else parse_colour(text)
    if text is not None and colour is None:
        raise ValueError(f"--screen-colour must be #rrggbb or r,g,b, got {text!r}")
    unit = colour and (colour[0] / 255, colour[1] / 255, colour[2] / 255)
    report = convert_video(
        ColourDifferenceKey(options.screen, unit, options.low, options.high),
        options.input, downsample_ratio=1, output=options.output,
        output_alpha=options.alpha, output_foreground=options.foreground,
        progress=not options.quiet and sys.stderr.isatty(), device="cpu",
        dtype=torch.float32, background="transparent", overwrite=options.overwrite,
    )  # fmt: skip
    if not options.quiet:
        messages.print_notes(report.notes)
        print(messages.summarise(report, "cpu"))
    return 0
