"""The command line, with a module for each command and one line for each error.

Nothing slow is imported before a command runs, so that help and errors are quick.
"""

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rematte.cli import (
    batch,
    bench,
    convert,
    doctor,
    evaluate,
    export,
    inspect,
    key,
    live,
    make_testset,
    preview,
    serve,
    train,
    weights,
)
from rematte.cli.completion import add_completion
from rematte.cli.parser import Parser
from rematte.errors import EXIT_CODES, explain
from rematte.version import __version__
from rematte.weights import registry

# In the order of the help.
COMMANDS = (
    *(convert, preview, inspect, batch, weights, doctor, evaluate, make_testset, key),
    *(train, bench, export, live, serve),
)

_SETTLING = 3.0  # how long an interrupted command may clean up undisturbed [s]


def build_parser() -> Parser:
    """Make the parser of all commands; docs/cli.md holds its help."""
    parser = Parser(
        prog="rematte",
        usage="%(prog)s [options] COMMAND ...",
        description="Cut people out of video with no green screen.",
        epilog=f"code: {registry.CODE_LICENCE}; weights: see `rematte weights info`; "
        f"{EXIT_CODES}",
    )
    bundled = registry.WEIGHTS[registry.DEFAULT]
    parser.add_argument(
        "--version", action="version",
        version=f"rematte {__version__} (code {registry.CODE_LICENCE}; bundled weights "
        f"{bundled.name}, {bundled.licence})",
    )  # fmt: skip
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )
    add_completion(parser)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog=parser.prog
    )
    for module in COMMANDS:
        module.add(commands)
        name = module.__name__.rpartition(".")[2].replace("_", "-")
        commands.choices[name].set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    `arguments` are the words after the program's name; None takes the process's own.

    Returns:
        The exit code.
    """
    _replace_closed_streams()
    debug = False
    own = arguments is None
    with _ends_as_by_ctrl_c(to_the_end=own) as interrupts:
        try:
            options = build_parser().parse_args(arguments)
            debug = options.debug
            if isinstance(sys.stdout, io.TextIOWrapper):  # a name may be any bytes
                sys.stdout.reconfigure(errors="backslashreplace")
            code: int = options.run(options)
            sys.stdout.flush()
        except SystemExit as stop:  # the parser has printed what is wrong
            return int(stop.code or 0)
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                raise
            code, text = explain(error)
            with suppress(OSError):  # the terminal may be closed
                print(f"rematte: {text}", file=sys.stderr)
            _detach_closed_output()
    if own and len(interrupts) > 1:
        os._exit(code)  # threads may still run, with which Python would crash
    return code


@contextmanager
def _ends_as_by_ctrl_c(to_the_end: bool) -> Iterator[list[float]]:
    """Let `kill` and the end of a terminal interrupt this block, as Ctrl-C does.

    Else they would leave hidden files behind. `nohup` keeps its effect. People press
    Ctrl-C twice, and a terminal that is closed sends SIGHUP twice: what comes within
    `_SETTLING` of an interrupt is ignored, since it would break off the cleaning up.
    With `to_the_end`, this holds until the process has ended. Yields the times of
    interrupts [s].
    """
    times: list[float] = []
    before = {}

    def interrupt(number: int, frame: object) -> None:
        if not times or time.monotonic() - times[-1] >= _SETTLING:
            times.append(time.monotonic())
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        usual = signal.SIG_DFL, signal.default_int_handler
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) in usual:
                before[number] = signal.signal(number, interrupt)
    try:
        yield times
    finally:
        if not to_the_end:
            for number, handler in before.items():
                signal.signal(number, handler)


def _replace_closed_streams() -> None:
    """Put the null device in place of standard streams that are closed.

    Else an output could be opened under their number, and get what libraries print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - it stays


def _detach_closed_output() -> None:
    """Keep Python from reporting a broken pipe when it flushes at its end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
