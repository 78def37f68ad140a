"""Write the help of every command into docs/cli.md, and presets into formats.md.

    python tools/write_cli_docs.py           rewrites the file
    python tools/write_cli_docs.py --check   fails if that would change it

The blocks of ```text that begin with "$ rematte ... --help" and the tables of options
and presets are written by this script; the rest of these files is written by hand.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from rematte.cli.app import build_parser
from rematte.conversion.needs import NEEDS
from rematte.conversion.presets import PRESETS
from rematte.options import OPTIONS

DOCS = Path(__file__).parent.parent / "docs" / "cli.md"
FORMATS = DOCS.with_name("formats.md")
BLOCK = re.compile(
    r"^```text\n\$ (rematte(?: [a-z][a-z-]*)*) --help\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and those of its commands, in the order of the help."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from commands(command)


def render(text: str) -> str:
    """Give the file's text with every help and the table of options as they are now."""
    helps = {parser.prog: parser.format_help() for parser in commands(build_parser())}
    found = [match[1] for match in BLOCK.finditer(text)]
    if found != list(helps):
        raise ValueError(
            f"{DOCS} must hold a block of ```text for each of {', '.join(helps)} in "
            f"this order, got {', '.join(found)}; add or remove blocks by hand"
        )
    text = BLOCK.sub(
        lambda match: f"```text\n$ {match[1]} --help\n{helps[match[1]]}```", text
    )
    rows = ["| flag | works for | elsewhere |", "| --- | --- | --- |"]
    for option in OPTIONS.values():
        if option.flag and option.works:
            rows.append(f"| `{option.flag}` | {option.works} | {option.elsewhere} |")
    rows += [f"| `{flag}` | {needed} | an error |" for flag, needed in NEEDS.items()]
    return put(text, "options", rows)


def put(text: str, mark: str, rows: list[str]) -> str:
    """Put the rows of a table between its marks."""
    place = re.compile(rf"(<!-- {mark} -->\n\n)(.*?)(\n\n<!-- end -->)", re.DOTALL)
    return place.sub(lambda found: found[1] + "\n".join(rows) + found[3], text)


def presets(text: str) -> str:
    """Give the file's text with the table of presets as it is now."""
    rows = ["| preset | receiver | write | what it sets | why, and what was tried |"]
    rows.append("| --- " * 5 + "|")
    for name, preset in PRESETS.items():
        words = []
        for option, value in preset.options.items():
            shown = "x".join(map(str, value)) if isinstance(value, tuple) else value
            switch = OPTIONS[option].switch is not None
            flag = OPTIONS[option].flag
            words.append(f"`{flag}`" if switch else f"`{flag} {shown}`")
        if preset.seconds is not None:
            words.append(f"the first {preset.seconds} s")
        suffixes = ", ".join(f"`{each}`" for each in preset.suffixes)
        cells = (f"`{name}`", preset.receiver, suffixes, ", ".join(words), preset.why)
        rows.append(f"| {' | '.join(cells)} |")
    return put(text, "presets", rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the help into docs/cli.md.")
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()
    # The same on every terminal: argparse asks for width and colours.
    os.environ.update(COLUMNS="80", NO_COLOR="1")
    os.environ.pop("FORCE_COLOR", None)
    stale = False
    for page, make in ((DOCS, render), (FORMATS, presets)):
        old = page.read_text(encoding="utf-8")
        new = make(old)
        if new == old:
            continue
        if options.check:
            text = f"{page} is not what the commands say; run {__file__}"
            print(text, file=sys.stderr)
            stale = True
        else:
            page.write_text(new, encoding="utf-8")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
