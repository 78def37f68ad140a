"""What command lines mean: the values they set, or the line that refuses them.

words.txt holds a command line and what it means, in turn. The first line of each
command has all its values, the next ones have those that differ. Options that are not
in it have their own defaults.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from fakes import flag_defaults

from rematte.cli.app import build_parser, main

LINES = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").splitlines()
MEANINGS = [
    (shlex.split(words)[1:], meaning.strip())
    for words, meaning in zip(LINES[::2], LINES[1::2], strict=True)
]
WRONG = [(words, text[2:]) for words, text in MEANINGS if text.startswith("! ")]
RIGHT = [
    (words, json.loads(text)) for words, text in MEANINGS if not text.startswith("! ")
]
DEFAULTS: dict[str, dict[str, Any]] = {}
for _, values in RIGHT:
    if "command" in values:
        DEFAULTS[values["command"]] = values
LATER = flag_defaults(except_for=DEFAULTS["convert"])


def normal(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [normal(each) for each in value]
    return str(value) if isinstance(value, Path) else value


@pytest.mark.parametrize(("words", "values"), RIGHT)
def test_words_set_these_values(words: list[str], values: dict[str, Any]) -> None:
    found = vars(build_parser().parse_args(words))
    assert callable(found.pop("run"))
    found = {name: normal(value) for name, value in found.items()}
    later = LATER if "edge_colour" in DEFAULTS[found["command"]] else {}
    assert found == {**later, **DEFAULTS[found["command"]], **values}


@pytest.mark.parametrize(("words", "line"), WRONG)
def test_wrong_words_exit_2_with_this_line(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    program = re.match("rematte(?: [a-z-]+)*(?=:)", err)
    assert err.endswith(f"; see {program[0]} --help\n")
    assert err.count("\n") == 1
