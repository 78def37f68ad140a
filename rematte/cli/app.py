"""The command line, with a module for each command and one line for each error.

Nothing slow is imported before a command runs, so that help and errors are quick.
"""

import io
import os
import signal
import sys
import threading
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
    try:
        options = build_parser().parse_args(arguments)
    except SystemExit as stop:  # the parser has printed what is wrong
        return int(stop.code or 0)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may be any bytes
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _ends_as_by_ctrl_c():
            code: int = options.run(options)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if options.debug:
            raise
        code, text = explain(error)
        with suppress(OSError):  # the terminal may be closed
            print(f"rematte: {text}", file=sys.stderr)
        _detach_closed_output()
    return code


@contextmanager
def _ends_as_by_ctrl_c() -> Iterator[None]:
    """Let `kill` and the end of a terminal interrupt this block, as Ctrl-C does.

    Else they would leave hidden files behind. `nohup` keeps its effect.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    if number != signal.SIGTERM:  # a terminal that is closed sends SIGHUP twice
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


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
