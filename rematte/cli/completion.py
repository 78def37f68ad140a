"""Completion of commands, flags and choices in the user's shell, made by shtab."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rematte.cli.parser import Parser

SHELLS = ("bash", "zsh", "fish")
# The names of flags and arguments that take a file in the help.
_PATHS = ("path", "dir", "png", "input", "source", "recipe", "what", "where", "set")


def add_completion(parser: Parser) -> None:
    """Add --install-completion and --print-completion."""
    parser.add_argument(
        "--install-completion", action=_Complete, default=argparse.SUPPRESS,
        nargs="?", choices=SHELLS, metavar="SHELL",
        help="let bash, zsh or fish (default: the present shell) complete commands "
        "and flags, then exit",
    )  # fmt: skip
    parser.add_argument(
        "--print-completion", action=_Complete, default=argparse.SUPPRESS,
        choices=SHELLS, metavar="SHELL",
        help="print that script instead, then exit",
    )  # fmt: skip


class _Complete(argparse.Action):
    """Prints or installs the script of a shell."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        shell = values or Path(os.environ.get("SHELL", "")).name
        if shell not in SHELLS:
            parser.error(f"{option_string} needs one of {', '.join(SHELLS)}")
        import shtab

        for action in _actions(parser):
            name = str(action.metavar or action.dest).lower()
            if action.nargs != 0 and any(word in name.split("|") for word in _PATHS):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        script = shtab.complete(parser, shell)
        if self.dest == "print_completion":
            print(script)
        else:
            try:
                print(install(script, shell))
            except OSError as error:
                parser.exit(1, f"{parser.prog}: {error}\n")
        parser.exit()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action


def install(script: str, shell: str) -> str:
    """Write a script where its shell looks for it; say what the user should do."""
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    path, then = {
        "bash": (
            data / "bash-completion/completions/rematte",
            "open a new shell (which needs the package bash-completion)",
        ),
        "zsh": (
            home / ".zfunc/_rematte",
            "put `fpath+=~/.zfunc; autoload -Uz compinit; compinit` into ~/.zshrc and "
            "open a new shell",
        ),
        "fish": (config / "fish/completions/rematte.fish", "open a new shell"),
    }[shell]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script, encoding="utf-8")
    return f"wrote {path}; {then}"
