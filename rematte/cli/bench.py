"""`rematte bench`: measure speed and memory on this machine."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from rematte.cli import flags
from rematte.cli.parser import Commands, one_of
from rematte.errors import EXIT_CODES


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bench",
        help="measure speed and memory on this machine",
        usage="%(prog)s [options]",
        description="Measure speed and memory against a plain implementation in the "
        "same run: the network alone, 8-bit frames in memory, and files.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "--quick", action="store_true",
        help="three ratios to plain, the first run, a short clip and memory",
    )  # fmt: skip
    parser.add_argument(
        "--against", type=Path, metavar="FOLDER",
        help="run the inference.py of this folder beside rematte, as whole processes",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint", type=Path, metavar="PATH",
        help="the weights that the other program loads",
    )  # fmt: skip
    parser.add_argument("--clip", default="", help="a video (default: drawn)")
    flags.add_weights(parser, variant=False)
    parser.add_argument(
        "--engine", type=one_of("rematte.engines.choose", "CPU_ENGINES"),
        action="append", metavar="NAME",
        help="engine to compare with plain; repeatable (default: all)",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the speeds")
    parser.add_argument("--json", action="store_true", help="print JSON lines")


def run(options: Namespace) -> int:
    """Measure, and print a table or lines of JSON."""
    from rematte.bench import processes
    from rematte.bench import steps as bench
    from rematte.conversion.needs import need
    from rematte.engines.choose import CPU_ENGINES

    need("--checkpoint", options.checkpoint, options.against is not None)
    if options.against is not None:
        if options.checkpoint is None:
            raise ValueError("--against needs the other program's --checkpoint PATH")
        _print(processes.against(options.against, options.checkpoint), options)
        return 0
    if options.quick:
        _print(processes.quick(options.weights), options)
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


def _print(found: dict[str, Any], options: Namespace) -> None:
    text = json.dumps(found)
    print(text if options.json else text.replace(", ", "\n "))
