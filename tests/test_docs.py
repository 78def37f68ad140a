"""The documentation says what is true: help, links, examples, tables."""

import argparse
import difflib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from fakes import ROOT
from fakes import names as names_in
from test_documentation import checkpoint, workplace

from rematte import errors
from rematte.cli.app import build_parser
from rematte.rvm.inference import _parser as build_inference_parser
from rematte.video import codecs as formats
from rematte.weights.load import load_model

__all__ = ["checkpoint", "workplace"]  # the fixtures

FOLDERS = ("", "docs/", "demo/")
PAGES = [page for at in FOLDERS for page in sorted(ROOT.glob(f"{at}*.md"))]
README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
START, PYTHON, MIGRATE = (ROOT / "docs" / f"{name}.md" for name in
                          ("start", "python", "migrate"))  # fmt: skip
# Made by a command, and ignored by git.
IGNORED = {"web/dist"}
# Long things of the examples, and what a test can afford.
SHORTER = {
    "(1920, 1080)": "(96, 64)", "(1080, 1920, 3)": "(64, 96, 3)",
    "(720, 1280, 3)": "(64, 96, 3)", "(640, 480)": "(96, 64)", "288, 512": "64, 96",
}  # fmt: skip


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """The headings as GitHub names them in links."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def commands(text: str) -> list[list[str]]:
    """The words of every command in the bash blocks, comments left out."""
    lines = [
        shlex.split(line, comments=True)
        for language, code in blocks(text)
        if language == "bash"
        for line in code.replace("\\\n", " ").splitlines()
    ]
    return [words for words in lines if words]


def make_targets() -> list[str]:
    return re.findall(r"^([\w-]+):", read(ROOT / "Makefile"), re.M)


def test_help_in_the_documentation_is_the_real_one() -> None:
    """On a terminal of any width, in any Python."""
    script = ROOT / "tools/write_cli_docs.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "133"}
    words = [sys.executable, str(script), "--check"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_exit_codes_are_told() -> None:
    codes = re.findall(r"(\d+) \w", errors.EXIT_CODES)
    assert len(codes) == 7
    assert re.findall(r"^\| (\d+) \|", read(ROOT / "docs/cli.md"), re.M) == codes


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_in_examples_exist(page: Path) -> None:
    targets = make_targets()
    parser, inference = build_parser(), build_inference_parser()
    for words in commands(read(page)):
        if words == ["rematte", "--install-completion"]:
            assert words[1] in parser.format_help()  # parsing it installs
        elif words[0] == "rematte":
            parser.parse_args(words[1:])
        elif words[:2] == ["python", "inference.py"]:
            inference.parse_args(words[2:])
        elif words[0] == "make":
            assert words[1] in targets


def test_workflows_and_ci_call_targets_that_exist() -> None:
    files = [*(ROOT / ".github/workflows").glob("*.yml"), ROOT / ".ci/run"]
    for file in files:
        called = re.findall(r"^(?: *- run: )?make ([\w-]+)$", read(file), re.M)
        assert called or file.stem == "release", file
        assert set(called) <= set(make_targets()), file


def test_the_quick_start_shows_every_command() -> None:
    shown = {words[1] for words in commands(read(START)) if words[0] == "rematte"}
    parser = build_parser()
    [action] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    assert shown == set(action.choices)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch.hub on trust
@pytest.mark.parametrize(
    ("page", "made"),
    [
        (README, {"cutout.mov"}),
        (PYTHON, {"cutout.mov", "cutout.webm"}),
        (MIGRATE, {"com.mp4", "pha.mp4", "fgr.mp4"}),
    ],
    ids=lambda value: page_name(value) if isinstance(value, Path) else "",
)
def test_examples_run(workplace: Path, page: Path, made: set[str]) -> None:
    names: dict[str, object] = {"model": load_model()}
    examples = [code for language, code in blocks(read(page)) if language == "python"]
    assert examples
    for code in examples:
        for long, short in SHORTER.items():
            code = code.replace(long, short)
        code = code.replace('hub.load("."', f"hub.load({str(ROOT)!r}")
        exec(compile(code, page.name, "exec"), names)
    assert names_in(workplace) == {"input.mp4", "rvm_mobilenetv3.pth", *made}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_imports_of_examples_are_what_they_seem(page: Path) -> None:
    """A name that an example calls is no module of the same name."""
    for language, code in blocks(read(page)):
        for line in re.findall(r"^from rematte\S* import .*$", code, re.M):
            names: dict[str, object] = {}
            if language == "python":
                exec(line, names)
            assert not any(isinstance(each, ModuleType) for each in names.values())


def test_examples_are_shortened_where_meant() -> None:
    text = read(PYTHON) + read(MIGRATE) + read(README)
    assert all(long in text for long in SHORTER)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(read(page)):
        if re.match(r"[a-z]+:", link):
            continue  # tests fetch nothing
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(read(target)), link


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_files_named_in_code_exist(page: Path) -> None:
    """The site cannot link outside of docs/, so pages name files instead."""
    folders = (
        "benchmarks|docs|examples|findings|integrations|recipes|rematte|scripts|src|"
        "tests|tools|web"
    )
    if page.name != "CHANGELOG.md":  # it tells of files that are gone
        for name in re.findall(rf"`((?:{folders})/[^`\s]*)`", read(page)):
            assert list(ROOT.glob(name)) or name in IGNORED, name


def test_modules_named_in_the_design_exist() -> None:
    """They are named within the package, so without its folder."""
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", read(ROOT / "docs/design.md"))
    assert named
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "rematte" / name).exists(), name


# The Chinese README


def test_the_chinese_readme_has_the_same_code() -> None:
    """Comments apart, which are translated."""

    def bare(page: Path) -> list[str]:
        return [
            f"{language}: {re.sub(r' *#.*$', '', line)}".rstrip()
            for language, code in blocks(read(page))
            for line in code.splitlines()
        ]

    left, right = bare(README), bare(CHINESE)
    assert left == right, "\n".join(difflib.unified_diff(left, right, lineterm=""))


def test_the_chinese_readme_has_the_same_links_tables_and_parts() -> None:
    english, chinese = read(README), read(CHINESE)
    swap = {CHINESE.name: README.name}
    assert [swap.get(link, link) for link in links(english)] == [
        swap.get(link, link) for link in links(chinese)
    ]
    for pattern in (r"^(#+) ", r"^\|.*?([\d.]+) \|$", r"^(-) "):
        assert re.findall(pattern, prose(english), re.M) == re.findall(
            pattern, prose(chinese), re.M
        ), pattern


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """Cells of the table whose heading begins so, by the first cell."""
    table = text[text.index(f"| {heading} |") :].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in
             table.splitlines()[2:]]  # fmt: skip
    return {first: rest for first, *rest in cells}


def test_table_of_containers() -> None:
    told = rows(read(ROOT / "docs/formats.md"), "suffix | codecs")
    assert list(told) == [f"`{suffix}`" for suffix in formats.CONTAINERS]
    for suffix, names in formats.CONTAINERS.items():
        codecs, alpha = told[f"`{suffix}`"][:2]
        assert codecs == ", ".join(names)
        able = [name for name in names if formats.CODECS[name].alpha]
        if len(names) > 1:
            assert alpha == (", ".join(able) or "no")
        else:
            assert (alpha != "no") == bool(able)


def test_table_of_codecs() -> None:
    told = rows(read(ROOT / "docs/formats.md"), "codec | encoder")
    assert list(told) == list(formats.CODECS)
    for name, codec in formats.CODECS.items():
        encoder, bits, clear, quality, by = told[name]
        assert encoder.split(",")[0] == codec.encoder
        if name != "prores":  # it has 10 bits, whatever it is given
            assert bits == ", ".join(map(str, codec.opaque))
            assert clear == ", ".join(map(str, codec.alpha))
        alpha_crf = codec.alpha_crf
        with_alpha = "" if alpha_crf is None else f", transparent CRF {alpha_crf}"
        assert (quality == f"CRF {codec.crf}{with_alpha}") == (codec.crf is not None)
        assert ("--crf" in by) == (codec.crf is not None)


def test_table_of_images() -> None:
    told = rows(read(ROOT / "docs/formats.md"), "suffix | alpha")
    suffixes = [name.strip("`") for cell in told for name in cell.split(", ")]
    assert set(suffixes) == set(formats.IMAGES)
    for cell, (alpha, _, _) in told.items():
        codec = formats.IMAGES[cell.split(",")[0].strip("`")]
        assert (alpha == "yes") == bool(codec.alpha)
