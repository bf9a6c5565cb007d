"""Contacts on a real Postgres: tests of handlers and store roll back, tests of the API commit."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from contacts.api import router
from contacts.handlers.inbound import accept
from rapport import database, problem
from rapport.clock import Clock
from rapport.database import Database
from rapport.migrate import migrate
from rapport.pgtypes import Connection
from rapport_local.folder import CopyFolder
from rapport_local.ports import choose
from rapport_local.postgres import Postgres
from rapport_local.settings import LocalSettings
from services.contacts.tests.door import NOW, Door

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
async def connection(template: str) -> AsyncIterator[Connection]:
    """A connection within a transaction that is rolled back."""
    opened = await database.connect(template)
    transaction = opened.transaction()
    await transaction.start()
    yield opened
    await transaction.rollback()
    await opened.close()


@pytest.fixture(scope="session")
def committed(template: str, server: Postgres) -> str:
    """A copy of the template for tests that commit."""
    assert template
    server.query('create database "contacts_committed" template contacts')
    return server.dsn("contacts_committed")


@pytest.fixture
async def own_database(committed: str) -> str:
    """The copy, emptied of what an earlier test left."""
    connection = await asyncpg.connect(committed)
    tables = await connection.fetch(
        "select schemaname || '.' || tablename from pg_tables where schemaname = 'public'"
        " and tablename not in ('schema_migration', 'source')"
    )
    core = ("rapport.key", "rapport.answer", "rapport.inbox", "rapport.outbox", "rapport.timer")
    statements = [f"delete from {table}" for table in [*core, *(row[0] for row in tables)]]  # noqa: S608
    await connection.execute(";".join(statements))
    await connection.execute("delete from source where source <> all($1)", list(SOURCES))
    await connection.close()
    return committed


@pytest.fixture
def door(connection: Connection) -> Door:
    """The door of external events, in a transaction that is rolled back."""
    return Door(connection)


@pytest.fixture
async def db(own_database: str) -> AsyncIterator[Database]:
    """The pool that the API under test uses."""
    opened = await Database.open(own_database, Clock(simulated=False))
    yield opened
    await opened.close()


@pytest.fixture
async def client(db: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API."""
    app = FastAPI()
    app.include_router(router)
    problem.install(app)
    app.state.service = SimpleNamespace(database=db, definition=SimpleNamespace(accept=accept))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://contacts/v1") as opened:
        yield opened
