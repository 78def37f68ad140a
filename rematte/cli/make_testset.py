"""`rematte make-testset`: composite foregrounds with known alpha over backgrounds."""

from argparse import Namespace
from pathlib import Path

from rematte.cli.parser import Commands, reporting
from rematte.errors import EXIT_CODES
from rematte.evaluate import MOTIONS
from rematte.video.values import parse_size


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "make-testset",
        help="composite foregrounds over backgrounds, with the truth kept",
        usage="%(prog)s SET --foreground PATH ... --background PATH ... [options]",
        description="Composite foregrounds with known alpha over backgrounds, as "
        "SET/CLIP/{com,pha,fgr,bgr}/0000.png, for evaluate --testset.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("target", type=Path, metavar="SET", help="folder to make")
    parser.add_argument(
        "--foreground", type=Path, nargs="+", required=True, metavar="PATH",
        help="transparent videos or folders of images, or, with --alpha, opaque ones",
    )  # fmt: skip
    parser.add_argument(
        "--alpha", type=Path, nargs="+", default=[], metavar="PATH",
        help="the foregrounds' alpha mattes, in the same order",
    )  # fmt: skip
    parser.add_argument(
        "--background", type=Path, nargs="+", required=True, metavar="PATH",
        help="images, videos and folders with the frames of one",
    )  # fmt: skip
    parser.add_argument(
        "--background-motion", choices=MOTIONS, default="own",
        help="videos play and images stand; all stand; all move slowly as well "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=int, default=100, metavar="N",
        help="at most, in each clip (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=reporting(parse_size), default=(512, 288), metavar="WxH",
        help="size of the frames (default: 512x288)",
    )  # fmt: skip
    parser.add_argument(
        "--clips-each", type=int, default=1, metavar="N",
        help="clips for each foreground (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N",
        help="same seed, same set (default: %(default)s)",
    )  # fmt: skip


def run(options: Namespace) -> int:
    """Make the set, and print how much it holds."""
    from rematte.evaluate import testset

    rows = testset.make_testset(
        options.target, options.foreground, options.background, options.alpha,
        options.frames, options.size, options.background_motion, options.clips_each,
        options.seed,
    )  # fmt: skip
    count = sum(row["frames"] for row in rows)
    print(f"{len(rows)} clips, {count} frames: {options.target}")
    return 0
