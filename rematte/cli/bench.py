"""`rematte bench`: measure speed and memory on this machine."""

import json
from argparse import Namespace
from pathlib import Path

from rematte.cli import flags
from rematte.cli.parser import Commands, one_of
from rematte.errors import EXIT_CODES


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bench",
        help="measure speed and memory on this machine",
        usage="%(prog)s [options]",
        description="Measure speed and memory, beside a plain implementation in the "
        "same run: the network alone, 8-bit frames in memory, and files.",
        epilog=EXIT_CODES,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--quick", action="store_true", help="three ratios to plain, within 50 s"
    )
    parser.add_argument("--clip", default="", help="a video (default: drawn)")
    flags.add_weights(parser)
    parser.add_argument(
        "--engine", type=one_of("rematte.engines.choose", "CPU_ENGINES"),
        action="append", metavar="NAME",
        help="measure this one beside plain; repeatable (default: all)",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the speeds")
    parser.add_argument("--json", action="store_true", help="print JSON lines")


def run(options: Namespace) -> int:
    """Measure, and print a table or lines of JSON."""
    from rematte import bench
    from rematte.engines.choose import CPU_ENGINES

    if options.quick:
        found = bench.quick(options.weights)
        text = json.dumps(found)
        print(text if options.json else text.replace(", ", "\n "))
        return 0
    wanted = {*(options.engine or CPU_ENGINES), "plain"}
    cases = [case for case in bench.FULL if case.engine in wanted]
    results = []
    for result in bench.run(cases, options.clip, options.weights):
        results.append(result)
        if options.json:
            print(bench.as_json(result), flush=True)
    if not options.json:
        print(json.dumps(bench.machine()))
        print(bench.as_table(results))
    if options.plot:
        bench.write_plot(results, options.plot)
    return 0
