"""A real Postgres for the session; every test's transaction is rolled back, but for the API's."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
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
from rapport_local.infra import Infra

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.fixture(scope="session")
async def template(postgres: Infra) -> str:
    """Migrate a database whose clock stands at MONDAY."""
    dsn = postgres.create_database("loyalty")
    await migrate(dsn, "loyalty")
    connection = await asyncpg.connect(dsn)
    await connection.execute("insert into rapport.clock values (true, $1, $1)", MONDAY)
    await connection.close()
    return dsn


@pytest.fixture
async def committed(dsn: str) -> AsyncIterator[Connection]:
    """Open a connection that commits."""
    connection = await connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def http(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    """Talk to the application without a server."""
    settings = Settings(
        environment="development", database_dsn=dsn, kafka_bootstrap="", clock="simulated"
    )
    definition = Definition(
        name="loyalty", settings=settings, handlers=HANDLERS, timers=TIMERS, router=api.router
    )
    database = await Database.open(dsn, Clock(simulated=True), size=4)
    app = Service(definition, database).serving.public
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://loyalty"
    ) as client:
        yield client
    await database.close()
