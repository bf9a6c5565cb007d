"""A pytest plugin: one Postgres for the whole run, and databases that every test finds unchanged.

A service's conftest says with its own `template` what its database holds in the beginning. Then

- `rolled_back` is a connection within a transaction that ends with the test,
- `connection` is the same one before that, for tests that open a transaction per example,
- `dsn` leads to a database to which the test may commit: the next one finds it anew.

Whatever uses one of them has the marker `service`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from rapport.database import connect
from rapport.migrate import migrate
from rapport.pgtypes import Connection
from rapport_local.infra import Infra

COMMAND_SECONDS = 30.0
KEEP_ROWS = """
create schema seed;
create view seed.every_table as
select oid::regclass as name from pg_class
where relkind in ('r', 'p') and not relispartition
    and relnamespace in ('public'::regnamespace, 'rapport'::regnamespace);
do $$
declare
    t regclass;
    filled boolean;
begin
    for t in select name from seed.every_table loop
        execute format('select exists (select from %s)', t) into filled;
        if filled then
            execute format('create table seed.%I as table %s', t::text, t);
        end if;
    end loop;
end $$
"""
"""Keeps the rows of all tables that have some, in a schema of their own."""
RESTORE_ROWS = """
select pg_terminate_backend(pid, 5000) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid();
do $$
declare
    t regclass;
begin
    perform set_config('session_replication_role', 'replica', true); -- passes append-only triggers
    for t in select name from seed.every_table loop
        execute format('delete from %s', t);
        if to_regclass(format('seed.%I', t::text)) is not null then
            execute format('insert into %s overriding system value table seed.%I', t, t::text);
        end if;
    end loop;
end $$
"""
"""Ends what an earlier test left running, then gives every table the rows that were kept."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that needs the server."""
    for item in items:
        if "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.service)


class Copies:
    """For each template a connection to a copy that is never changed, and a copy to commit to."""

    def __init__(self, server: Infra) -> None:
        """Copies are made when they are asked for."""
        self._server = server
        self._connections: dict[str, Connection] = {}
        self._committed: dict[str, str] = {}

    async def connection(self, template: str) -> Connection:
        """Return the connection, the same one for all tests unless one of them broke it."""
        known = self._connections.get(template)
        if known is None or known.is_closed():
            known = await connect(await self._copy(template, "unchanged"))
            self._connections[template] = known
        return known

    async def restored(self, template: str) -> str:
        """Return the DSN of the other copy, with nothing in it but what the template has."""
        dsn = self._committed.get(template)
        if dsn is None:
            dsn = await self._copy(template, "committed")
            await _execute(dsn, KEEP_ROWS)
            self._committed[template] = dsn
        else:
            await _execute(dsn, RESTORE_ROWS)
        return dsn

    async def close(self) -> None:
        """Close the connections; the databases end with their server."""
        for connection in self._connections.values():
            await connection.close()

    async def _copy(self, template: str, purpose: str) -> str:
        name = urlsplit(template).path.removeprefix("/")
        return await asyncio.to_thread(self._server.create_database, f"{name}_{purpose}", name)


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn, command_timeout=COMMAND_SECONDS)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Infra]:
    """The server."""
    with Infra(kafka=False) as running:
        yield running


@pytest.fixture(scope="session")
async def template(postgres: Infra) -> str:
    """The DSN of a database that is only copied: here the core's tables alone."""
    dsn = postgres.create_database("core")
    await migrate(dsn)
    return dsn


@pytest.fixture(scope="session")
async def copies(postgres: Infra) -> AsyncIterator[Copies]:
    """What was copied from templates so far."""
    made = Copies(postgres)
    yield made
    await made.close()


@pytest.fixture
async def connection(template: str, copies: Copies) -> Connection:
    """A connection outside a transaction: who uses it leaves nothing behind."""
    return await copies.connection(template)


@pytest.fixture
async def rolled_back(connection: Connection) -> AsyncIterator[Connection]:
    """A connection within a transaction that is rolled back after the test."""
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()


@pytest.fixture
async def dsn(template: str, copies: Copies) -> str:
    """The DSN of a database to which the test may commit."""
    return await copies.restored(template)
