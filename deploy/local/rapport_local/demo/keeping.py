"""A copy that stays when the demo has ended: it has a supervisor of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping

from rapport_local.errors import LocalRuntimeError, log_tail
from rapport_local.folder import CopyFolder
from rapport_local.plan import answers
from rapport_local.settings import LocalSettings
from rapport_local.shape import SERVICES
from rapport_local.state import State, read_state, start_time

START_SECONDS = 300.0
STOP_SECONDS = 90.0
POLL_SECONDS = 0.2


def running_state(name: str) -> State:
    """Return the state of a running copy; raise when there is none."""
    state = read_state(CopyFolder(LocalSettings().folder, name).state)
    if state is None or not state.supervisor or not start_time(state.supervisor):
        raise LocalRuntimeError(f"the copy '{name}' is not running")
    return state


def start_detached(name: str, replicas: int, ports: Mapping[str, int]) -> State:
    """Start `up` as a process of its own and wait until every service is ready."""
    folder = CopyFolder(LocalSettings().folder, name)
    folder.path.mkdir(parents=True, exist_ok=True)
    log = folder.path / "up.log"
    command = [sys.executable, "-m", "rapport_local", "up", "--name", name]
    command += ["--clock", "simulated", "--replicas", str(replicas)]
    command += [part for port, number in ports.items() for part in ("--port", f"{port}={number}")]
    with log.open("wb") as output:
        supervisor = subprocess.Popen(  # noqa: S603 - the command is ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return _wait_ready(supervisor, name)
    except LocalRuntimeError as error:
        _stop(supervisor)
        raise LocalRuntimeError(f"{error}: {log_tail(log)}") from error
    except BaseException:
        _stop(supervisor)
        raise


def _wait_ready(supervisor: subprocess.Popen[bytes], name: str) -> State:
    deadline = time.monotonic() + START_SECONDS
    path = CopyFolder(LocalSettings().folder, name).state
    while time.monotonic() < deadline:
        if supervisor.poll() is not None:
            raise LocalRuntimeError(f"the copy '{name}' did not start")
        state = read_state(path)
        if state and state.supervisor == supervisor.pid and _all_ready(state):
            return state
        time.sleep(POLL_SECONDS)
    raise LocalRuntimeError(f"the copy '{name}' was not ready within {START_SECONDS:.0f} s")


def _all_ready(state: State) -> bool:
    return all(answers(f"{state.urls[f'{service}-ops']}/readyz") for service in SERVICES)


def _stop(supervisor: subprocess.Popen[bytes]) -> None:
    supervisor.terminate()
    try:
        supervisor.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        supervisor.kill()
