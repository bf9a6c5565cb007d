"""Marks tests by what they stand on, so that `make test-unit` and its sisters choose rightly."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
BY_FOLDER = {
    "tests/flows": "flow",
    "tests/runtime": "runtime",
    "tests/demo": "demo",
    "tests/faults": "demo",
}
ON_POSTGRES = {"dsn", "tx", "database", "postgres", "connection", "infra"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test of a folder its marker, and `service` to those that use a Postgres."""
    for item in items:
        folder = Path(item.path).relative_to(ROOT).as_posix()
        for prefix, marker in BY_FOLDER.items():
            if folder.startswith(prefix):
                item.add_marker(marker)
        fixtures = set(getattr(item, "fixturenames", ()))
        if folder.startswith("services/") and fixtures & ON_POSTGRES:
            item.add_marker("service")
