"""Rapport's relay and consumer, alone in a process, doing the common work."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import asyncpg
from fastapi import APIRouter

from benchmarks.work import PARTITIONS
from rapport.clock import Clock
from rapport.consuming import Consuming
from rapport.contracts.contacts import PurchaseRecorded
from rapport.contracts.loyalty import PointsAwarded
from rapport.contracts.registry import STREAMS
from rapport.database import Database, connect
from rapport.messaging.handler import several_per_contact
from rapport.messaging.lease import Lease
from rapport.messaging.position import init_positions
from rapport.messaging.relay import Relay
from rapport.migrate import migrate
from rapport.service import Definition, Service
from rapport.settings import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rapport.messaging.delivery import Delivery
    from rapport.messaging.transaction import Tx
    from rapport_local.infra import Infra

BALANCE = "create table balance (contact_id uuid primary key, points bigint not null)"
ADD = """
insert into balance (contact_id, points)
select c, sum(p) from unnest($1::uuid[], $2::bigint[]) u(c, p) group by c order by c
on conflict (contact_id) do update set points = balance.points + excluded.points
"""


@several_per_contact
async def add_points(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
    """Write a balance per contact and one event per purchase."""
    amounts = [p.event.lines[0].net_minor for p in purchases]
    await tx.execute(ADD, [p.contact_id for p in purchases], amounts)
    for p, amount in zip(purchases, amounts, strict=True):
        award = PointsAwarded(
            contact_id=p.contact_id, purchase_id=p.event.purchase_id, points=amount
        )
        tx.publish(award, cause=p)


async def make_database(infra: Infra, name: str) -> str:
    """Create and migrate a database of ours with positions at 0."""
    dsn = infra.create_database(name)
    await migrate(dsn)
    connection = await connect(dsn)
    await connection.execute(BALANCE)
    await init_positions(connection, STREAMS, PARTITIONS)
    await connection.close()
    return dsn


async def time_relay(dsn: str, bootstrap: str, count: int) -> float:
    """Return the seconds from the start of the relay until Kafka acknowledged `count` rows."""
    relay = Relay(dsn, bootstrap, "contacts.events.v1", PARTITIONS)
    lease = Lease("bench", 10.0)
    connection = await connect(dsn)
    await lease.acquire(connection)
    started = time.perf_counter()
    leading = asyncio.create_task(relay.lead(lease))
    try:
        while sum(relay.acknowledged) < count:  # noqa: ASYNC110  the relay tells nobody
            await asyncio.sleep(0.002)
        return time.perf_counter() - started
    finally:
        leading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leading
        await connection.close()


async def time_effects(dsn: str, bootstrap: str, count: int) -> float:
    """Return the seconds between the first committed batch and the last of `count` events."""
    settings = ServiceSettings(
        environment="development",
        database_dsn=dsn,
        kafka_bootstrap=bootstrap,
        port=0,
        ops_port=0,
        partitions=PARTITIONS,
    )
    definition = Definition("loyalty", settings, {PurchaseRecorded: add_points}, APIRouter())
    database = await Database.open(dsn, Clock(simulated=False), partitions=PARTITIONS)
    service = Service(definition, database)
    service.consuming = Consuming(service, ["contacts.events.v1"])
    applied = _Applied(service.consuming)
    running = asyncio.create_task(service.consuming.run())
    try:
        while applied.number < count:  # noqa: ASYNC110  the runner must not be slowed down
            await asyncio.sleep(0.002)
        return applied.last - applied.first
    finally:
        await service.consuming.stop()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await database.close()


class _Applied:
    """Watches commits: when the first and the last came, and how far they are."""

    def __init__(self, consuming: Consuming) -> None:
        self.first = self.last = 0.0
        self.consuming = consuming
        for runner in consuming.runners.values():
            runner.on_applied = self.note

    @property
    def number(self) -> int:
        return sum(number for _, number in self.consuming.reached.values())

    def note(self) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last


async def count_rows(dsn: str, table: str) -> int:
    """Count a table's rows, to see that the work was done."""
    connection = await asyncpg.connect(dsn)
    try:
        count: int = await connection.fetchval(f"select count(*) from {table}")  # noqa: S608
    finally:
        await connection.close()
    return count
