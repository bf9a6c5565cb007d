"""One process of the runtime: how it is started, found ready, signalled and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rapport_local.errors import LocalRuntimeError, disk_full, log_tail, says_disk_full
from rapport_local.folder import Identity

LAUNCH = Path(__file__).with_name("launch.py")
LOG_LIMIT = 10 * 2**20
POLL_SECONDS = 0.05

# The death signal is sent when the *thread* that started a process ends, so one lasting thread
# starts them all.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rapport-spawner")


@dataclass(frozen=True)
class Spec:
    """What to run and how to treat it."""

    name: str
    command: Sequence[str]
    log: Path
    ready: Callable[[], bool] = lambda: True
    """Asked again and again until it says yes."""
    environment: Mapping[str, str] = field(default_factory=dict)
    identity: Identity = field(default_factory=Identity)
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 60.0
    """After so long without an end it is killed."""
    death_signal: signal.Signals = signal.SIGKILL
    """What it gets when we die without stopping it."""
    ready_seconds: float = 180.0
    """A loaded machine is slow, and a process that ends is noticed at once."""


class Process:
    """A started, stoppable and restartable process; every method may be called from any thread."""

    def __init__(self, spec: Spec) -> None:
        """Remember what to run; `start` runs it."""
        self.spec = spec
        self.wanted = False
        self.restarts = 0
        self.started_at = 0.0
        self._popen: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()

    @property
    def name(self) -> str:
        """The name that logs, state file and tests use."""
        return self.spec.name

    @property
    def pid(self) -> int:
        """The process id; raises when it was never started."""
        if self._popen is None:
            raise LocalRuntimeError(f"{self.name} is not running")
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code (negative: the signal), or None while it runs or before its start."""
        return self._popen.poll() if self._popen else None

    @property
    def alive(self) -> bool:
        """Whether the process exists; a frozen one does."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start it without waiting until it is ready."""
        with self._changing:
            if self.alive:
                return
            self.wanted = True
            self._popen = _spawner.submit(self._spawn).result()

    def restart(self) -> None:
        """Start it again after it died, unless it was stopped meanwhile."""
        with self._changing:
            if not self.wanted or self.alive:
                return
            self.sweep()
            self.restarts += 1
            self._popen = _spawner.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen[bytes]:
        spec = self.spec
        if spec.log.exists() and spec.log.stat().st_size > LOG_LIMIT:
            spec.log.replace(spec.log.with_suffix(".log.1"))
        wrapper = [
            sys.executable,
            "-I",
            "-S",
            str(LAUNCH),
            str(os.getpid()),
            str(int(spec.death_signal)),
        ]
        wrapper += [str(spec.identity.uid), str(spec.identity.gid)]
        self.started_at = time.monotonic()
        with spec.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the command is ours
                [*wrapper, *spec.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(spec.environment) or None,
                cwd=spec.folder,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone; it stops the rest
            )

    def wait_ready(self) -> None:
        """Wait until the probe says yes; raise when the process ends before, or takes too long."""
        deadline = time.monotonic() + self.spec.ready_seconds
        while not self.spec.ready():
            if self.exit_code is not None:
                raise self._failure(
                    f"{self.name} ended with exit code {self.exit_code} while starting"
                )
            if time.monotonic() > deadline:
                raise self._failure(
                    f"{self.name} was not ready within {self.spec.ready_seconds:.0f} s"
                )
            time.sleep(POLL_SECONDS)

    def wait_done(self, seconds: float) -> None:
        """Wait until a program that does one thing has done it; raise one line when it failed."""
        deadline = time.monotonic() + seconds
        while (code := self.exit_code) is None:
            if time.monotonic() > deadline:
                self.stop()
                raise self._failure(f"{self.name} did not end within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)
        if code != 0:
            raise self._failure(f"{self.name} failed with exit code {code}")

    def _failure(self, what: str) -> LocalRuntimeError:
        tail = log_tail(self.spec.log)
        if says_disk_full(tail):
            return disk_full(self.spec.folder or self.spec.log)
        return LocalRuntimeError(f"{what}: {tail} (log: {self.spec.log})")

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Send a signal to the process itself; if it dies, a supervisor starts it again."""
        os.kill(self.pid, sig)

    def begin_stop(self) -> None:
        """Ask it to end, without waiting."""
        with self._changing:
            self.wanted = False
        if self.alive:
            self._signal(self.spec.stop_signal)
            self._signal(signal.SIGCONT)  # a frozen process could not hear it

    def stop(self) -> None:
        """End it for good: its stop signal, then after a while SIGKILL to its whole group."""
        if self.wanted:
            self.begin_stop()
        if self._popen is None:
            return
        try:
            self._popen.wait(self.spec.stop_seconds)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        self.sweep()
        self._popen.wait()

    def sweep(self) -> None:
        """Kill what a dead process left of its group."""
        if self._popen:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def _signal(self, sig: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, sig)
