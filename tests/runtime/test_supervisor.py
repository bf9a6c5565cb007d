"""The supervisor, on a toy instead of the four services."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rapport_local.errors import LocalRuntimeError
from rapport_local.settings import CHECKOUT, LocalSettings
from rapport_local.state import State, read_state, wait_gone
from rapport_local.supervisor import Runtime
from tests.runtime.conftest import TOYS, leftovers, wait_until

pytestmark = [pytest.mark.runtime, pytest.mark.usefixtures("nothing_left")]

Toy = Callable[..., Runtime]


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
        return str(answer.read().decode())


def test_everything_that_dies_comes_back_on_its_data(toy: Toy) -> None:
    with toy("one", replicas=2) as runtime:
        assert fetch(runtime.ops_url("toy", 1) + "/readyz") == "toy-1 simulated"
        runtime.postgres.create_database("kept")
        for name in ("toy-1", "kafka", "postgres"):
            before = runtime.process(name).pid
            runtime.kill(name, signal.SIGKILL)
            assert wait_until(lambda: runtime.process(name).pid != before), name  # noqa: B023
            runtime.wait_ready(name)
        assert "kept" in runtime.postgres.databases()
        assert runtime.live("toy", 0)
        assert runtime.process("toy").restarts == 0
        assert {name for name, size in runtime.memory_mb().items() if size > 1} == {
            *("postgres", "kafka", "toy-0", "toy-1")
        }


def test_what_was_stopped_or_frozen_on_purpose_is_left_alone(toy: Toy) -> None:
    with toy("one") as runtime:
        runtime.stop_process("toy")
        assert not wait_until(lambda: runtime.process("toy").alive, seconds=1)
        runtime.start_process("toy")
        assert runtime.live("toy")
        pid = runtime.process("toy").pid
        runtime.kill("toy", signal.SIGSTOP)
        assert not wait_until(lambda: runtime.process("toy").pid != pid, seconds=2)
    # and a frozen process does not keep the rest from stopping


def test_two_run_side_by_side_each_with_its_state(toy: Toy) -> None:
    with toy("one") as one, toy("two") as two:
        assert not set(one.state().ports.values()) & set(two.state().ports.values())
        state = read_state(two.folder.state)
        assert state is not None
        assert state.processes["toy-0"][0] == two.process("toy").pid


def test_a_taken_port_starts_nothing(settings: LocalSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        runtime = Runtime("one", services=("toy",), settings=settings, ports={"toy": port})
        with pytest.raises(LocalRuntimeError, match=f"port {port} for toy is taken by process"):
            runtime.start()


def test_a_service_that_cannot_start_is_named_with_its_last_words(settings: LocalSettings) -> None:
    runtime = Runtime("one", services=("nosuch",), settings=settings, sink=False, topics=False)
    with pytest.raises(LocalRuntimeError, match=r"migration of nosuch failed.*No module named"):
        runtime.start()


@pytest.fixture
def up(settings: LocalSettings) -> Iterator[subprocess.Popen[str]]:
    """`up` in a process of its own, started and ready."""
    process = subprocess.Popen(
        [sys.executable, str(TOYS / "up.py"), "one"],
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    for line in process.stdout:
        if "Ctrl-C" in line:
            break
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def environment(settings: LocalSettings) -> dict[str, str]:
    """Return an environment in which the command line works in this test's folder."""
    return {
        **os.environ,
        "PYTHONPATH": str(CHECKOUT / "deploy" / "local"),
        "RAPPORT_LOCAL_FOLDER": str(settings.folder),
    }


def state_of(settings: LocalSettings) -> State:
    state = read_state(settings.folder / "one" / "state.json")
    assert state is not None
    return state


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_leave_nothing(
    up: subprocess.Popen[str], settings: LocalSettings, sig: signal.Signals
) -> None:
    assert len(state_of(settings).processes) == 3
    up.send_signal(sig)
    assert up.wait(90) == 0
    assert leftovers(settings.folder) == []
    assert state_of(settings).processes == {}


def test_a_killed_supervisor_leaves_nothing_and_the_next_start_is_on_the_same_ports(
    up: subprocess.Popen[str], settings: LocalSettings, toy: Toy
) -> None:
    state = state_of(settings)
    up.kill()
    assert all(wait_gone(pid, 60) for pid, _ in state.processes.values())
    with toy("one") as runtime:
        assert runtime.live("toy")
        assert runtime.state().ports == state.ports


def test_down_stops_it(up: subprocess.Popen[str], settings: LocalSettings) -> None:
    command = [sys.executable, "-m", "rapport_local", "down", "--name", "one"]
    subprocess.run(command, env=environment(settings), check=True)
    assert up.wait(30) == 0
    assert leftovers(settings.folder) == []
    again = subprocess.run(
        command, env=environment(settings), check=False, capture_output=True, text=True
    )
    assert again.returncode == 1
    assert again.stderr == "rapport: the copy 'one' is not running\n"


@pytest.mark.parametrize("delay", [0.05, 1.0, 2.5])
def test_ctrl_c_while_starting_leaves_nothing(settings: LocalSettings, delay: float) -> None:
    process = subprocess.Popen(
        [sys.executable, str(TOYS / "up.py"), "one"],
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    process.stdout.readline()  # it has begun
    wait_until(lambda: False, delay)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=90)
    assert process.returncode in (0, 130)
    assert "Traceback" not in output


def test_one_clear_line_and_a_failure_from_the_command_line(
    settings: LocalSettings, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, str(TOYS / "up.py"), "one"],
        env={
            **environment(settings),
            "RAPPORT_LOCAL_CACHE": str(tmp_path / "empty"),
            "RAPPORT_LOCAL_MAVEN_REPOSITORY": "http://127.0.0.1:9",
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("rapport: could not fetch ")
    assert done.stderr.count("\n") == 1
    assert leftovers(settings.folder) == []
