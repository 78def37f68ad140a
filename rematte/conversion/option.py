"""What is known of an option of a conversion.

Nothing heavy is imported here, since `rematte --help` needs this module.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rematte.video.encoding import Encoding


@dataclass(frozen=True)
class Conversion:
    """What decides whether an option works."""

    still: bool  # the input is one image
    images: bool  # the input is an image or a sequence of them
    encodings: "Mapping[str, Encoding]"  # of each output, by kind
    backdrop: bool  # an image or a video lies behind the person
    chunked: bool  # the network takes several frames at once
    png_sequence: bool = False  # `output_type` is "png_sequence"
    numbered: bool = False  # an output is a folder or a pattern of images
    tonal: bool = False  # the input is not SDR
    sized: bool = True  # the size of the coarse pass is not given
    resized: bool = False  # a size is given
    timed: bool = True  # times matter: input, output, `start` or `end` has some


def is_main(kind: str) -> bool:
    """Whether a kind of output is a cut-out or a composition."""
    return kind in ("output", "composition")


def always(conversion: Conversion) -> bool:
    """The rule of an option that works for everything."""
    return True


@dataclass(frozen=True)
class Option:
    """What is known of an option besides its type and default: a field's metadata.

    Attributes:
        flag: Its name on the command line; empty where it has none.
        help: One line for the command line's help.
        group: The heading that the flag stands under in the help.
        metavar: What stands for the value in the help; empty to list the choices.
        choices: All values that are allowed; empty where another check knows them.
        least: The smallest number that is allowed, or None.
        parse: Makes a value of a word of the command line; raises ValueError.
        switch: The value that the flag alone stands for; None if it takes a word.
        short: A second, short flag.
        command_default: The command line's default, where it differs.
        works: For what it works, to complete "works for ..."; empty: for everything.
        applies: Decides whether it works.
        noted: Decides whether a note is enough where it does not work.
        elsewhere: What happens where it does not work.
        idle: Values besides the default that ask for nothing.
        may_change: Whether a run that is resumed may have another value.
    """

    flag: str = ""
    help: str = ""
    group: str = ""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    least: int | None = None
    parse: Callable[[str], Any] = str
    switch: bool | None = None
    short: str = ""
    command_default: Any = None
    works: str = ""
    applies: Callable[[Conversion], bool] = always
    noted: Callable[[Conversion], bool] = lambda conversion: False
    elsewhere: str = "an error"
    idle: tuple[Any, ...] = ()
    may_change: bool = False

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that is no choice, or too small.

        Raises:
            ValueError: If it is.
        """
        if value is None:
            return
        if self.choices and value not in self.choices:
            raise ValueError(
                f"{name} must be one of {', '.join(self.choices)}, got {value!r}"
            )
        if self.least is not None and value < self.least:
            raise ValueError(f"{name} must be {self.least} or more, got {value}")
