"""The rules of the house that no linter knows; each function returns complaints, one line each.

`python tests/architecture/rules.py` prints the complaints about sizes; `make check` runs it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("shared/src", "services", "deploy/local", "benchmarks", "examples")
FILE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 5

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    """Return our Python files outside tests."""
    found = [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if "tests" not in path.relative_to(ROOT).parts]


def read(path: Path) -> ast.Module:
    """Parse a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path, node: Function | ast.expr) -> str:
    """Return where something is, so that an editor can jump there."""
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def size_complaints(path: Path, tree: ast.Module) -> Iterator[str]:
    """Complain about a file or function past the hard stops of style.md."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if lines > FILE_LINES:
        yield f"{path.relative_to(ROOT)}: {lines} lines, the stop is {FILE_LINES}; split it by noun"
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield from function_complaints(path, node)


def function_complaints(path: Path, node: Function) -> Iterator[str]:
    """Complain about one function's length and parameters."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > FUNCTION_LINES:
        yield f"{place(path, node)}: {node.name} has {lines} lines, the stop is {FUNCTION_LINES}"
    names = [a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
    count = len([name for name in names if name not in ("self", "cls")])
    if count > PARAMETERS:
        yield f"{place(path, node)}: {node.name} has {count} parameters, the stop is {PARAMETERS}"


def environment_complaints(path: Path, tree: ast.Module) -> Iterator[str]:
    """Complain about a look at the environment outside a `settings.py`."""
    if path.name == "settings.py":
        return
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
            and node.attr in ("environ", "getenv", "putenv")
        ):
            yield f"{place(path, node)}: os.{node.attr} belongs in settings.py"


def undocumented_targets(makefile: str) -> Iterator[str]:
    """Complain about a target that `make help` does not list."""
    for target in re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE):
        for name in target.split():
            if not re.search(rf"^{name}:.*## \S", makefile, re.MULTILINE):
                yield f"Makefile: {name} has no ## comment"
    for line in re.findall(r"^[a-z][a-z-]*:(?!=).*$", makefile, re.MULTILINE):
        if "##" not in line:
            yield f"Makefile: {line.split(':')[0]} has no ## comment"


def main() -> int:
    """Print the complaints about sizes."""
    complaints = [text for path in sources() for text in size_complaints(path, read(path))]
    for text in complaints:
        print(text)  # noqa: T201 - the result of a command
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
