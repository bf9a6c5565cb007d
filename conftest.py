"""Marks tests by what they stand on, so that `make test-unit` and its sisters choose rightly.

No test finds the logs as an earlier one set them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from rapport.testing import ports as container_ports
from rapport_local import ports as local_ports

pytest_plugins = ["rapport_local.pytest_postgres"]
ROOT = Path(__file__).parent
BY_FOLDER = {
    "tests/flows": "flow",
    "tests/runtime": "runtime",
    "tests/demo": "demo",
    "tests/faults": "demo",
}
WORKERS = 4
"""As many may run side by side; `make test` has two."""


def pytest_configure(config: pytest.Config) -> None:
    """Let workers that run side by side choose their ports from ranges of their own."""
    worker = getattr(config, "workerinput", {}).get("workerid", "gw0").removeprefix("gw")
    number = int(worker) % WORKERS
    local_ports.CHOICE = _share(local_ports.CHOICE, number)
    container_ports.CHOICE = _share(container_ports.CHOICE, number)


def _share(ports: range, number: int) -> range:
    size = len(ports) // WORKERS
    return range(ports.start + number * size, ports.start + (number + 1) * size)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test of a folder its marker."""
    for item in items:
        folder = Path(item.path).relative_to(ROOT).as_posix()
        for prefix, marker in BY_FOLDER.items():
            if folder.startswith(prefix):
                item.add_marker(marker)


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """End with the test what a command line in it set for logs: a stream that is closed then."""
    yield
    structlog.reset_defaults()
