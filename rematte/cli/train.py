"""`rematte train`: train weights by a recipe."""

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
    parser.add_argument(
        "recipe",
        help="a TOML file, or the name of a recipe that comes with the package: "
        "bundled, short, fast, finetune, stage1 to stage4",
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
    parser.add_argument(
        "--dry-run", action="store_true",
        help="try two steps of each phase: counts of the data, one sheet of pictures, "
        "time and memory",
    )  # fmt: skip
    flags.add_option(parser, "device")
    flags.add_quiet(parser)


def run(options: Namespace) -> int:
    """Train, and print where the weights are."""
    import numpy as np  # noqa: F401 - first: torch hides a Ctrl-C in its import

    try:
        from rematte.train import dry_run, load_recipe, train
    except ModuleNotFoundError as error:
        raise ValueError(
            f"rematte train needs {error.name}: pip install 'rematte[train]'"
        ) from error
    from rematte.engines.device import choose_device

    device, _ = choose_device(options.device)
    kind = device.partition(":")[0]
    recipe = load_recipe(options.recipe, options.set, kind)
    if options.dry_run:
        for line in dry_run(recipe, device=options.device):
            print(line)
        return 0
    trained = train(
        recipe, resume=options.resume, minutes=options.minutes,
        device=options.device, progress=not options.quiet,
    )  # fmt: skip
    if not options.quiet:
        then = "finished" if trained.finished else "to continue, add --resume"
        of = (
            "held-out alpha error"
            if trained.held_out
            else "nothing was held out; alpha error on trained pictures"
        )
        print(
            f"{trained.weights}: {trained.steps} steps, {then}; {of} {trained.error} "
            "(MAD x 1e3)"
        )
    return 0
