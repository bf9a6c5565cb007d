"""The rules of the house hold."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic_settings import BaseSettings

from tests.architecture.rules import (
    ROOT,
    environment_complaints,
    read,
    size_complaints,
    sources,
    undocumented_targets,
)

SETTINGS = [
    "rapport.settings",
    "rapport.telemetry_settings",
    *(f"{name}.settings" for name in ("contacts", "loyalty", "notifications", "analytics")),
    "rapport_local.settings",
]


def test_no_source_is_past_a_stop_or_reads_the_environment() -> None:
    complaints = []
    for path in sources():
        tree = read(path)
        complaints += [*size_complaints(path, tree), *environment_complaints(path, tree)]
    assert not complaints, "\n".join(complaints)


def test_the_rules_notice() -> None:
    long = (
        "def f(a, b, c, d, e, *, g):\n"
        + "    pass\n" * 60
        + "\n" * 350
        + "import os; os.getenv('x')"
    )
    tree, path = ast.parse(long), ROOT / "shared" / "x.py"
    path_text = "\n".join([*_complaints_about(long, tree, path)])
    assert "61 lines" in path_text
    assert "6 parameters" in path_text
    assert "os.getenv" in path_text
    assert "412 lines" in path_text


def _complaints_about(text: str, tree: ast.Module, path: Path) -> Iterator[str]:
    class Written(type(path)):  # type: ignore[misc] # a path that exists only here
        def read_text(self, *_: object, **__: object) -> str:
            return text

    written = Written(path)
    yield from size_complaints(written, tree)
    yield from environment_complaints(written, tree)


def test_every_make_target_is_documented() -> None:
    assert not list(undocumented_targets((ROOT / "Makefile").read_text()))
    assert list(undocumented_targets(".PHONY: a\na: b\n\tdo\n")) == [
        "Makefile: a has no ## comment",
        "Makefile: a has no ## comment",
    ]


def variables() -> set[str]:
    """Return the environment variables that the settings classes read."""
    found = set()
    for name in SETTINGS:
        module = importlib.import_module(name)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseSettings) and value.model_fields:
                prefix = value.model_config.get("env_prefix", "")
                found |= {f"{prefix}{field}".upper() for field in value.model_fields}
    return found


def test_the_example_environment_matches_the_settings() -> None:
    """`.env.example` names exactly the variables of the classes, those with defaults commented."""
    text = (ROOT / ".env.example").read_text()
    named = re.findall(r"^#? ?([A-Z_]+)=", text, re.MULTILINE)
    assert sorted(named) == sorted(variables())
