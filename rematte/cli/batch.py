"""`rematte batch`: many videos, in one process, in several or on a Ray cluster."""

import dataclasses
import json
import sys
from argparse import Namespace
from collections.abc import Generator
from contextlib import closing, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from rematte.cli import flags, messages
from rematte.cli.parser import Commands
from rematte.conversion.presets import PRESETS
from rematte.errors import EXIT_CODES

if TYPE_CHECKING:
    from rematte.workers.planning import Job


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "batch",
        help="cut the people out of many videos",
        usage="%(prog)s [options] INPUT [INPUT ...]",
        description="Cut the people out of many videos with one model. Failures are "
        "recorded, and the other videos are converted. Templates have the fields "
        "{stem}, {name}, {suffix} and {folder}, the path below the input folder. "
        "Inputs and outputs may be addresses: s3:// and gs:// (extras: s3, gs).",
        epilog="example: rematte batch clips/ -o cutouts --suffix .webm "
        f"--skip-existing; {EXIT_CODES}; 1 if any failed",
    )
    parser.add_argument(
        "input", nargs="+",
        help="videos, patterns, folders (searched to the bottom), .txt lists of these",
    )  # fmt: skip
    out = parser.add_argument_group("outputs (one or more)")
    out.add_argument("-o", "--output", metavar="FOLDER|TEMPLATE", help="the cut-outs")
    out.add_argument(
        "--suffix",
        help="suffix of the cut-outs in -o FOLDER (default: the preset's, or .mov)",
    )
    out.add_argument("--composition", metavar="TEMPLATE", help="over the background")
    out.add_argument("--alpha", metavar="TEMPLATE", help="the alpha mattes")
    out.add_argument("--foreground", metavar="TEMPLATE", help="the foreground colours")
    out.add_argument(
        "--plate", metavar="TEMPLATE", help="the backgrounds, transparent at people"
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--jobs", type=int, metavar="N",
        help="processes at a time (default: 1; with --ray, as many as fit)",
    )  # fmt: skip
    how.add_argument(
        "--ray", nargs="?", const="", metavar="ADDRESS",
        help="convert with Ray (extra: ray), on this machine or, with auto or "
        "HOST:PORT, on a cluster",
    )  # fmt: skip
    how.add_argument(
        "--worker-cpus", type=int, metavar="N",
        help="with --ray, cores for each process (default: 2, or 1 if there are no "
        "more); each also gets a GPU, if there are any",
    )  # fmt: skip
    how.add_argument(
        "--split", action="store_true",
        help="with --ray, hand out segments instead of videos, so that many processes "
        "share one video; needs disks that all machines share",
    )  # fmt: skip
    how.add_argument(
        "--retries", type=int, metavar="N",
        help="with --ray, how often to restart a video or segment whose process was "
        "lost (default: 2)",
    )  # fmt: skip
    how.add_argument(
        "--skip-existing", action="store_true", help="leave outputs that exist alone"
    )
    how.add_argument("--dry-run", action="store_true", help="print what would be done")
    flags.add_options(parser, single=False)
    flags.add_messages(parser, "a line of JSON for each")


def run(options: Namespace) -> int:
    """Convert all inputs, and print a table or lines of JSON."""
    from rematte.conversion.needs import need
    from rematte.conversion.option_types import KINDS
    from rematte.prefetch import share_heap
    from rematte.workers.jobs import as_table
    from rematte.workers.planning import find_inputs, is_folder, plan

    share_heap()
    flags.choose_weights(options)
    need("--suffix", options.suffix, is_folder(options.output))
    for flag in ("--split", "--worker-cpus", "--retries"):
        value = getattr(options, flag[2:].replace("-", "_"))
        need(flag, value, options.ray is not None)
    preset = PRESETS.get(options.preset or "")
    jobs = plan(
        find_inputs(options.input),
        {kind: getattr(options, kind) for kind in KINDS.values()},
        options.suffix or (preset.suffixes[0] if preset else ".mov"),
    )
    if not options.dry_run:
        _run_all(options, jobs)
    failed = any(job.code for job in jobs)
    if options.json and options.dry_run:
        for job in jobs:
            _print_job(job, sys.stdout)
    elif not options.json and (not options.quiet or failed):
        print(as_table(jobs))
    return 1 if failed else 0


def _run_all(options: Namespace, jobs: "list[Job]") -> None:
    """Run the jobs, and replace each planned job by its finished one."""
    from tqdm import tqdm

    shown = not options.quiet and sys.stderr.isatty()
    one = options.ray is None and options.jobs in (None, 1)
    start = _run_here if options.ray is None else _run_on_ray
    index = {job.input: number for number, job in enumerate(jobs)}
    out = sys.stdout
    # Ray has messages of its own, and writes them to the standard output.
    with (
        redirect_stdout(sys.stderr),
        closing(start(options, jobs, shown and one)) as finished,
        tqdm(total=len(jobs), unit="video", disable=not shown or one) as bar,
    ):
        for job in finished:
            jobs[index[job.input]] = job  # a copy, if another process ran it
            bar.update()
            if not options.quiet:
                messages.print_notes(job.notes, job.input)
            if options.json:
                _print_job(job, out)


def _run_here(
    options: Namespace, jobs: "list[Job]", progress: bool
) -> "Generator[Job]":
    from rematte.engines.device import choose_device
    from rematte.options import make_options
    from rematte.workers import jobs as batch

    device, _ = choose_device(options.device)
    yield from batch.run(
        jobs, flags.model_loader(options, device),
        make_options(**flags.settings(options, device)),
        workers=1 if options.jobs is None else options.jobs,
        skip_existing=options.skip_existing, progress=progress,
    )  # fmt: skip


def _run_on_ray(
    options: Namespace, jobs: "list[Job]", progress: bool
) -> "Generator[Job]":
    from rematte.options import make_options
    from rematte.workers import ray_cluster

    yield from ray_cluster.run(
        jobs,
        partial(_load_on, options),
        make_options(**flags.settings(options, options.device)),
        address=options.ray or None, workers=options.jobs, cpus=options.worker_cpus,
        retries=2 if options.retries is None else options.retries, split=options.split,
        skip_existing=options.skip_existing,
        report=partial(print, file=sys.stderr),
    )  # fmt: skip


def _load_on(options: Namespace, device: str) -> Any:
    return flags.model_loader(options, device)()


def _print_job(job: "Job", file: TextIO) -> None:
    text = json.dumps(dataclasses.asdict(job), default=str)
    print(text, file=file, flush=True)
