"""Two toy services on real Kafka and Postgres: a till that records purchases, a book that sums."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError
from fastapi import APIRouter

from rapport.contracts.contacts import PurchaseLine, PurchaseRecorded
from rapport.contracts.loyalty import PointsAwarded
from rapport.contracts.registry import INBOUND, TOPICS
from rapport.messaging.delivery import Command, Delivery
from rapport.messaging.handler import several_per_contact
from rapport.messaging.ids import derived_id
from rapport.messaging.position import init_positions
from rapport.migrate import migrate
from rapport.service import Definition
from rapport.settings import ServiceSettings
from rapport.testing.inprocess import InProcess, until
from rapport_local.ports import choose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rapport.messaging.handler import Handlers
    from rapport.messaging.transaction import Tx
    from rapport_local.infra import Infra

PARTITIONS = 3
SCHEMA = """
create table book (contact_id uuid primary key, points bigint not null);
create table entry (
    id bigint generated always as identity, contact_id uuid not null, number bigint,
    event_id uuid not null unique, note text not null);
"""
ADD = """
with entered as (
    insert into entry (contact_id, event_id, note, number)
    select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[])
)
insert into book (contact_id, points)
select c, sum(p) from unnest($1::uuid[], $4::bigint[]) u(c, p) group by c order by c
on conflict (contact_id) do update set points = book.points + excluded.points
"""
TIME = datetime(2026, 3, 2, 10, tzinfo=UTC)


def purchase(contact: UUID, amount: int, order: str) -> PurchaseRecorded:
    """A purchase of `amount` minor units."""
    return PurchaseRecorded(
        contact_id=contact,
        purchase_id=derived_id("purchase", "toy", order),
        source="toy",
        order=order,
        occurred_at=TIME,
        currency="USD",
        lines=(PurchaseLine(line="1", sku="cd", quantity=1, net_minor=amount),),
    )


@several_per_contact
async def enter(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
    """Enter each purchase and add it to its contact's sum; tell both."""
    amounts = [p.event.lines[0].net_minor for p in purchases]
    contacts = [p.contact_id for p in purchases]
    notes = [p.event.order for p in purchases]
    await tx.execute(ADD, contacts, [p.id for p in purchases], notes, amounts)
    for p, amount in zip(purchases, amounts, strict=True):
        tx.publish(
            PointsAwarded(contact_id=p.contact_id, purchase_id=p.event.purchase_id, points=amount),
            cause=p,
        )


@several_per_contact
async def note(awards: Sequence[Delivery[PointsAwarded]], tx: Tx) -> None:
    """Enter each award."""
    points = [a.event.points for a in awards]
    contacts = [a.contact_id for a in awards]
    notes = [str(a.event.purchase_id) for a in awards]
    await tx.execute(ADD, contacts, [a.id for a in awards], notes, points)


class Toys:
    """Databases, topics and services of one test module."""

    def __init__(self, infra: Infra, prefix: str) -> None:
        self.infra = infra
        self.prefix = prefix
        self.running: list[InProcess] = []
        self._ports = iter(choose(40))

    async def database(self, service: str) -> str:
        """Return the DSN of a service's database, migrated and with positions at 0."""
        name = f"{self.prefix}_{service}"
        known = self.infra.database_exists(name)
        dsn = self.infra.create_database(name)
        if not known:
            await migrate(dsn)
            connection = await asyncpg.connect(dsn)
            await connection.execute(SCHEMA)
            await init_positions(connection, [*TOPICS[:-1], INBOUND], PARTITIONS)
            await connection.close()
        return dsn

    async def fresh_topics(self) -> None:
        """Delete the five topics and make them anew."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.infra.kafka)
        await admin.start()
        try:
            known = set(await admin.list_topics()) & set(TOPICS)
            if known:
                await admin.delete_topics(sorted(known))

            async def gone() -> bool:
                return not set(await admin.list_topics()) & set(TOPICS)

            await until(gone, "topics deleted")
            topics = [
                NewTopic(
                    t,
                    PARTITIONS,
                    1,
                    topic_configs={
                        "message.timestamp.type": "LogAppendTime",
                        "max.message.bytes": "1048588",
                    },
                )
                for t in TOPICS
            ]
            await admin.create_topics(topics)

            async def there() -> bool:
                try:
                    found = await admin.describe_topics(list(TOPICS))
                except UnknownTopicOrPartitionError:
                    return False
                return all(
                    len(t["partitions"]) == PARTITIONS
                    and all(p["leader"] >= 0 for p in t["partitions"])
                    for t in found
                )

            await until(there, "topics created")
        finally:
            await admin.close()

    async def define(
        self,
        service: str,
        handlers: Handlers,
        **more: Any,  # noqa: ANN401  fields of Definition
    ) -> Definition:
        """Return a definition with free ports; `settings` overrides single settings."""
        values = {
            "environment": "development",
            "database_dsn": await self.database(service),
            "kafka_bootstrap": self.infra.kafka,
            "port": next(self._ports),
            "ops_port": next(self._ports),
            "partitions": PARTITIONS,
            "lease_seconds": 2.0,
            **more.pop("settings", {}),
        }
        return Definition(service, ServiceSettings(**values), handlers, APIRouter(), **more)

    async def start(
        self,
        service: str,
        handlers: Handlers,
        **more: Any,  # noqa: ANN401
    ) -> InProcess:
        """Start a service in this loop and wait until it is ready."""
        process = InProcess(await self.define(service, handlers, **more))
        await process.start()
        self.running.append(process)
        await process.ready()
        return process

    async def stop(self) -> None:
        """Stop everything that still runs."""
        for process in self.running:
            await process.stop()
        self.running.clear()


async def buy(process: InProcess, contact: UUID, amounts: Sequence[int], tag: str = "") -> None:
    """Record purchases of one contact in one transaction."""

    async def body(tx: Tx) -> None:
        await tx.lock_keys([contact])
        for amount in amounts:
            event = purchase(contact, amount, f"{tag}{uuid4()}")
            tx.publish(event, cause=Command.drawn(contact))

    await process.running.database.transact(body)


async def fetch(process: InProcess, sql: str, *args: object) -> list[asyncpg.Record]:
    """Read from a service's database."""
    return await process.running.database.pool.fetch(sql, *args)


async def points(process: InProcess, contact: UUID) -> int:
    """Return the contact's sum in the book."""
    rows = await fetch(process, "select points from book where contact_id = $1", contact)
    return rows[0]["points"] if rows else 0
