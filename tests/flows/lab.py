"""Looks behind the core: writes to an outbox and to a log by hand, and reads a whole stream."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from rapport.clock import Clock
from rapport.contracts.contacts import PurchaseRecorded
from rapport.database import Database, connect
from rapport.messaging import tick
from rapport.messaging.delivery import Command, Delivery
from rapport.messaging.envelope import Envelope, parse
from rapport.messaging.ids import key_hash
from rapport.messaging.lease import Lease
from rapport.messaging.numbering import Numbered, Numbering
from rapport.messaging.transaction import Tx
from rapport.testing.inprocess import until
from tests.flows.toys import PARTITIONS, fetch, purchase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from rapport.messaging.backlog import Backlog
    from rapport.testing.inprocess import InProcess
    from rapport_local.infra import Infra

T = TypeVar("T")
CONTACTS = "contacts.events.v1"
LOYALTY = "loyalty.events.v1"
BULK = """
insert into rapport.outbox (event_id, key, hash, type, occurred_at, body)
select gen_random_uuid(), u.key, u.hash, $3, clock_timestamp(), $4
from generate_series(1, $5::int) n
    join unnest($1::uuid[], $2::bigint[]) with ordinality u(key, hash, place)
        on u.place = n % cardinality($1::uuid[]) + 1
"""


def contact_in(partition: int) -> UUID:
    """Draw a contact whose events go to this partition."""
    while True:
        contact = uuid4()
        if key_hash(contact) % PARTITIONS == partition:
            return contact


async def failing_nothing(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
    """A handler that is never called: the service consumes nothing of interest."""


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    """Open a service's database without the service."""
    database = await Database.open(dsn, Clock(simulated=False), partitions=PARTITIONS, size=4)
    try:
        yield database
    finally:
        await database.close()


async def record(database: Database, contact: UUID, orders: Iterable[str], amount: int = 1) -> None:
    """Record purchases with these order numbers in one transaction."""

    async def body(tx: Tx) -> None:
        await tx.lock_keys([contact])
        for order in orders:
            tx.publish(purchase(contact, amount, order), cause=Command.drawn(contact))

    await database.transact(body)


async def add_in_bulk(database: Database, rows: int, contacts: Sequence[UUID]) -> None:
    """Add outbox rows by one statement, in a transaction of their own."""
    body = b'{"contact_id":"00000000-0000-0000-0000-000000000000"}'.decode()
    await database.pool.execute(
        BULK,
        list(contacts),
        [key_hash(contact) for contact in contacts],
        PurchaseRecorded.type,
        body,
        rows,
    )


async def number_outbox(dsn: str, stream: str) -> list[Numbered]:
    """Cut a tick as the lease holder and return its records; the lease is given back."""
    connection = await connect(dsn)
    lease = Lease(None, 0.1)
    try:
        await lease.acquire(connection)
        last = await tick.find_last(connection, PARTITIONS)
        cut = await tick.cut(connection, lease, last)
        if cut is None:
            return []
        numbering = Numbering(stream, cut)
        async for rows in tick.list_rows(connection, last.snapshot, cut):
            records = [numbering.record(row) for row in rows]
        await lease.release(connection)
        return records
    finally:
        await connection.close()


async def send(infra: Infra, stream: str, records: Iterable[Numbered]) -> None:
    """Write records to the log as they come, each acknowledged before the next."""
    producer = AIOKafkaProducer(bootstrap_servers=infra.kafka, linger_ms=0)
    await producer.start()
    try:
        for partition, _, key, value, headers in records:
            await producer.send_and_wait(
                stream, value, key=key, partition=partition, headers=headers
            )
    finally:
        await producer.stop()


async def read_stream(infra: Infra, stream: str) -> list[Envelope]:
    """Return everything that the log holds now, partition by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=infra.kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(stream, partition) for partition in range(PARTITIONS)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found: list[Envelope] = []
        for place in places:
            while await consumer.position(place) < ends[place]:
                batches = await consumer.getmany(place, timeout_ms=200)
                found.extend(parse(r) for r in batches.get(place, ()) if r.offset < ends[place])
        return found
    finally:
        await consumer.stop()


async def count_records(infra: Infra, stream: str) -> int:
    """Return how many records the log was given so far."""
    consumer = AIOKafkaConsumer(bootstrap_servers=infra.kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(stream, partition) for partition in range(PARTITIONS)]
        return sum((await consumer.end_offsets(places)).values())
    finally:
        await consumer.stop()


async def renew_topic(infra: Infra, stream: str) -> None:
    """Delete a topic with all that it holds and make it anew."""
    admin = AIOKafkaAdminClient(bootstrap_servers=infra.kafka)
    await admin.start()
    try:
        await admin.delete_topics([stream])

        async def gone() -> bool:
            return stream not in await admin.list_topics()

        await until(gone, f"{stream} deleted")
        configs = {"message.timestamp.type": "LogAppendTime"}
        await admin.create_topics([NewTopic(stream, PARTITIONS, 1, topic_configs=configs)])

        async def there() -> bool:
            (found,) = await admin.describe_topics([stream])
            partitions = found["partitions"]
            return len(partitions) == PARTITIONS and all(p["leader"] >= 0 for p in partitions)

        await until(there, f"{stream} created")
    finally:
        await admin.close()


@dataclass
class Log:
    """What a stream holds, judged by its numbers."""

    envelopes: list[Envelope]

    @property
    def contents(self) -> dict[tuple[int, int], UUID]:
        """The event of each (partition, number)."""
        return {(e.partition, e.number): e.id for e in self.envelopes}

    def check(self, events: int) -> None:
        """One event under each number, one number for each event, and no number left out."""
        meanings = {(e.partition, e.number, e.id) for e in self.envelopes}
        assert len(meanings) == len(self.contents), "a number means two events"
        assert len(set(self.contents.values())) == len(self.contents), "an event has two numbers"
        last = Counter(partition for partition, _ in self.contents)
        for partition, count in last.items():
            numbers = sorted(n for p, n in self.contents if p == partition)
            assert numbers == list(range(1, count + 1)), f"partition {partition} has holes"
        assert len(self.contents) == events


async def entered(process: InProcess, count: int, seconds: float = 60.0) -> None:
    """Wait until the toy has so many entries; more are caught by the caller's totals."""

    async def enough() -> bool:
        rows = await fetch(process, "select count(*) from entry")
        return bool(rows[0][0] >= count)

    await until(enough, f"{count} entries", seconds)


async def orders_of(process: InProcess, contact: UUID) -> list[str]:
    """Return the contact's orders as they were entered."""
    sql = "select note from entry where contact_id = $1 order by id"
    return [row["note"] for row in await fetch(process, sql, contact)]


async def assert_nothing_parked(*processes: InProcess) -> None:
    """No event waits aside and no record was rejected."""
    for process in processes:
        for table in ("parked_event", "rejected_record"):
            rows = await fetch(process, f"select to_jsonb(t) from rapport.{table} t")  # noqa: S608
            assert not rows, f"{process.definition.name}: {table} {[dict(r) for r in rows][:3]}"


def hold(target: Any, name: str) -> Callable[[], None]:  # noqa: ANN401  any object of the core
    """Make an async method that tells whether it did something do nothing; return the release."""
    original: Callable[..., Awaitable[bool]] = getattr(target, name)

    async def nothing(*_: object) -> bool:
        return False

    setattr(target, name, nothing)
    return lambda: setattr(target, name, original)


def hold_partition(backlog: Backlog) -> Callable[[], None]:
    """Keep a partition from being applied, while it is read on; return the release."""
    backlog.not_before = float("inf")

    def release() -> None:
        backlog.not_before = 0.0

    return release


async def soon(waiting: Awaitable[T], seconds: float = 30.0) -> T:
    """Wait for something that is about to happen; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        return await waiting
