"""`rematte convert`: one video, image folder or image."""

import dataclasses
import json
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rematte.cli import flags, messages
from rematte.cli.parser import Commands, Parser, one_of, reporting
from rematte.errors import EXIT_CODES
from rematte.video.values import parse_rate, parse_size

if TYPE_CHECKING:
    from fractions import Fraction

    from rematte.conversion.pipes import Piped
    from rematte.convert import Report


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "convert",
        help="cut the people out of a video, an image folder or an image",
        usage="%(prog)s [options] INPUT",
        description="Cut the people out of a video, an image folder or an image. The "
        "suffix of each output decides its format: .mov, .webm, .mkv, .gif, .webp, "
        ".avif, .apng, .png and folders can be transparent; .mp4 gets a background. "
        "Sound and exact times are kept.",
        epilog="example: rematte convert interview.mp4 -o cutout.mov --alpha "
        f"alpha.mp4; {EXIT_CODES}",
    )
    parser.add_argument(
        "input",
        help="video file, folder of images, image, or numbered images as a pattern "
        "such as plate.%%04d.exr or plate.####.exr",
    )
    parser.add_argument(
        "--raw-input", type=reporting(parse_size), metavar="WxH",
        help="the input, - or a named pipe, is raw RGB24 video of this size; needs "
        "--frame-rate",
    )  # fmt: skip
    _add_outputs(parser)
    long = parser.add_argument_group("long videos")
    long.add_argument(
        "--resume", action="store_true",
        help="work in segments, and continue a stopped run that had --resume",
    )  # fmt: skip
    long.add_argument(
        "--workers", type=int, default=1, metavar="N",
        help="processes that share the video in segments (default: %(default)s)",
    )  # fmt: skip
    long.add_argument(
        "--lead-in", type=int, metavar="W",
        help="with --workers, how many frames early each segment starts, so that the "
        "network has settled (default: 15)",
    )  # fmt: skip
    long.add_argument(
        "--segment", type=int, metavar="N",
        help="frames in a segment (default: at most 500)",
    )  # fmt: skip
    flags.add_options(parser)
    flags.add_messages(parser, "print what was done as JSON")


def _add_outputs(parser: Parser) -> None:
    out = parser.add_argument_group("outputs (one or more)")
    out.add_argument(
        "-o", "--output", metavar="PATH",
        help="the cut-out: transparent if the format can hold that; without "
        "--composition, over the background if one is given",
    )  # fmt: skip
    out.add_argument(
        "--composition", metavar="PATH",
        help="the person over the background, which -o then does not use; by default "
        "green in a video and transparent in a folder of images",
    )  # fmt: skip
    out.add_argument("--alpha", metavar="PATH", help="the alpha matte")
    out.add_argument("--foreground", metavar="PATH", help="the foreground colours")
    out.add_argument(
        "--plate", metavar="PATH", help="the background, transparent at the person"
    )
    out.add_argument(
        "--format", type=one_of("rematte.conversion.pipes", "FORMATS"), metavar="NAME",
        help="format of outputs to - or a named pipe: mkv (the default), webm, mov, "
        "nut or another suffix; or raw video: rgba, rgb24, gray (for --alpha)",
    )  # fmt: skip


def run(options: Namespace) -> int:
    """Convert, with temporary files in place of pipes, and print what was done."""
    from rematte.conversion import pipes
    from rematte.conversion.needs import need
    from rematte.conversion.option_types import KINDS
    from rematte.engines.device import choose_device
    from rematte.prefetch import share_heap

    share_heap()
    flags.choose_weights(options)
    device, why = choose_device(options.device)
    outputs = {name: getattr(options, kind) for name, kind in KINDS.items()}
    standard = sys.stdout
    to_pipes = any(pipes.is_pipe(word, output=True) for word in outputs.values())
    need("--format", options.format, to_pipes)
    need("--raw-input", options.raw_input, pipes.is_pipe(options.input))
    raw = _raw_input(options)
    pipes.check_raw_format(options.format, outputs, options.background)
    if options.resume and (to_pipes or pipes.is_pipe(options.input)):
        raise ValueError(
            "--resume needs files, since pipes cannot be read or written again; "
            "leave it out"
        )
    with ExitStack() as stack:
        piped = stack.enter_context(  # which asks whether the output is a terminal
            pipes.through_files(options.input, outputs, options.format, raw)
        )
        if pipes.STANDARD in outputs.values():  # messages go elsewhere then
            stack.enter_context(redirect_stdout(sys.stderr))
        report = _convert(
            options, piped, flags.model_loader(options, device),
            flags.settings(options, device),
        )  # fmt: skip
        piped.send(getattr(standard, "buffer", None))
        piped.describe(report)
        if not options.quiet:
            messages.print_notes(report.notes)
        if options.json:
            print(json.dumps(dataclasses.asdict(report)))
        elif not options.quiet:
            print(messages.summarise(report, f"{device} ({why})"))
    return 0


def _raw_input(options: Namespace) -> "tuple[tuple[int, int], Fraction] | None":
    """Take size and frame rate of raw input out of the options."""
    if options.raw_input is None:
        return None
    if options.frame_rate is None:
        raise ValueError(
            "--raw-input needs --frame-rate, since raw video does not state how many "
            "frames a second has; give both"
        )
    rate, options.frame_rate = parse_rate(options.frame_rate), None
    return options.raw_input, rate


def _convert(
    options: Namespace,
    piped: "Piped",
    load: Callable[[], Any],
    settings: dict[str, Any],
) -> "Report":
    from rematte.conversion.needs import need
    from rematte.convert import convert_video
    from rematte.resume.manifest import work_folder
    from rematte.resume.run import convert_long

    settings |= piped.outputs
    settings["progress"] = not options.quiet and sys.stderr.isatty()
    if options.resume or options.workers != 1:
        return convert_long(
            load, piped.source, resume=options.resume, workers=options.workers,
            lead_in=options.lead_in, segment=options.segment, **settings,
        )  # fmt: skip
    need("--segment", options.segment, False)
    need("--lead-in", options.lead_in, False)
    report = convert_video(load(), piped.source, **settings)
    first = next(iter(report.outputs.values()), None)
    if first is not None and (left := work_folder(Path(first))).exists():
        report.notes.append(
            f"{left} holds segments of an earlier run with --resume or --workers; "
            "delete it if they are not needed"
        )
    return report
