"""One scaled run, kept running, that all tests of the demo look at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rapport_local.state import read_state, wait_gone
from tests.demo.kept import NAME, ROOT, Kept

STOP_SECONDS = 120


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Run the demo once with `--keep`, and stop the copy at the end."""
    # As root the data are in the temporary folder, through which Postgres' user must get.
    base = Path(tempfile.mkdtemp(prefix="rapport-demo-"))
    base.chmod(0o711)
    folder = tmp_path_factory.mktemp("demo") / ".rapport"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "deploy" / "local"),
        "RAPPORT_LOCAL_FOLDER": str(folder),
        "TMPDIR": str(base),
    }
    copy = Kept(folder, environment, "", {})
    report = folder.parent / "report.json"
    try:
        done = copy.demo("--keep", "--name", NAME, "--json", str(report))
        assert done.returncode == 0, done.stdout[-5000:]
        copy.output, copy.report = done.stdout, json.loads(report.read_text())
        yield copy
    finally:
        state = read_state(folder / NAME / "state.json")
        if state and state.supervisor:
            os.kill(state.supervisor, signal.SIGTERM)
            wait_gone(state.supervisor, STOP_SECONDS)
        shutil.rmtree(base, ignore_errors=True)
