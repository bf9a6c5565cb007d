"""Starts again what died."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from rapport_local.process import Process

LOOK_SECONDS = 0.2
FIRST_DELAY_SECONDS = 0.2
LAST_DELAY_SECONDS = 10.0
CALM_SECONDS = 30.0
"""A process that lived so long starts its delays from the first one again."""


class Watch:
    """A thread that looks at processes and starts those again that ended although they are wanted.

    It never ends a process: a frozen one may be woken, and a slow one may have its reasons.
    """

    def __init__(self, processes: Mapping[str, Process], tell: Callable[[str], None]) -> None:
        """`tell` gets one line for each end and each new start."""
        self._processes = processes
        self._tell = tell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rapport-watch", daemon=True)
        self._due: dict[str, float] = {}
        self._tries: dict[str, int] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; after this nothing is started any more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            for process in list(self._processes.values()):
                if process.wanted and process.exit_code is not None:
                    self._restart_when_due(process)

    def _restart_when_due(self, process: Process) -> None:
        now = time.monotonic()
        due = self._due.get(process.name)
        if due is None:
            calm = now - process.started_at > CALM_SECONDS
            tries = 0 if calm else self._tries.get(process.name, 0)
            delay = min(FIRST_DELAY_SECONDS * 2**tries, LAST_DELAY_SECONDS)
            self._tries[process.name] = tries + 1
            self._due[process.name] = now + delay
            code = process.exit_code
            self._tell(f"{process.name} ended with exit code {code}; again in {delay:.1f} s")
        elif now >= due:
            del self._due[process.name]
            process.restart()
            self._tell(f"{process.name} runs again with pid {process.pid}")
