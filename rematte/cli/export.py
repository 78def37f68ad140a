"""`rematte export`: write the network for another runtime."""

import dataclasses
import json
from argparse import Namespace
from pathlib import Path

from rematte.cli import flags
from rematte.cli.parser import Commands, reporting
from rematte.errors import EXIT_CODES
from rematte.export.formats import FORMATS, PRECISIONS
from rematte.video.values import parse_size


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export",
        help="write the network for another runtime, checked against it",
        usage="%(prog)s [options] FORMAT",
        description="Write the network in another runtime's format. It is run there "
        "and compared with the network over 100 recurrent frames of a real clip "
        "before it gets its name. docs/export.md says what each format takes.",
        epilog="example: rematte export onnx --precision float16 -o matting.onnx; "
        f"{EXIT_CODES}",
    )
    parser.add_argument("format", metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PATH",
        help="file or folder (default: named as in the documentation)",
    )  # fmt: skip
    flags.add_weights(parser)
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32",
        help="precision of weights and arithmetic (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--static", type=reporting(parse_size), metavar="WxH",
        help="make it for this size only",
    )  # fmt: skip
    parser.add_argument(
        "--downsample-ratio", type=float, metavar="RATIO", help="and for this ratio"
    )
    parser.add_argument(
        "--stateful", action="store_true", help="let the runtime keep the states"
    )
    parser.add_argument(
        "--tolerance", type=float, metavar="D",
        help="difference in alpha to allow (default: 1e-4 at most in float32, 3e-4 "
        "with --static; 1e-3 and 1e-2 on average in float16 and int8)",
    )  # fmt: skip
    parser.add_argument(
        "-y", "--overwrite", action="store_true", help="replace what exists"
    )
    parser.add_argument("--json", action="store_true", help="print what was found")


def run(options: Namespace) -> int:
    """Export, and print how far the runtime is from the network."""
    from rematte.export import export
    from rematte.weights import load

    done = export(
        load.load_network(options.weights, options.variant),
        options.format, options.output, precision=options.precision,
        size=options.static, downsample_ratio=options.downsample_ratio,
        stateful=options.stateful, tolerance=options.tolerance,
        overwrite=options.overwrite,
    )  # fmt: skip
    if options.json:
        print(json.dumps(dataclasses.asdict(done), default=str))
        return 0
    print(f"{done.path}: {done.megabytes:.1f} MB in {done.seconds:.1f} s; {done.limit}")
    for each in done.differences:
        parts = ", ".join(
            f"{name} {each.most[name]:.1e} ({each.mean[name]:.1e})"
            for name in each.most
        )
        print(
            f"largest (mean) difference over {each.frames} frames of "
            f"{each.size[1]}x{each.size[0]} at {each.ratio:g}: {parts}"
        )
    return 0
