"""`rematte weights`: list, fetch and check trained weights."""

import sys
from argparse import Namespace

from rematte.cli.parser import Commands
from rematte.errors import EXIT_CODES, WeightsError
from rematte.weights import registry

_ACTIONS = {
    "download": "fetch by name into the cache",
    "path": "print where a file is",
    "verify": "check a file's hash",
    "info": "origin, licences, size and quality of a name or file",
}


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "weights",
        help="list, fetch and check trained weights",
        usage="%(prog)s ACTION [NAME]",
        description="List, fetch and check trained weights, and print their licences.",
        epilog=EXIT_CODES,
    )
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", prog=parser.prog
    )
    actions.add_parser("list", help="all names, with licence and where they are")
    for name, text in _ACTIONS.items():
        action = actions.add_parser(name, help=text)
        action.add_argument(
            "name", nargs="?", default=registry.DEFAULT,
            help="a name of `rematte weights list` (default: %(default)s)",
        )  # fmt: skip


def run(options: Namespace) -> int:
    """Do what is asked about the weights."""
    from rematte.weights import describe, download

    if options.action == "list":
        rows = registry.list_rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = zip(row, widths, strict=True)
            print("  ".join(f"{cell:<{width}}" for cell, width in cells).rstrip())
    elif options.action == "download":
        print(download.download(options.name, progress=sys.stderr.isatty()))
    elif options.action == "verify":
        print(download.verify(options.name))
    elif options.action == "info":
        print(describe.describe(options.name))
    else:
        path = registry.find(options.name)
        if path is None:
            raise WeightsError(
                f"{options.name} is not here yet; run "
                f"`rematte weights download {options.name}`"
            )
        print(path)
    return 0
