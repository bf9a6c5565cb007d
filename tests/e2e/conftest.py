"""Tests on containers: marked `containers`, skipped in one line where no Docker engine answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from testcontainers.core.config import testcontainers_config

from rapport.testing.suite import Suite

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "deploy" / "images" / "build"
LOGS = ROOT / ".rapport" / "e2e"
REPLICAS = 2
NO_ENGINE = "NO DOCKER ENGINE ANSWERS: nothing is tested in containers (deploy/images/engine start)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test of this folder its marker."""
    for item in items:
        if Path(item.path).is_relative_to(HERE):
            item.add_marker("containers")


def pytest_runtest_setup() -> None:
    """Ask for a Docker engine; on CI there has to be one."""
    if _answers():
        return
    if os.environ.get("CI") == "true":
        pytest.fail(NO_ENGINE, pytrace=False)
    pytest.skip(NO_ENGINE)  # from here, not from a fixture: so all skips are one line


@pytest.fixture(scope="session")
def images() -> None:
    """Build every image from this checkout; layers are reused."""
    done = subprocess.run([BUILD], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session", autouse=True)
def _without_ryuk(images: None) -> None:
    """Start no container that removes others: fixtures do that, and its image is another one."""
    del images
    testcontainers_config.ryuk_disabled = True


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest) -> Iterator[Suite]:
    """All of Rapport, two of each service; its logs are kept when a test of the module fails."""
    failed_before = request.session.testsfailed
    with Suite(replicas=REPLICAS) as running:
        yield running
        if request.session.testsfailed > failed_before:
            folder = LOGS / request.path.stem
            running.write_logs(folder)
            print(f"logs of all containers: {folder.relative_to(ROOT)}")  # noqa: T201  for people


@cache
def _answers() -> bool:
    try:
        return subprocess.run(["docker", "info"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
