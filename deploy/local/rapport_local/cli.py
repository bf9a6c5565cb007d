"""The command line of the embedded runtime; `make` calls it."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from rapport_local.errors import LocalRuntimeError, disk_errors
from rapport_local.folder import CopyFolder
from rapport_local.plan import Plan
from rapport_local.settings import LocalSettings
from rapport_local.state import State, read_state, wait_gone
from rapport_local.supervisor import DEFAULT_NAME, Runtime

STOP_SECONDS = 90
LOG_LINES = "15"
INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Run one command; what the user can mend is one line on standard error and exit code 1."""
    # Ctrl-C and SIGTERM look the same to the code, and a second one does not disturb the stopping.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        with disk_errors(LocalSettings().folder):
            return _run(list(arguments))
    except LocalRuntimeError as error:
        print(f"rapport: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["demo"]:
        demo = importlib.import_module("rapport_local.demo.main")  # not needed by other commands
        return int(demo.run(arguments[1:]))
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    return command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rapport_local", description=__doc__)
    commands = parser.add_subparsers(required=True)
    up = _command(commands, "up", _up, "start a copy and keep it running until Ctrl-C")
    up.add_argument("--clock", choices=("real", "simulated"), default="real")
    up.add_argument("--replicas", type=int, default=1, help="processes of each service")
    up.add_argument("--port", action="append", default=[], metavar="NAME=NUMBER")
    _command(commands, "down", _down, "stop a running copy")
    _command(commands, "status", _status, "say what runs where")
    _command(commands, "migrate", _migrate, "bring the databases of a running copy up to date")
    logs = _command(commands, "logs", _logs, "show the end of the logs")
    logs.add_argument("process", nargs="*", help="names of processes; all of them by default")
    logs.add_argument("--follow", action="store_true")
    clean = commands.add_parser("clean", help="delete the data of every stopped copy")
    clean.set_defaults(command=_clean)
    commands.add_parser("demo", help="run the demo; it has options of its own")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    command: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text)
    parser.add_argument("--name", default=DEFAULT_NAME, help="which copy; several run side by side")
    parser.set_defaults(command=command)
    return parser


def _up(options: argparse.Namespace) -> int:
    runtime = Runtime(
        options.name,
        clock=options.clock,
        replicas=options.replicas,
        ports=_ports(options.port),
        tell=_say,
    )
    with runtime:
        with suppress(KeyboardInterrupt):
            _print_state(runtime.state())
            _say("Ctrl-C or `make down` stops everything")
            threading.Event().wait()
        _say("stopping")
    return 0


def _say(line: str) -> None:
    print(f"rapport: {line}", flush=True)


def _ports(items: Sequence[str]) -> dict[str, int]:
    ports = {}
    for item in items:
        name, _, number = item.partition("=")
        if not number.isdecimal():
            raise LocalRuntimeError(f"--port wants NAME=NUMBER, not {item}")
        ports[name] = int(number)
    return ports


def _print_state(state: State) -> None:
    print(f"\n  copy        {state.name}, clock {state.clock}")
    for service, dsn in state.databases.items():
        print(f"  {service:<14}{state.urls[service]}   ops {state.urls[service + '-ops']}   {dsn}")
    print(f"  {'kafka':<14}{state.kafka}")
    print(f"  {'mail sink':<14}{state.urls['sink']}   smtp 127.0.0.1:{state.ports['smtp']}")
    print(f"  {'logs':<14}{state.logs}\n", flush=True)


def _running(name: str) -> State:
    state = read_state(CopyFolder(LocalSettings().folder, name).state)
    if state is None or not state.supervisor or wait_gone(state.supervisor, 0):
        raise LocalRuntimeError(f"the copy '{name}' is not running")
    return state


def _down(options: argparse.Namespace) -> int:
    state = _running(options.name)
    signal_supervisor(state, signal.SIGTERM)
    if not wait_gone(state.supervisor, STOP_SECONDS):
        signal_supervisor(state, signal.SIGKILL)
        raise LocalRuntimeError(f"the copy '{state.name}' did not stop in time and was killed")
    return 0


def signal_supervisor(state: State, sig: signal.Signals) -> None:
    """Send a signal to the process that supervises a copy."""
    with suppress(ProcessLookupError):
        os.kill(state.supervisor, sig)


def _status(options: argparse.Namespace) -> int:
    state = _running(options.name)
    _print_state(state)
    for name, (pid, _) in state.processes.items():
        print(f"  {name:<18}pid {pid}")
    return 0


def _migrate(options: argparse.Namespace) -> int:
    state = _running(options.name)
    folder = CopyFolder(LocalSettings().folder, options.name)
    plan = Plan(folder, state.ports, state.clock, {})
    for service in state.databases:
        spec = plan.migration(service)
        done = subprocess.run(spec.command, env=dict(spec.environment), check=False)  # noqa: S603 - ours
        if done.returncode != 0:
            raise LocalRuntimeError(f"{spec.name} failed with exit code {done.returncode}")
    return 0


def _logs(options: argparse.Namespace) -> int:
    folder = CopyFolder(LocalSettings().folder, options.name).logs
    found = [path for path in sorted(folder.glob("*.log")) if _wanted(path, options.process)]
    if not found:
        raise LocalRuntimeError(f"no such log in {folder}")
    follow = ["-F"] if options.follow else []
    command = ["tail", "-n", LOG_LINES, *follow, *map(str, found)]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - ours


def _wanted(path: Path, names: Sequence[str]) -> bool:
    return not names or any(path.stem.startswith(name) for name in names)


def _clean(_options: argparse.Namespace) -> int:
    for path in LocalSettings().folder.glob("*/"):
        folder = CopyFolder(path.parent, path.name)
        try:
            folder.lock()
        except LocalRuntimeError:
            _say(f"the copy '{folder.name}' is running and was left alone")
            continue
        folder.unlock()
        folder.remove()
    return 0
