"""The plugin that gives tests their Postgres."""

from __future__ import annotations

import asyncpg
import pytest

from rapport.pgtypes import Connection
from rapport_local.infra import Infra
from rapport_local.pytest_postgres import Copies

COUNT_KEYS = "select count(*) from rapport.key"
ADD_KEY = "insert into rapport.key values (gen_random_uuid())"


async def test_what_one_test_commits_the_next_does_not_find(
    template: str, copies: Copies, connection: Connection
) -> None:
    """Rows that the template has are there again; a session that was left open is ended."""
    left = await asyncpg.connect(await copies.restored(template))
    await left.execute(ADD_KEY)
    await left.execute("update rapport.relay_progress set tick = 7")
    await left.execute("delete from schema_migration")
    await left.execute("begin; select from rapport.relay_progress for update")
    other = await asyncpg.connect(await copies.restored(template))
    assert await other.fetchval(COUNT_KEYS) == 0
    assert await other.fetchval("select tick from rapport.relay_progress") == 0
    assert await other.fetchval("select count(*) from schema_migration") > 0
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await left.execute("commit")
    await other.execute(ADD_KEY)
    assert await connection.fetchval(COUNT_KEYS) == 0
    await other.close()


async def test_a_connection_that_a_test_broke_is_replaced(
    template: str, copies: Copies, connection: Connection
) -> None:
    connection.terminate()
    again = await copies.connection(template)
    assert await again.fetchval(COUNT_KEYS) == 0
    assert await copies.connection(template) is again


@pytest.mark.parametrize("_", range(2))
async def test_a_rolled_back_connection_leaves_nothing(rolled_back: Connection, _: int) -> None:
    assert await rolled_back.fetchval(COUNT_KEYS) == 0
    await rolled_back.execute(ADD_KEY)


def test_the_server_has_no_kafka(postgres: Infra) -> None:
    assert postgres.database_exists("postgres")
    with pytest.raises(RuntimeError, match="not started"):
        _ = postgres.kafka


def test_what_uses_the_server_is_marked(request: pytest.FixtureRequest, dsn: str) -> None:
    assert dsn
    assert request.node.get_closest_marker("service")
