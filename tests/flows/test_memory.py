"""Outages leave long backlogs: on the producer's side in the outbox, on the consumer's in Kafka."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec

from rapport.contracts.contacts import PurchaseRecorded
from rapport.messaging.ids import key_hash
from rapport.messaging.reading import QUEUE_BYTES
from rapport.testing.inprocess import until
from tests.flows import lab
from tests.flows.faults import rejected_of
from tests.flows.lab import BULK, CONTACTS, LOYALTY
from tests.flows.test_rejection import put
from tests.flows.toy_process import ToyProcess
from tests.flows.toys import Toys, enter, purchase

if TYPE_CHECKING:
    from rapport.database import Database
    from rapport_local.infra import Infra

ROWS = 200_000
MOST_MB = 250.0
PATIENCE_SECONDS = 300.0


async def fill(database: Database) -> None:
    """Write 200,000 purchases into the outbox, 20,000 a transaction."""
    contacts = [uuid4() for _ in range(2000)]
    body = msgspec.json.encode(purchase(contacts[0], 1, "bulk")).decode()
    hashes = [key_hash(contact) for contact in contacts]
    for _ in range(10):
        arguments = (contacts, hashes, PurchaseRecorded.type, body, ROWS // 10)
        await database.pool.execute(BULK, *arguments)


async def test_an_outage_of_kafka(toys: Toys, infra: Infra) -> None:
    """Neither the service that could not send nor the one that reads it all later grows."""
    await toys.database("loyalty")
    async with lab.opened(await toys.database("contacts")) as database:
        await asyncio.to_thread(infra.stop_kafka)
        till = await ToyProcess.start(toys, "contacts")
        try:
            await fill(database)

            async def ticked() -> bool:
                sql = "select after from rapport.tick order by number desc limit 1"
                return sum(await database.pool.fetchval(sql) or ()) == ROWS

            await until(ticked, "ticks are cut while Kafka is down", PATIENCE_SECONDS)
        finally:
            await asyncio.to_thread(infra.start_kafka)

        async def drained() -> bool:
            return await lab.count_records(infra, CONTACTS) >= ROWS

        await until(drained, f"{ROWS} records sent", PATIENCE_SECONDS)
        producer_mb = till.memory_mb()
        assert await till.stop() == 0
    consumer_mb = await apply_all(toys, infra)
    print(f"\nmost memory: producer {producer_mb:.0f} MB, consumer {consumer_mb:.0f} MB")  # noqa: T201  a figure
    assert producer_mb < MOST_MB
    assert consumer_mb < MOST_MB


async def apply_all(toys: Toys, infra: Infra) -> float:
    """Let a consumer with its own publications catch up; return its memory."""
    desk = await ToyProcess.start(toys, "loyalty")
    async with lab.opened(await toys.database("loyalty")) as database:

        async def applied() -> bool:
            return bool(await database.pool.fetchval("select count(*) from entry") >= ROWS)

        await until(applied, f"{ROWS} purchases applied", PATIENCE_SECONDS)
        assert await database.pool.fetchval("select sum(points) from book") == ROWS

        async def told() -> bool:
            return await lab.count_records(infra, LOYALTY) >= ROWS

        await until(told, f"{ROWS} awards sent", PATIENCE_SECONDS)
    memory = desk.memory_mb()
    assert await desk.stop() == 0
    return memory


async def test_large_records_fill_a_queue_early(toys: Toys, infra: Infra) -> None:
    """A queue is bounded in bytes too: 30 records of 900 kB wait in Kafka, not in memory."""
    desk = await toys.start("loyalty", {PurchaseRecorded: enter})
    runner = desk.running.consuming.runners[CONTACTS]
    release = lab.hold(runner, "_step")
    for _ in range(30):
        await put(infra, CONTACTS, 0, {}, b"x" * 900_000)

    async def paused() -> bool:
        return runner.backlogs[0].paused

    await until(paused, "the partition is paused")
    assert runner.backlogs[0].bytes < QUEUE_BYTES + 2_000_000
    release()

    async def rejected() -> bool:
        return len(await rejected_of(desk)) == 30

    await until(rejected, "all are rejected, and reading went on")
