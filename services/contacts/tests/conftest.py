"""Contacts on a real Postgres: tests of handlers and store roll back, tests of the API commit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from contacts.api import router
from contacts.handlers.inbound import accept
from rapport import problem
from rapport.clock import Clock
from rapport.database import Database
from rapport.migrate import migrate
from rapport.pgtypes import Connection
from rapport_local.infra import Infra
from services.contacts.tests.door import NOW, Door

SOURCES = {"cdnow": "cdnow", "till-1": "shop", "till-2": "shop"}


@pytest.fixture(scope="session")
async def template(postgres: Infra) -> str:
    """A migrated database with the sources."""
    dsn = postgres.create_database("contacts")
    await migrate(dsn, "contacts")
    connection = await asyncpg.connect(dsn)
    await connection.executemany(
        "insert into source values ($1, $2, $3)", [(s, r, NOW) for s, r in SOURCES.items()]
    )
    await connection.close()
    return dsn


@pytest.fixture
def door(rolled_back: Connection) -> Door:
    """The door of external events, in a transaction that is rolled back."""
    return Door(rolled_back)


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    """The pool that the API under test uses."""
    opened = await Database.open(dsn, Clock(simulated=False))
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
