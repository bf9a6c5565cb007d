"""A copy of the suite that has lived through the demo."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from rapport_local.state import State, read_state

ROOT = Path(__file__).parents[2]
SCALE = "20"
NAME = "demo-test"
RUN_SECONDS = 1_500


@dataclass
class Kept:
    """A copy that has lived through the demo, and the report of that."""

    folder: Path
    environment: dict[str, str]
    output: str
    report: dict[str, Any]

    @property
    def state(self) -> State:
        """What runs where."""
        state = read_state(self.folder / NAME / "state.json")
        assert state is not None
        return state

    @property
    def mails(self) -> Path:
        """The file of the mail sink."""
        return (self.folder / NAME / "data").resolve() / "mails" / "mails.sqlite"

    def demo(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the demo's command line on it."""
        command = [sys.executable, "-m", "rapport_local", "demo", "--scale", SCALE, *arguments]
        return subprocess.run(
            command,
            check=False,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_SECONDS,
            cwd=ROOT,
        )

    def check(self) -> subprocess.CompletedProcess[str]:
        """Only compare its totals."""
        return self.demo("--check", NAME)

    def sql(self, service: str, *statements: str) -> None:
        """Run statements on a service's database, by hand, in one transaction."""

        async def run() -> None:
            connection = await asyncpg.connect(self.state.databases[service])
            try:
                async with connection.transaction():
                    for statement in statements:
                        await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())
