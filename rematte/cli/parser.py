"""The argument parser of all commands: errors in one line, help that is stable."""

import argparse
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn, TypeAlias


class Help(argparse.HelpFormatter):
    """Formats help alike on all Python versions."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, action.dest.upper())
        return f"{', '.join(action.option_strings)} {value}"


class Parser(argparse.ArgumentParser):
    """Parses one command, and reports an error in one line, like all other errors."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=Help, **settings)

    def error(self, message: str) -> NoReturn:
        """Print one line with the nearest correct word, and exit with 2."""
        message += self._suggest(message)
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse words and refuse unknown ones here, where the command is known."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def _suggest(self, message: str) -> str:
        """Name the flag or the choice that was probably meant."""
        if flag := re.match(r"unrecognized arguments: (--[^ =]+)", message):
            word, known = flag[1], list(self._option_string_actions)
        elif choice := re.search(
            r"invalid choice: '(.*)' \(choose from (.*)\)", message
        ):
            word, known = choice[1], re.findall(r"[\w.-]+", choice[2])
        else:
            return ""
        near = get_close_matches(word, known, 1)
        return f"; did you mean {near[0]}?" if near else ""


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def one_of(module: str, name: str) -> Callable[[str], str]:
    """Make a check of a word against choices, by their name in a module.

    The module is slow to import, so that is done when there is a word to check.
    """

    def check(word: str) -> str:
        choices = tuple(getattr(import_module(module), name))
        if word not in choices:
            raise argparse.ArgumentTypeError(
                f"invalid choice: {word!r} (choose from {', '.join(choices)})"
            )
        return word

    return check


def reporting(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Show a ValueError's own message to the user; for numbers argparse has one."""
    if parse in (int, float, str):
        return parse

    def check(word: str) -> Any:
        try:
            return parse(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return check
