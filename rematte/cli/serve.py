"""`rematte serve`: a page for this machine's browser."""

import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

from rematte.cli import flags
from rematte.cli.parser import Commands
from rematte.errors import EXIT_CODES
from rematte.weights.registry import for_quality


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "serve",
        help="a page for this machine's browser: drop videos in, convert, download",
        usage="%(prog)s [options]",
        description="Serve a page to this machine only: drop videos and photos in, "
        "choose who is cut out, outputs and background, convert, play, download. "
        "Open the address that is printed. Ctrl-C ends it; jobs are saved.",
        epilog=f"example: rematte serve --jobs 2; {EXIT_CODES}",
    )
    parser.add_argument(
        "--port", type=int, default=8770, metavar="N",
        help="on 127.0.0.1; 0 takes any that is free (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--folder", type=Path, default=Path("~/rematte-serve"), metavar="PATH",
        help="where uploads, results and the list of jobs are saved (default: "
        "%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="PATH",
        help="copy finished files into this folder as well; nothing there is replaced",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N",
        help="videos converted at a time; they share the cores (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--upload-limit", type=float, default=20, metavar="GB",
        help="largest upload (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--memory-limit", type=float, metavar="GB",
        help="memory that each conversion may use (default: three quarters of the "
        "machine's, divided by --jobs; without effect on Windows)",
    )  # fmt: skip
    flags.add_weights(parser, variant=False)
    flags.add_option(parser, "device")


def run(options: Namespace) -> int:
    """Serve until Ctrl-C."""
    from rematte.engines.choose import load_for
    from rematte.engines.device import choose_device
    from rematte.serve import serve

    device, _ = choose_device(options.device)
    fast, _ = for_quality(options.weights, "fast", None)
    load, fast_load = (
        partial(load_for, "auto", weights, None, device)
        for weights in (options.weights, fast)
    )
    serve(
        options.folder.expanduser(), load,
        fast=None if fast == options.weights else fast_load,
        port=options.port, jobs=options.jobs, upload_limit=options.upload_limit,
        memory_limit=options.memory_limit, output=options.output,
        report=lambda address: print(f"open {address} (Ctrl-C ends)", flush=True),
        note=lambda text: print(f"note: {text}", file=sys.stderr),
    )  # fmt: skip
    return 0
