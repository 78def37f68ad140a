"""Limits of size that keep the package readable."""

import ast
from functools import cache
from pathlib import Path

import rematte

PACKAGE = Path(rematte.__file__).parent
FILE, FUNCTION, PARAMETERS, ROOT = 500, 60, 12, 12
# Documented with all of its arguments.
LONG_SIGNATURES = {"convert_video"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def functions() -> list[tuple[Path, Function]]:
    return [
        (path.relative_to(PACKAGE), node)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, Function)
    ]


def body_lines(function: Function) -> int:
    """Lines of a function without its signature and docstring."""
    first = function.body[0]
    described = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    rest = function.body[1:] if described else function.body
    return (rest[-1].end_lineno or 0) - rest[0].lineno + 1 if rest else 0


def test_no_file_is_too_long() -> None:
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text("utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n > FILE} == {}


def test_no_function_is_too_long() -> None:
    lengths = {f"{path}:{node.name}": body_lines(node) for path, node in functions()}
    assert {name: n for name, n in lengths.items() if n > FUNCTION} == {}


def test_no_signature_is_too_long() -> None:
    counts = {
        f"{path}:{node.name}": sum(
            arg.arg not in ("self", "cls")
            for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        )
        for path, node in functions()
        if node.name not in LONG_SIGNATURES
    }
    assert {name: n for name, n in counts.items() if n > PARAMETERS} == {}


def test_the_root_has_few_files() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= ROOT
