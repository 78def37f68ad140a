"""`rematte train`: train weights by a recipe."""

import sys
from argparse import Namespace

from rematte.cli import flags
from rematte.cli.parser import Commands
from rematte.errors import EXIT_CODES


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "train",
        help="train weights by a recipe (extra: train)",
        usage="%(prog)s [options] RECIPE",
        description="Train weights by a recipe: see docs/train.md. A checkpoint holds "
        "everything, so that a run can be stopped and resumed at any time.",
        epilog="example: rematte train bundled --set run.out=runs/mine "
        f"--minutes 10 --resume; {EXIT_CODES}",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "recipe",
        help="a TOML file, or the name of a recipe that comes with the package: "
        "bundled, further, stage1 to stage4",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="replace a setting, such as phase.0.steps=100; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true",
        help="resume from the checkpoint in run.out, if there is one",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, metavar="M",
        help="stop with a checkpoint after this time",
    )  # fmt: skip
    flags.add_option(parser, "device")
    flags.add_quiet(parser)


def run(options: Namespace) -> int:
    """Train, and print where the weights are."""
    try:
        from rematte.train import load_recipe, train
    except ModuleNotFoundError as error:
        raise ValueError(
            f"rematte train needs {error.name}: pip install 'rematte[train]'"
        ) from error
    from rematte.engines.device import choose_device

    device, _ = choose_device(options.device)
    trained = train(
        load_recipe(options.recipe, options.set, device.partition(":")[0]),
        resume=options.resume,
        minutes=options.minutes,
        device=options.device,
        progress=not options.quiet and sys.stderr.isatty(),
    )
    if not options.quiet:
        then = "finished" if trained.finished else "to continue, add --resume"
        print(
            f"{trained.weights}: {trained.steps} steps, {then}; held-out alpha error "
            f"{trained.error} (MAD x 1e3)"
        )
    return 0
