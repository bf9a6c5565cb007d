"""A real Postgres for the session; every test's transaction is rolled back."""

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from rapport.database import connect
from rapport.migrate import migrate
from rapport.pgtypes import Connection
from rapport_local.folder import CopyFolder
from rapport_local.ports import choose
from rapport_local.postgres import Postgres
from rapport_local.settings import LocalSettings


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a server of the test run's own."""
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
async def loyalty_dsn(postgres: Postgres) -> str:
    """Create and migrate the service's database; tests leave nothing in it."""
    dsn = postgres.create_database("loyalty")
    await migrate(dsn, "loyalty")
    return dsn


@pytest.fixture(scope="session")
async def connection(loyalty_dsn: str) -> AsyncIterator[Connection]:
    """Open the connection that the tests share."""
    opened = await connect(loyalty_dsn)
    yield opened
    await opened.close()


@pytest.fixture
async def rolled_back(connection: Connection) -> AsyncIterator[Connection]:
    """Give the connection within a transaction that is rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
