"""The state file of a copy: what runs where, for other commands and for the next start."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

LEFTOVER_SECONDS = 20


@dataclass(frozen=True)
class State:
    """One copy at one moment; every value is plain JSON."""

    name: str
    supervisor: int
    clock: str
    kafka: str
    ports: Mapping[str, int]
    databases: Mapping[str, str]
    """Service to DSN."""
    urls: Mapping[str, str]
    """Name of a port that speaks HTTP to its address."""
    logs: str
    processes: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    """Process name to its id and start time; both, since an id comes back."""

    def write(self, path: Path) -> None:
        """Replace the file in one step."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=2) + "\n")
        part.replace(path)


def read_state(path: Path) -> State | None:
    """Return what the file says, or None when there is none or it is damaged."""
    try:
        return State(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def start_time(pid: int) -> float:
    """Return when a process started, 0 when it is gone or only waits to be reaped."""
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return 0.0


def end_leftovers(state: State) -> None:
    """End what a killed supervisor may have left; on Linux its processes end by themselves."""
    left = []
    for pid, started in state.processes.values():
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if abs(process.create_time() - started) < 1:
                left.append(process)
    # Postgres ends its own children, so wait before using force.
    _, stubborn = psutil.wait_procs(left, timeout=3)
    for process in stubborn:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=LEFTOVER_SECONDS)


def wait_gone(pid: int, seconds: float) -> bool:
    """Wait until a process is gone; tell whether it is."""
    deadline = time.monotonic() + seconds
    while start_time(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
