"""Copies of the runtime in folders of their own, and a look at what they leave."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rapport_local.settings import LocalSettings
from rapport_local.supervisor import Runtime

TOYS = Path(__file__).parent / "toys"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSettings]:
    """Settings whose copies, and their data as root, are below a folder of this test."""
    # As root the data are in the temporary folder, through which Postgres' user must get.
    base = Path(tempfile.mkdtemp(prefix="rapport-tests-"))
    base.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(base))
    monkeypatch.setenv("TMPDIR", str(base))
    yield LocalSettings(folder=tmp_path / ".rapport")
    shutil.rmtree(base)


@pytest.fixture
def toy(settings: LocalSettings) -> Iterator[Callable[..., Runtime]]:
    """Make runtimes that run the toy service; those still running at the end are stopped."""
    made: list[Runtime] = []

    def make(name: str, replicas: int = 1) -> Runtime:
        runtime = Runtime(
            name,
            replicas=replicas,
            services=("toy",),
            settings=settings,
            sink=False,
            topics=False,
            extra_env={"PYTHONPATH": str(TOYS)},
            clock="simulated",
        )
        made.append(runtime)
        return runtime

    yield make
    for runtime in made:
        runtime.stop()
        runtime.remove()


@pytest.fixture
def nothing_left(settings: LocalSettings) -> Iterator[None]:
    """Fail when a process that knows this test's folders outlives the test."""
    yield
    assert wait_until(lambda: not leftovers(settings.folder)), leftovers(settings.folder)


def leftovers(folder: Path) -> list[str]:
    """Return the command lines of processes that work in the data of the copies below a folder."""
    data = [str(link.resolve()) for link in folder.glob("*/data")] + [str(folder)]
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join([*process.cmdline(), process.cwd()])
        except psutil.Error:
            continue
        if any(path in line for path in data) and process.pid != psutil.Process().pid:
            found.append(line)
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Poll with a deadline; tell whether the condition came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
