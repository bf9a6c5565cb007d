"""Notifications on a real Postgres and against the real mail sink."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import asyncpg
import httpx
import pytest

from notifications.settings import Settings
from rapport.clock import Clock
from rapport.database import Database
from rapport.messaging.transaction import Tx
from rapport.migrate import migrate
from rapport.pgtypes import Connection
from rapport_local.infra import Infra
from rapport_local.ports import choose
from services.notifications.tests.sink_client import Sink
from services.notifications.tests.story import NOW, Story


@pytest.fixture(scope="session")
async def template(postgres: Infra) -> str:
    """A migrated database with a stopped clock."""
    dsn = postgres.create_database("notifications")
    await migrate(dsn, "notifications")
    connection = await asyncpg.connect(dsn)
    await connection.execute("insert into rapport.clock (now, fire_until) values ($1, $1)", NOW)
    await connection.close()
    return dsn


@pytest.fixture
async def committed(dsn: str) -> AsyncIterator[Database]:
    """A database to which the test may commit, with the clock at NOW."""
    opened = await Database.open(dsn, Clock(simulated=True), size=4)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def story() -> Story:
    """Make events and bring them to handlers."""
    return Story()


@pytest.fixture
async def tx(rolled_back: Connection) -> Tx:
    """A transaction at NOW that is rolled back."""
    return Tx(rolled_back, NOW)


@pytest.fixture(scope="session")
def sink_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    """One sink for all tests."""
    smtp_port, http_port = choose(2)
    made = Sink(smtp_port, http_port, tmp_path_factory.mktemp("sink") / "mails")
    process = made.start()
    yield made
    process.terminate()
    process.wait(10)


@pytest.fixture
def sink(sink_process: Sink) -> Iterator[Sink]:
    """The sink, empty and well behaved."""
    sink_process.behave()
    httpx.delete(f"{sink_process.url}/messages").raise_for_status()
    yield sink_process
    sink_process.behave()


@pytest.fixture
def settings(sink: Sink, dsn: str) -> Settings:
    """Settings with the sink as mail server and provider, and a lease longer than a test."""
    return Settings(
        environment="development",
        database_dsn=dsn,
        kafka_bootstrap="unused.example:9092",
        port=0,
        ops_port=0,
        clock="simulated",
        lease_seconds=120.0,
        smtp_port=sink.smtp_port,
        sink_url=sink.url,
    )
