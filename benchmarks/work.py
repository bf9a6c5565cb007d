"""The work that every contestant does: 400-byte purchases of 10,000 contacts on 6 partitions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from rapport.contracts.contacts import PurchaseRecorded
from rapport.messaging.ids import derived_id, key_hash

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTACTS = 10_000
PARTITIONS = 6
BODY_BYTES = 400
SETTINGS = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1048588"}


@dataclass(frozen=True, slots=True)
class Purchase:
    """One event: its id, its contact, and its body of 400 bytes."""

    event_id: UUID
    contact: UUID
    body: str


def purchases(count: int) -> Iterator[Purchase]:
    """Yield the same purchases every time, spread evenly over the contacts."""
    contacts = [derived_id("bench-contact", n) for n in range(CONTACTS)]
    for n in range(count):
        contact = contacts[n * 7919 % CONTACTS]
        document = {
            "contact_id": str(contact),
            "purchase_id": str(derived_id("bench-purchase", n)),
            "source": "bench",
            "order": str(n),
            "occurred_at": "2026-03-02T10:00:00+00:00",
            "currency": "USD",
            "lines": [{"line": "1", "sku": "", "quantity": 1, "net_minor": 100 + n % 900}],
        }
        missing = BODY_BYTES - len(json.dumps(document, separators=(",", ":")))
        document["lines"] = [{**document["lines"][0], "sku": "x" * missing}]  # type: ignore[dict-item]
        body = json.dumps(document, separators=(",", ":"))
        yield Purchase(derived_id("bench-event", n), contact, body)


async def make_topic(bootstrap: str, name: str) -> None:
    """Create a topic with the suite's settings."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        if name in await admin.list_topics():
            await admin.delete_topics([name])
            while name in await admin.list_topics():
                pass
        await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=SETTINGS)])
        while len((await admin.describe_topics([name]))[0].get("partitions", ())) < PARTITIONS:
            pass
    finally:
        await admin.close()


async def fill_outbox(dsn: str, count: int) -> None:
    """Write our outbox, 2,000 rows a transaction, as handlers would."""
    connection = await asyncpg.connect(dsn)
    rows = [
        (
            p.event_id,
            p.contact,
            key_hash(p.contact),
            PurchaseRecorded.type,
            p.body,
        )
        for p in purchases(count)
    ]
    try:
        for start in range(0, count, 2_000):
            columns = [list(c) for c in zip(*rows[start : start + 2_000], strict=True)]
            await connection.execute(
                "insert into rapport.outbox (event_id, key, hash, type, occurred_at, body) "
                "select e, k, h, t, now(), b from unnest($1::uuid[], $2::uuid[], $3::bigint[], "
                "$4::text[], $5::text[]) u(e, k, h, t, b)",
                *columns,
            )
    finally:
        await connection.close()
