"""Where the files of one copy live, and as whom Postgres may run."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO

from rapport_local.errors import LocalRuntimeError, disk_errors
from rapport_local.state import read_state


@dataclass(frozen=True)
class Identity:
    """A user that a process runs as; -1 stands for the one that we are."""

    uid: int = -1
    gid: int = -1


def unprivileged() -> Identity:
    """Return whom Postgres runs as: it refuses root, and initdb wants a uid with a name."""
    if os.geteuid() != 0:
        return Identity()
    known = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    if not known:
        raise LocalRuntimeError("Postgres does not run as root, and this system has no other user")
    entry = known.get("nobody") or next(iter(known.values()))
    return Identity(entry.pw_uid, entry.pw_gid)


def reachable_by_all(path: Path) -> bool:
    """Tell whether any user can read the folder `path` and go through every folder above it."""
    folders = [path.resolve(), *path.resolve().parents]
    return all(folder.stat().st_mode & 0o001 for folder in folders)


class CopyFolder:
    """The folder of one copy: `.rapport/<name>` with its state, its logs and its data.

    As root the data are in the system's temporary folder, where the uid of Postgres can reach
    them, and a link leads there: a checkout may lie in a closed home.
    """

    def __init__(self, base: Path, name: str) -> None:
        """Name the folder; nothing is made yet."""
        self.name = name
        self.path = base / name
        self._lock: IO[str] | None = None

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.path / "logs"

    @property
    def state(self) -> Path:
        """What runs where, for other commands."""
        return self.path / "state.json"

    @cached_property
    def data(self) -> Path:
        """The resolved data folder; made on first use."""
        link = self.path / "data"
        if os.geteuid() != 0:
            link.mkdir(parents=True, exist_ok=True)
            return link.resolve()
        if not link.exists():
            link.unlink(missing_ok=True)  # it led to a temporary folder that was cleaned away
            target = Path(tempfile.mkdtemp(prefix=f"rapport-{self.name}-"))
            target.chmod(0o711)
            link.symlink_to(target)
        return link.resolve()

    def prepare(self, minimum_free_mb: int) -> None:
        """Make the folders, and refuse a disk without room."""
        with disk_errors(self.path):
            self.logs.mkdir(parents=True, exist_ok=True)
            free_mb = shutil.disk_usage(self.data).free // 2**20
        if free_mb < minimum_free_mb:
            raise LocalRuntimeError(
                f"the disk that holds {self.data} is full: {free_mb} MB are left,"
                f" at least {minimum_free_mb} MB are needed"
            )

    def lock(self) -> None:
        """Take the copy for this process, until it ends; raise when another has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        handle = (self.path / "lock").open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            raise LocalRuntimeError(
                f"the copy '{self.name}' is already running; `make down` stops it"
            ) from error
        self._lock = handle

    def unlock(self) -> None:
        """Give the copy back."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def state_stopped(self) -> None:
        """Say in the state file that nothing runs; the ports stay, for the next start."""
        state = read_state(self.state)
        if state:
            with disk_errors(self.state):
                replace(state, supervisor=0, processes={}).write(self.state)

    def remove(self) -> None:
        """Delete the copy with its data."""
        link = self.path / "data"
        if link.is_symlink():
            shutil.rmtree(link.resolve(), ignore_errors=True)
        shutil.rmtree(self.path, ignore_errors=True)
