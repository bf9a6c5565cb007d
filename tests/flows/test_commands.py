"""Commands of `rapport` that work on a database alone, as an operator types them."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

if TYPE_CHECKING:
    from rapport_local.infra import Infra

RAPPORT = Path(sys.executable).with_name("rapport")


def rapport(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run([RAPPORT, *arguments], capture_output=True, text=True, check=False)


def fetch(dsn: str, sql: str) -> list[tuple[Any, ...]]:
    """Read from a database."""

    async def read() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(dsn)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    return asyncio.run(read())


@pytest.fixture
def dsn(infra: Infra) -> str:
    """An empty database."""
    return infra.create_database(f"c{secrets.token_hex(4)}")


def test_migrate_brings_a_database_up_to_date_once(dsn: str) -> None:
    """The core's migrations and the service's; the second time there is nothing to do."""
    first = rapport("migrate", "loyalty", "--dsn", dsn, "--json")
    assert first.returncode == 0, first.stderr
    applied = json.loads(first.stdout)["applied"]
    assert {name.partition("/")[0] for name in applied} == {"rapport.messaging", "loyalty"}
    assert fetch(dsn, "select count(*) from member") == [(0,)]
    assert rapport("migrate", "loyalty", "--dsn", dsn).stdout.split("\n")[0] == "nothing to do"


def test_positions_are_made_once(dsn: str) -> None:
    """For each stream that the service reads; known ones stay where they stand."""
    assert rapport("migrate", "loyalty", "--dsn", dsn).returncode == 0
    wanted = ("position", "init", "loyalty", "--dsn", dsn, "--partitions", "3")
    assert rapport(*wanted, "--at", "7").returncode == 0
    known = fetch(dsn, "select stream, partition, number from rapport.position order by 1, 2")
    streams = ("analytics", "contacts", "notifications")
    assert known == [(f"{name}.events.v1", n, 7) for name in streams for n in range(3)]
    assert rapport(*wanted).returncode == 0
    assert fetch(dsn, "select min(number), count(*) from rapport.position") == [(7, 9)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("migrate", "billing", "--dsn", "postgresql://x"), "billing is not installed"),
        (("position", "init", "billing", "--dsn", "postgresql://x"), "contacts, loyalty"),
        (("position", "init", "loyalty", "--dsn", "postgresql://127.0.0.1:1/x"), "loyalty: "),
    ],
)
def test_what_is_wrong_is_named(arguments: tuple[str, ...], named: str) -> None:
    """One line, and an exit code that scripts see."""
    done = rapport(*arguments)
    assert done.returncode == 1
    assert named in done.stderr
    assert "Traceback" not in done.stderr
