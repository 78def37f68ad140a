"""The three errors a caller may want to tell apart; the rest are built-in ones.

A message names the argument, the value, what is allowed and the remedy. The command
line prints it as one line and maps the class to an exit code.
"""


class InputError(ValueError):
    """The input cannot be read: missing, empty, not a video, or broken."""


class OutputError(OSError):
    """The output cannot be written: exists, wrong suffix for it, no space, no right."""


class WeightsError(RuntimeError):
    """Weights are missing, damaged, or do not fit the network."""
