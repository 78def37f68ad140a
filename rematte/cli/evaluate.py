"""`rematte evaluate`: measure mattes against true ones."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

from rematte.cli import flags
from rematte.cli.parser import Commands
from rematte.errors import EXIT_CODES
from rematte.evaluate import METRICS


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "evaluate",
        help="measure mattes against true ones",
        usage="%(prog)s (--pred PATH --true PATH | --testset DIR) [options]",
        description="Measure mattes against true ones: files with --pred and --true, "
        "or a network on a test set with --testset. MAD, MSE and FgrMSE are times "
        "1000, dtSSD times 100, SAD, Grad and Conn sums over 1000; -T is within a "
        "set's trimaps.",
        epilog=EXIT_CODES,
    )
    what = parser.add_argument_group("what to measure")
    what.add_argument(
        "--pred", type=Path, metavar="PATH",
        help="alpha matte or transparent cut-out: a video, a folder of images, or a "
        "folder of such clips",
    )  # fmt: skip
    what.add_argument(
        "--true", type=Path, metavar="PATH", help="the true ones, laid out alike"
    )
    what.add_argument(
        "--testset", type=Path, metavar="DIR",
        help="run the network over this set (CLIP/com, CLIP/pha, CLIP/fgr, or a public "
        "set of photos)",
    )  # fmt: skip
    what.add_argument(
        "--model", metavar="NAME|PATH",
        help="weights for --testset (default: the bundled ones)",
    )  # fmt: skip
    flags.add_option(what, "downsample_ratio")
    flags.add_option(what, "device")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--metrics", nargs="+", choices=METRICS, default=tuple(METRICS), metavar="NAME",
        help=f"of {', '.join(METRICS)} (default: all)",
    )  # fmt: skip
    how.add_argument(
        "--normalise", action="store_true",
        help="stretch each map to 0..1 before Grad, as published figures do",
    )  # fmt: skip
    how.add_argument(
        "--published", action="store_true",
        help="count as RobustVideoMatting's script does: --normalise, and dtSSD of the "
        "first frame as 0",
    )  # fmt: skip
    out = parser.add_argument_group("results")
    out.add_argument("--csv", type=Path, metavar="PATH", help="write the table here")
    out.add_argument("--plot", type=Path, metavar="PNG", help="draw errors over time")
    out.add_argument(
        "--json", action="store_true", help="print every frame's figures as JSON"
    )


def run(options: Namespace) -> int:
    """Measure files, or a network on a test set, and write the results."""
    from rematte.engines.device import choose_device
    from rematte.evaluate import evaluate
    from rematte.weights import load

    given = [path is not None for path in (options.pred, options.true, options.testset)]
    files = given == [True, True, False]
    if (not files and given != [False, False, True]) or (files and options.model):
        raise ValueError("give --pred and --true, or --testset and perhaps --model")
    evaluate.check_outputs(options.csv, options.plot)
    clips: Iterable[evaluate.Clip]
    if files:
        clips = evaluate.pair_files(options.pred, options.true)
    else:
        device, _ = choose_device(options.device)
        how = {"downsample_ratio": options.downsample_ratio, "device": device}
        model = load.load_model(options.model, None, device)
        clips = evaluate.run_network(model, options.testset, **how)
    normalise = options.normalise or options.published
    scores = evaluate.evaluate(
        clips, options.metrics, normalise, options.published, sys.stderr.isatty()
    )
    if options.json:
        print(json.dumps(evaluate.as_json(scores)))
    else:
        print(evaluate.as_table(scores))
    if options.csv:
        evaluate.write_csv(scores, options.csv)
    if options.plot:
        evaluate.write_plot(scores, options.plot)
    return 0
