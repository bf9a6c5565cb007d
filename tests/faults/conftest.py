"""Copies of the suite that live through the demo while their processes are killed and frozen."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rapport_local.settings import LocalSettings
from rapport_local.supervisor import Runtime

StartCopy = Callable[..., Runtime]


@pytest.fixture
def start_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartCopy]:
    """Start a copy with a number of replicas; it ends with the test, its logs stay for a while."""
    # As root the data are in the temporary folder, through which Postgres' user must get.
    base = Path(tempfile.mkdtemp(prefix="rapport-faults-"))
    base.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    monkeypatch.setenv("TMPDIR", str(base))
    started: list[Runtime] = []

    def start(replicas: int = 1) -> Runtime:
        runtime = Runtime(
            "faults",
            clock="simulated",
            replicas=replicas,
            settings=LocalSettings(folder=tmp_path / ".rapport"),
            tell=print,
        )
        started.append(runtime)
        return runtime.start()

    try:
        yield start
    finally:
        for runtime in started:
            runtime.stop()
        shutil.rmtree(base, ignore_errors=True)
