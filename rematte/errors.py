"""The errors that a caller may want to distinguish; all others are built-in ones.

A message names the argument, the value, what is allowed and the remedy. `explain`
turns an error into the line and the exit code of a command.
"""

import sys
from collections.abc import Callable
from typing import NoReturn

EXIT_CODES = (
    "exit codes: 0 ok, 1 failure, 2 usage, 3 unreadable input, 4 weights missing, "
    "5 out of memory, 130 interrupted"
)

NO_TORCH = "this needs torch: pip install 'rematte[torch]'"


class InputError(ValueError):
    """The input cannot be read: missing, empty, not a video, or broken."""


class OutputError(OSError):
    """The output cannot be written: it exists, the disk is full, or its name is bad."""


class WeightsError(RuntimeError):
    """Weights are missing, damaged, or do not fit the network."""


class Cancelled(RuntimeError):  # noqa: N818
    """A conversion was stopped by its caller's event."""


class TimedOut(TimeoutError):  # noqa: N818
    """A conversion took longer than its caller allows."""


_CODES = (
    (WeightsError, 4),
    (InputError, 3),
    # An extra that is not installed says so itself, and so does a cluster.
    ((OutputError, ImportError, ConnectionError), 1),
    (ValueError, 2),
)


def end(main: Callable[[], int]) -> NoReturn:
    """End a script with its exit code, or with one line that says what went wrong."""
    try:
        sys.exit(main())
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(explain(error)[1])


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the one line for an error; see `EXIT_CODES`."""
    text = " ".join(str(error).split())
    # Compiled modules turn an interrupt while they are imported into an ImportError.
    if isinstance(error.__cause__, KeyboardInterrupt):
        error = error.__cause__
    if isinstance(error, KeyboardInterrupt):
        kept = "; what there was so far is in " + ", ".join(map(str, error.args))
        return 130, "interrupted" + (kept if error.args else "")
    # torch raises plain RuntimeErrors for the CPU, and a class of its own for CUDA.
    lost = "allocate memory" in text.lower() or "out of memory" in text.lower()
    if isinstance(error, MemoryError) or lost:
        return 5, f"out of memory; lower --seq-chunk or use --resize ({text[:200]})"
    if isinstance(error, BrokenPipeError):
        return 1, "the program that reads the output has ended (broken pipe)"
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return 1, NO_TORCH
    for kinds, code in _CODES:
        if isinstance(error, kinds):
            return code, text
    if isinstance(error, OSError) and error.filename:  # as for a name that is too long
        return 1, f"{error.filename}: {error.strerror}; use another path"
    return 1, f"unexpected {type(error).__name__}: {text}"
