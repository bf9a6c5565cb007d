"""One pool per process with the time-outs that the messaging core needs."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import msgspec

from rapport.messaging import failure, outbox
from rapport.messaging.transaction import ADD_KEYS, KeysMissingError, Tx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from uuid import UUID

    from rapport.clock import Clock
    from rapport.pgtypes import Connection

T = TypeVar("T")

SERVER_SETTINGS = {
    "transaction_timeout": "20s",
    "idle_in_transaction_session_timeout": "10s",
    "lock_timeout": "5s",
    "client_connection_check_interval": "2s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "search_path": "public",
    "timezone": "UTC",
    "jit": "off",
    # A plan made while a table was small must not outlive that.
    "plan_cache_mode": "force_custom_plan",
}
ATTEMPTS = 5


async def prepare(connection: Connection) -> None:
    """Set the JSON codec: `jsonb` columns are given and received as text or Python values."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_json_text, decoder=msgspec.json.decode
    )


async def _leave_as_it_is(_connection: Connection) -> None:
    """Spare the round trip of a reset: whoever borrows a connection changes no setting of it."""


def _json_text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


async def connect(dsn: str, application: str = "rapport") -> Connection:
    """Open one connection with the house's time-outs."""
    settings = SERVER_SETTINGS | {"application_name": application}
    connection = await asyncpg.connect(dsn, server_settings=settings)
    await prepare(connection)
    return connection


class Database:
    """The service's own database: `transact` for business transactions, `read` for queries."""

    def __init__(self, pool: asyncpg.Pool, clock: Clock, partitions: int) -> None:
        self.pool = pool
        self.clock = clock
        self.partitions = partitions
        self.on_commit: Callable[[], None] = lambda: None

    @classmethod
    async def open(cls, dsn: str, clock: Clock, *, partitions: int = 6, size: int = 10) -> Database:
        """Open the pool; raises OSError or asyncpg.PostgresError when the server is away."""
        settings = SERVER_SETTINGS | {"application_name": "rapport"}
        pool = await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size,
            server_settings=settings,
            init=prepare,
            reset=_leave_as_it_is,
        )
        return cls(pool, clock, partitions)

    async def close(self) -> None:
        """Close the pool, at once if connections stay busy."""
        try:
            await asyncio.wait_for(self.pool.close(), 5)
        except TimeoutError:
            self.pool.terminate()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """Give a transaction for reading; what it publishes is not written."""
        async with self.pool.acquire() as connection, connection.transaction(readonly=True):
            yield Tx(connection, await self.clock.now(connection))

    async def transact(self, body: Callable[[Tx], Awaitable[T]]) -> T:
        """Run `body` in one transaction, write what it published, commit, wake the relay.

        Missing keys are added first; deadlocks, serialisation failures and lost connections are
        tried again, at most five times. The body may therefore run more than once.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._once(body)
            except KeysMissingError as missing:
                await self.add_keys(missing.ids)
            except Exception as error:
                if attempt >= ATTEMPTS or failure.classify(error) is not failure.Verdict.RETRY:
                    raise
                await asyncio.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311  jitter

    async def _once(self, body: Callable[[Tx], Awaitable[T]]) -> T:
        async with self.pool.acquire() as connection:
            async with connection.transaction():
                tx = Tx(connection, await self.clock.now(connection))
                result = await body(tx)
                await outbox.write(tx, self.partitions)
            if tx.published:
                self.on_commit()
            return result

    async def add_keys(self, ids: Sequence[UUID]) -> None:
        """Commit missing rows of `rapport.key` in a transaction of their own."""
        async with self.pool.acquire() as connection:
            await connection.execute(ADD_KEYS, ids)
