"""Contacts on a real Postgres: tests of handlers and store roll back, tests of the API commit."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from rapport_local.folder import CopyFolder
from rapport_local.ports import choose
from rapport_local.postgres import Postgres
from rapport_local.settings import LocalSettings

from contacts.handlers.inbound import accept
from contacts.handlers.work import PROGRAMME_ZONE
from rapport import database
from rapport.messaging.inbox import External, Outcome
from rapport.messaging.transaction import ADD_KEYS, KeysMissingError, Published, Tx
from rapport.migrate import migrate

NOW = datetime(1998, 1, 1, 11, tzinfo=UTC)
SOURCES = {"cdnow": "cdnow", "till-1": "shop", "till-2": "shop"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a database is a service test."""
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.service)


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A Postgres of its own, without Kafka."""
    folder = CopyFolder(LocalSettings().folder, f"test-{secrets.token_hex(4)}")
    folder.prepare(512)
    postgres = Postgres(folder, choose(1)[0])
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.process.stop()
        folder.remove()


@pytest.fixture(scope="session")
async def template(server: Postgres) -> str:
    """A migrated database with the sources, which nothing ever changes."""
    dsn = server.create_database("contacts")
    await migrate(dsn, "contacts")
    connection = await asyncpg.connect(dsn)
    await connection.executemany(
        "insert into source values ($1, $2, $3)", [(s, r, NOW) for s, r in SOURCES.items()]
    )
    await connection.close()
    return dsn


@pytest.fixture
async def connection(template: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection within a transaction that is rolled back."""
    opened = await database.connect(template)
    transaction = opened.transaction()
    await transaction.start()
    yield opened
    await transaction.rollback()
    await opened.close()


@pytest.fixture
def own_database(template: str, server: Postgres) -> Iterator[str]:
    """A copy of the template for tests that commit."""
    assert template
    name = f"contacts_{secrets.token_hex(4)}"
    server.query(f'create database "{name}" template contacts')
    yield server.dsn(name)
    server.drop_database(name)


@dataclass
class Door:
    """Calls handlers as the core does: adds missing keys, then runs the body again."""

    connection: asyncpg.Connection
    now: datetime = NOW
    published: list[Published] = field(default_factory=list)

    async def run(self, body: Callable[[Tx], Any]) -> Any:
        """Run a body as a transaction would."""
        while True:
            try:
                async with self.connection.transaction():
                    tx = Tx(self.connection, self.now)
                    result = await body(tx)
            except KeysMissingError as missing:
                await self.connection.execute(ADD_KEYS, missing.ids)
            else:
                self.published += tx.published
                return result

    async def accept(self, *events: External) -> list[Outcome]:
        """Accept events in one transaction."""
        outcomes: list[Outcome] = await self.run(lambda tx: accept(events, tx, PROGRAMME_ZONE))
        return outcomes

    async def rows(self, table: str, columns: str = "*") -> list[dict[str, Any]]:
        """Return a table, sorted by its text."""
        found = await self.connection.fetch(f"select {columns} from {table}")  # noqa: S608
        return sorted((dict(row) for row in found), key=str)

    def events(self) -> Sequence[str]:
        """Return the types published so far, shortened."""
        return [
            p.type.removeprefix("rapport.contacts.").removesuffix(".v1") for p in self.published
        ]


@pytest.fixture
def door(connection: asyncpg.Connection) -> Door:
    """The door of external events, in a transaction that is rolled back."""
    return Door(connection)


@pytest.fixture(scope="session")
def open_door() -> type[Door]:
    """Make a door on a connection of the test's own."""
    return Door
