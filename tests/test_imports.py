"""The directions in which modules may import one another, and how large they are."""

import ast
import inspect
import re
from functools import cache
from pathlib import Path

import pytest
from conftest import make_clip
from fakes import colours, python

import rematte

PACKAGE = Path(rematte.__file__).parent

# Each part may import, of this package, itself and these. The flow goes from the
# command line down. Everything may import errors and version, and nothing imports the
# modules that are only old public names.
LOWER = """
__init__: conversion conversion/option_types convert engines matter matting network
    options video weights
__main__: cli
errors:
version:
prefetch:
workers/pool: prefetch
video:
network:
weights: network
engines/kernels: video
engines/device:
matting/region: video
matting/matte: engines/kernels matting/region video
engines: engines/device engines/kernels matting/matte network video weights
matting: engines prefetch video
conversion/option_types: video
conversion/presets: video
options: conversion/option_types conversion/presets video
conversion: engines matting options prefetch video weights
matter: conversion engines matting options prefetch video
convert: conversion engines matter matting options video
resume: conversion convert engines matting options video workers/pool
workers: conversion convert engines options prefetch resume video workers/pool
live: conversion matter matting options video
serve: conversion convert engines inspect matter matting options video workers
evaluate: engines matting video
inspect: conversion engines matting options video
train: engines network video weights
export: engines network video weights
bench: convert engines matting network prefetch video weights
cli: bench conversion convert engines evaluate export inspect live matting network
    options prefetch resume serve train video weights workers
pyinstaller:
rvm: convert engines network video weights
segments: engines resume
streams: matter
onnx: export
tensorflow: export
"""
ALLOWED = {
    part: {*names.split()}
    for part, names in re.findall(r"^(\S+):(.*(?:\n +.*)*)", LOWER, re.M)
}


def part_of(module: str | Path) -> str:
    """The folder or file of the package that a module, or its file, belongs to."""
    if isinstance(module, Path):
        module = ".".join(module.relative_to(PACKAGE).with_suffix("").parts)
    names = module.removeprefix("rematte.").split(".")
    first = "/".join(names[:2])
    return first if first in ALLOWED else names[0]


def names_in(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if node.module == "rematte":
        return {f"rematte.{alias.name}" for alias in node.names}
    return {node.module or ""}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= names_in(node)
    return names


def test_every_module_imports_only_what_lies_below_it() -> None:
    for path in PACKAGE.rglob("*.py"):
        part = part_of(path)
        own = {part_of(name) for name in imports(path) if name.startswith("rematte.")}
        allowed = ALLOWED[part] | {part, "errors", "version"}
        # Who may import a folder may import every part of it.
        assert all({name, name.split("/")[0]} & allowed for name in own), path


def test_video_knows_no_torch_and_the_network_no_files() -> None:
    for path in (PACKAGE / "video").glob("*.py"):
        assert not any(name.startswith("torch") for name in imports(path)), path
    forbidden = {"pathlib", "os", "argparse", "av", "urllib", "safetensors"}
    for path in (PACKAGE / "network").glob("*.py"):
        assert not imports(path) & forbidden, path


def test_torch_is_imported_where_it_runs_and_nowhere_else() -> None:
    """It is an extra: a conversion on a CPU does without it."""
    within = {
        part_of(path)
        for path in PACKAGE.rglob("*.py")
        if any(
            isinstance(node, ast.Import | ast.ImportFrom)
            and any(name.split(".")[0] == "torch" for name in names_in(node))
            for node in parsed(path).body
        )
    }
    leaves = {"bench", "evaluate", "export", "rvm", "train"}
    assert within == {"engines", "engines/kernels", "network", "weights"} | leaves


def test_a_conversion_needs_no_torch(tmp_path: Path) -> None:
    make_clip(tmp_path / "in.mp4", colours(4, (64, 48)))
    code = f"""
import sys
sys.modules["torch"] = None  # importing it raises, as where it is not installed
from rematte.cli import main
from rematte.segments import convert_long
folder = {str(tmp_path)!r}
outputs = ["-o", f"{{folder}}/out.mov", "--composition", f"{{folder}}/over.mp4"]
for more in [], ["--workers", "2", "--segment", "2", "--background", "blur"]:
    assert main(["convert", f"{{folder}}/in.mp4", *outputs, "-y", *more]) == 0
assert main(["doctor"]) == 0
assert main(["export", "x.onnx"]) == 1
"""
    assert "pip install 'rematte[torch]'" in python(code).stderr


@pytest.mark.parametrize("words", ["key none.mp4", "train none.toml"])
def test_torch_comes_after_numpy(words: str) -> None:
    """If torch imports NumPy itself, a Ctrl-C within is lost, and so is NumPy."""
    code = f"""
import sys
class Finder:
    def find_spec(self, name, *more):
        assert name != "torch" or "numpy" in sys.modules, "torch comes first"
sys.meta_path.insert(0, Finder())
from rematte.cli import main
assert main({words.split()!r}) in (2, 3)
assert "torch" in sys.modules
"""
    python(code)


def test_runtimes_are_imported_in_one_place() -> None:
    """That place switches off what they would send."""
    for runtime in ("openvino", "onnxruntime", "ray"):
        within = [p.name for p in PACKAGE.rglob("*.py") if runtime in imports(p)]
        assert within == ["runtimes.py"], f"call runtimes.import_{runtime} instead"


def test_openvino_comes_without_its_telemetry() -> None:
    """It would send usage data that nobody asked for, from a process of its own."""
    code = (
        "import sys, threading\n"
        "from rematte.engines.runtimes import import_openvino\n"
        "core = import_openvino().Core()\n"
        "assert 'openvino_telemetry' not in sys.modules, 'it was imported'\n"
        "assert threading.active_count() == 1, 'a thread sends'\n"
        "import openvino_telemetry  # hidden for no longer than it took"
    )
    python(code)


def test_help_and_errors_need_the_standard_library_alone() -> None:
    """They come in a fraction of a second: torch alone takes more than one."""
    code = """
import sys
before = set(sys.modules)
from rematte.cli.app import COMMANDS, main
names = [module.__name__.rpartition(".")[2] for module in COMMANDS]
for name in names:
    main([name.replace("_", "-"), "--help"])
for words in ["--help"], ["--version"], ["nonsense"]:
    main(words)
main(["convert", "in.mp4", "--resize", "10"])
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
assert loaded - sys.stdlib_module_names == {"rematte"}, loaded
"""
    python(code)


def test_public_names_exist() -> None:
    for name in rematte.__all__:
        assert hasattr(rematte, name)


def test_what_public_signatures_name_is_public() -> None:
    for public in (
        *(rematte.Matter, rematte.Stream, rematte.Streams, rematte.convert_video),
        *(rematte.load_model, rematte.matte),
    ):
        top = parsed(Path(inspect.getsourcefile(public) or ""))
        ours = {
            alias.name
            for node in ast.walk(top)
            if isinstance(node, ast.ImportFrom)
            and (node.module or "").startswith("rematte")
            for alias in node.names
        }
        (tree,) = (
            node
            for node in top.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef)
            and node.name == public.__name__
        )
        named = {name for each in functions(tree) for name in annotations(each)}
        assert named & ours <= set(rematte.__all__), public


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    """The public functions of a class, or the function itself."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    shown = ("__init__", "__call__")
    return [each for each in found if each.name in shown or each.name[0] != "_"]


def annotations(function: ast.FunctionDef) -> set[str]:
    """The names in the types of a function's arguments and result."""
    given = function.args
    every = (*given.args, *given.kwonlyargs, given.kwarg)
    types = [each.annotation for each in every if each]
    words = (ast.unparse(each) for each in (*types, function.returns) if each)
    return {name for word in words for name in re.findall(r"\w+", word)}


# Limits of size that keep the package readable.
FILE, FUNCTION, PARAMETERS, ROOT = 500, 60, 12, 12
Function = ast.FunctionDef | ast.AsyncFunctionDef


def all_functions() -> list[tuple[Path, Function]]:
    return [
        (path.relative_to(PACKAGE), node)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(parsed(path))
        if isinstance(node, Function)
    ]


def body_lines(function: Function) -> int:
    """Lines of a function without its signature and docstring."""
    first = function.body[0]
    described = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    rest = function.body[1:] if described else function.body
    return (rest[-1].end_lineno or 0) - rest[0].lineno + 1 if rest else 0


def parameters(function: Function) -> int:
    given = function.args
    every = (*given.posonlyargs, *given.args, *given.kwonlyargs)
    return sum(each.arg not in ("self", "cls") for each in every)


def test_no_file_is_too_long() -> None:
    tests = Path(__file__).parent
    for path in (*PACKAGE.rglob("*.py"), *tests.glob("*.py"), *tests.glob("*/*.py")):
        assert len(path.read_text("utf-8").splitlines()) <= FILE, path


def test_no_function_and_no_signature_is_too_long() -> None:
    for path, node in all_functions():
        assert body_lines(node) <= FUNCTION, (path, node.name)
        if node.name != "convert_video":  # documented with all of its arguments
            assert parameters(node) <= PARAMETERS, (path, node.name)


def test_the_root_has_few_files() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= ROOT
