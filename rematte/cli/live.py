"""`rematte live`: cameras and streams as they play."""

import dataclasses
import json
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from rematte.cli import flags, messages
from rematte.cli.parser import Commands, reporting
from rematte.errors import EXIT_CODES
from rematte.video.values import parse_size
from rematte.weights.registry import FAST

if TYPE_CHECKING:
    from collections.abc import Callable

    from rematte.live.run import LiveReport

# As in `rematte.live.run`, which is slow to import.
SHOWS = ("composition", "alpha", "foreground")
PIPE_FORMATS = ("nut", "rgb24", "rgba", "gray")

# Some terminals, as those in editors, know no escapes.
_ERASE = f"\r{'':39}\r"

_OPTIONS = (
    *("background", "background_fit", "downsample_ratio", "quality", "region"),
    *("input_resize", "deinterlace", "device", "dtype", "engine"),
)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "live",
        help="cut people out of what a camera shows, at once",
        usage="%(prog)s [options] SOURCE [SOURCE ...]",
        description="Cut people out of a camera, a stream or a file played as one. The "
        "newest picture goes first, and late ones are dropped unless --no-drop is "
        "given. Ctrl-C ends the command and completes a file.",
        epilog="example: rematte live camera -o window --background blur; "
        f"{EXIT_CODES}",
    )
    parser.add_argument(
        "source", nargs="+",
        help="camera[:WHICH], a URL, a file, or - and named pipes; space in the window "
        "shows the next",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", default="window", metavar="WHERE",
        help="window, virtual-camera, a file, an address (rtmp://, rtsp://, udp://), "
        "or - and named pipes: uncompressed video (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--record", metavar="FILE", help="record what is shown, beside another output"
    )
    parser.add_argument(
        "--format", choices=PIPE_FORMATS,
        help="format of output to - or a named pipe: nut (the default), which states "
        "size and times, or bare frames: rgba, rgb24, gray (for --show alpha)",
    )  # fmt: skip
    parser.add_argument(
        "--no-drop", action="store_true",
        help="let the source wait instead of dropping pictures, which keep its times",
    )  # fmt: skip
    parser.add_argument(
        "--raw-input", type=reporting(parse_size), metavar="WxH",
        help="the source, - or a named pipe, is raw RGB24 video of this size",
    )  # fmt: skip
    parser.add_argument(
        "--frame-rate", metavar="RATE", help="frames per second of raw input"
    )
    parser.add_argument(
        "--show", choices=SHOWS, default="composition",
        help="what is shown (default: %(default)s)",
    )  # fmt: skip
    for name in _OPTIONS:
        flags.add_option(parser, name)
    parser.set_defaults(region="full")  # its slowest pictures take less time
    flags.add_weights(parser, variant=False)
    parser.add_argument(
        "--mbps", type=float, metavar="RATE", help="bit rate [Mbit/s] (default: 4)"
    )
    parser.add_argument(
        "--no-pace", action="store_true", help="read a file as fast as possible"
    )
    flags.add_option(parser, "limit")
    flags.add_option(parser, "overwrite")
    flags.add_messages(parser, "print what was done as JSON")


def run(options: Namespace) -> int:
    """Run until the source or the user ends it, and print what was done."""
    from rematte.engines.device import choose_device
    from rematte.live.run import live
    from rematte.prefetch import share_heap

    share_heap()
    flags.choose_weights(options)
    device, _ = choose_device(options.device)
    terminal = sys.stderr.isatty() and not options.quiet
    print_new = (lambda _: None) if options.quiet else _make_printer(terminal)
    chosen = options.weights is not None or options.quality == "best"
    chosen = chosen or options.downsample_ratio not in (None, "auto")
    paced = not (chosen or options.no_drop or options.no_pace)
    light = paced and (device, options.dtype) == ("cpu", "float32")
    names = (*_OPTIONS, "frame_rate", "limit", "overwrite")
    given = {name: getattr(options, name) for name in names}
    del given["device"], given["dtype"]  # those of the loaded model
    try:
        report = live(
            flags.model_loader(options, device)(), options.source, options.output,
            show=options.show, output_video_mbps=options.mbps,
            pace=not options.no_pace, drop=not options.no_drop,
            raw_input=options.raw_input, pipe_format=options.format,
            record=options.record, lighter=FAST if light else None, report=print_new,
            **given,
        )  # fmt: skip
        print_new(report)
    finally:
        if terminal:  # an error has a line of its own
            print(end=_ERASE, file=sys.stderr, flush=True)
    # The standard output may be the video.
    file = sys.stderr if options.output == "-" else sys.stdout
    if options.json:
        print(json.dumps(dataclasses.asdict(report)), file=file)
    elif not options.quiet:
        rate = report.frames / (report.seconds or 1)
        print(
            f"{report.frames} pictures in {report.seconds:.1f} s ({rate:.1f}/s), "
            f"{report.dropped} dropped; latency {report.latency * 1e3:.0f} ms, 95% "
            f"below {report.latency_p95 * 1e3:.0f} ms; engine {report.engine}",
            file=file,
        )
    return 0


def _make_printer(terminal: bool) -> "Callable[[LiveReport], None]":
    """Make a function that prints new notes and, on a terminal, the rate and people."""
    noted = said = 0
    erase = _ERASE if terminal else ""  # the rate has no end of line

    def print_new(report: "LiveReport") -> None:
        nonlocal noted, said
        if len(report.notes) > noted:
            print(end=erase, file=sys.stderr)
            messages.print_notes(report.notes[noted:])
            noted = len(report.notes)
        if not terminal:
            return
        for at, there in report.people[said:]:
            what = "somebody is" if there else "nobody is"
            print(f"{erase}{at:.1f} s: {what} in the picture", file=sys.stderr)
        said = len(report.people)
        if report.frames % 10 == 0:
            rate = report.frames / (report.seconds or 1)
            text = f"{erase}{rate:.1f} pictures/s, {report.dropped} dropped"
            print(text, end="", file=sys.stderr, flush=True)

    return print_new
