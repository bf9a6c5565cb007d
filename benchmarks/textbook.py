"""The textbook application: FastStream, one message and one transaction each.

An inbox table makes effects single, an outbox table is emptied by a poller with SKIP LOCKED that
publishes row by row and marks what it sent. The same three writes as ours per purchase.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import asyncpg
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from pydantic import BaseModel

from benchmarks.work import purchases

if TYPE_CHECKING:
    from rapport_local.infra import Infra

TOPIC = "textbook.purchases"
SCHEMA = """
create table outbox (
    id bigint generated always as identity primary key, event_id uuid not null, key text not null,
    body text not null, sent_at timestamptz);
create index on outbox (id) where sent_at is null;
create table inbox (event_id text primary key);
create table balance (contact_id uuid primary key, points bigint not null);
"""
CLAIM = """
select id, event_id, key, body from outbox where sent_at is null
order by id limit 100 for update skip locked
"""


class Line(BaseModel):
    """One line of a purchase."""

    net_minor: int


class Purchase(BaseModel):
    """What the handler needs of a purchase."""

    contact_id: str
    lines: list[Line]


async def make_database(infra: Infra, name: str) -> str:
    """Create the textbook application's database."""
    dsn = infra.create_database(name)
    connection = await asyncpg.connect(dsn)
    await connection.execute(SCHEMA)
    await connection.close()
    return dsn


async def fill_outbox(dsn: str, count: int) -> None:
    """Write the rows that the poller will publish."""
    connection = await asyncpg.connect(dsn)
    rows = [(p.event_id, str(p.contact), p.body) for p in purchases(count)]
    await connection.executemany(
        "insert into outbox (event_id, key, body) values ($1, $2, $3)", rows
    )
    await connection.close()


async def time_relay(dsn: str, bootstrap: str) -> float:
    """Return the seconds that the poller needs to publish and mark every row."""
    broker = KafkaBroker(bootstrap, acks="all", enable_idempotence=True, logger=None)
    connection = await asyncpg.connect(dsn)
    await broker.start()
    started = time.perf_counter()
    try:
        while await _publish_some(connection, broker):
            pass
        return time.perf_counter() - started
    finally:
        await broker.stop()
        await connection.close()


async def _publish_some(connection: asyncpg.Connection, broker: KafkaBroker) -> bool:
    async with connection.transaction():
        rows = await connection.fetch(CLAIM)
        for row in rows:
            await broker.publish(
                row["body"].encode(),
                topic=TOPIC,
                key=row["key"].encode(),
                headers={"event_id": str(row["event_id"])},
            )
        await connection.execute(
            "update outbox set sent_at = now() where id = any($1)", [row["id"] for row in rows]
        )
    return bool(rows)


async def time_effects(dsn: str, bootstrap: str, count: int) -> float:
    """Return the seconds between the first and the last of `count` committed messages."""
    broker = KafkaBroker(bootstrap, logger=None)
    pool = await asyncpg.create_pool(dsn, min_size=2, max_size=2)
    times: list[float] = []

    @broker.subscriber(
        TOPIC,
        group_id=f"textbook-{time.time_ns()}",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def record(purchase: Purchase, message: KafkaMessage) -> None:
        await _apply(pool, message.headers["event_id"], purchase)
        times.append(time.perf_counter())

    await broker.start()
    try:
        while len(times) < count:  # noqa: ASYNC110  the handler must not be slowed down
            await asyncio.sleep(0.005)
        return times[count - 1] - times[0]
    finally:
        with contextlib.suppress(Exception):
            await broker.stop()
        await pool.close()


async def _apply(pool: asyncpg.Pool, event_id: str, purchase: Purchase) -> None:
    amount = purchase.lines[0].net_minor
    async with pool.acquire() as connection, connection.transaction():
        known = await connection.execute(
            "insert into inbox (event_id) values ($1) on conflict do nothing", event_id
        )
        if known == "INSERT 0 0":
            return
        await connection.execute(
            "insert into balance (contact_id, points) values ($1, $2) "
            "on conflict (contact_id) do update set points = balance.points + excluded.points",
            purchase.contact_id,
            amount,
        )
        await connection.execute(
            "insert into outbox (event_id, key, body) values (gen_random_uuid(), $1, $2)",
            purchase.contact_id,
            json.dumps({"contact_id": purchase.contact_id, "points": amount}),
        )
