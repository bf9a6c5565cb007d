"""A real Postgres for the session; every test's transaction is rolled back, but for the API's."""

import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from loyalty import api
from loyalty.handlers import HANDLERS, TIMERS
from loyalty.settings import Settings
from rapport.clock import Clock
from rapport.database import Database, connect
from rapport.migrate import migrate
from rapport.pgtypes import Connection
from rapport.service import Definition, Service
from rapport_local.folder import CopyFolder
from rapport_local.ports import choose
from rapport_local.postgres import Postgres
from rapport_local.settings import LocalSettings

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
CLEAN = """
delete from programme where version > 1;
truncate member, earning, lot, journal, journal_line, debt, refund, waiting_refund,
    redemption, redemption_lot, capped_line,
    rapport.key, rapport.answer, rapport.timer, rapport.clock, rapport.outbox;
"""


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


@pytest.fixture(scope="session")
async def api_dsn(postgres: Postgres) -> str:
    """Create a database to which these tests may commit."""
    dsn = postgres.create_database("loyalty_api")
    await migrate(dsn, "loyalty")
    return dsn


@pytest.fixture
async def committed(api_dsn: str) -> AsyncIterator[Connection]:
    """Open a connection that commits, with the clock at MONDAY and nothing else in the tables."""
    connection = await connect(api_dsn)
    await connection.execute(CLEAN)
    await connection.execute("insert into rapport.clock values (true, $1, $1)", MONDAY)
    yield connection
    await connection.close()


@pytest.fixture
async def http(api_dsn: str, committed: Connection) -> AsyncIterator[httpx.AsyncClient]:
    """Talk to the application without a server, once the tables are empty."""
    assert not committed.is_closed()
    settings = Settings(
        environment="development", database_dsn=api_dsn, kafka_bootstrap="", clock="simulated"
    )
    definition = Definition(
        name="loyalty", settings=settings, handlers=HANDLERS, timers=TIMERS, router=api.router
    )
    database = await Database.open(api_dsn, Clock(simulated=True), size=4)
    app = Service(definition, database).serving.public
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://loyalty"
    ) as client:
        yield client
    await database.close()
