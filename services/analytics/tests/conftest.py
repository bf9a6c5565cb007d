"""A Postgres with the service's schema; each test works in a transaction that is rolled back."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from rapport.database import connect
from rapport.messaging.transaction import Tx
from rapport.migrate import migrate
from rapport.pgtypes import Connection
from rapport_local.folder import CopyFolder
from rapport_local.ports import choose
from rapport_local.postgres import Postgres
from rapport_local.settings import LocalSettings

NOW = datetime(1998, 7, 1, 10, tzinfo=UTC)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of the test run's own."""
    folder = CopyFolder(LocalSettings().folder, f"test-{secrets.token_hex(4)}")
    folder.lock()
    folder.prepare(512)
    server = Postgres(folder, choose(1)[0])
    try:
        server.start()
        yield server
    finally:
        server.process.stop()
        folder.unlock()
        folder.remove()


@pytest.fixture(scope="session")
async def dsn(postgres: Postgres) -> str:
    """A database with the migrations applied and nothing committed to it."""
    dsn = postgres.create_database("analytics")
    await migrate(dsn, "analytics")
    return dsn


@pytest.fixture(scope="session")
async def session_connection(dsn: str) -> AsyncIterator[Connection]:
    """One connection, for property tests that open a transaction per example."""
    connection = await connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def tx(session_connection: Connection) -> AsyncIterator[Tx]:
    """A transaction at noon of 1998-07-01 in Prague, rolled back after the test."""
    transaction = session_connection.transaction()
    await transaction.start()
    yield Tx(session_connection, NOW)
    await transaction.rollback()
