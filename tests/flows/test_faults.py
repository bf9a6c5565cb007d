"""Replicas, rebalances, kills and restarts in mid-load: the same totals, the same order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from rapport import consuming
from rapport.contracts.contacts import PurchaseRecorded
from rapport.contracts.loyalty import PointsAwarded
from rapport.messaging import subscriber
from rapport.pgtypes import required
from rapport.testing.inprocess import InProcess, until
from tests.flows import book_process, lab
from tests.flows.lab import CONTACTS, LOYALTY, Log
from tests.flows.toys import PARTITIONS, enter, fetch, note

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from faststream.kafka import KafkaBroker
    from faststream.kafka.subscriber.usecase import BatchSubscriber

    from rapport.messaging.runner import Runner
    from rapport.pgtypes import Connection
    from rapport_local.infra import Infra
    from tests.flows.toys import Toys

PARTITIONS_OF = """
select distinct partition from rapport.batch_log
where stream = $1 and committed_at > $2 and worker like $3
"""
WORKERS = "select distinct worker from rapport.batch_log where applied > 0"


class Load:
    """Writes purchases of 30 contacts, numbered per contact, until told to stop."""

    def __init__(self, till: InProcess) -> None:
        self.till = till
        self.contacts = [lab.contact_in(n % 3) for n in range(30)]
        self.written = 0
        self.size = 3
        self._stopping = False
        self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        number = dict.fromkeys(self.contacts, 0)
        while not self._stopping:
            for contact in self.contacts:
                size = self.size
                orders = [f"{number[contact] + n:06}" for n in range(size)]
                try:
                    await lab.record(self.till.running.database, contact, orders)
                except (
                    OSError,
                    asyncpg.PostgresError,
                    asyncpg.InterfaceError,
                    asyncpg.InternalClientError,
                ):
                    # It may have been committed: then the next numbers come a second time.
                    await asyncio.sleep(0.1)
                else:
                    number[contact] += size
                    self.written += size
            await asyncio.sleep(0.01)

    async def more(self, purchases: int) -> None:
        """Wait until so many more were written."""
        target = self.written + purchases

        async def enough() -> bool:
            assert not self._task.done(), self._task.exception()
            return self.written >= target

        await until(enough, f"{purchases} more purchases", 120)

    async def stop(self) -> int:
        """Stop; return how many purchases the outbox holds."""
        self._stopping = True
        await self._task
        sql = "select count(distinct event_id) from rapport.outbox"
        return int((await fetch(self.till, sql))[0][0])


async def check(book: Connection, contacts: Sequence[UUID], purchases: int) -> None:
    """Each purchase was entered once, in its contact's order, and nothing waits aside."""
    sums = "select count(*), sum(number), (select sum(points) from book) from entry"

    async def complete() -> bool:
        return bool(required(await book.fetchrow(sums))[0] >= purchases)

    await until(complete, f"{purchases} entries", 120)
    assert list(required(await book.fetchrow(sums))) == [purchases, purchases, purchases]
    for contact in contacts:
        notes = await book.fetch(
            "select note from entry where contact_id = $1 order by id", contact
        )
        orders = [row["note"] for row in notes]
        assert orders == sorted(orders), f"inversion at {contact}"
    assert await book.fetchval("select count(*) from rapport.parked_event") == 0


@asynccontextmanager
async def replica(toys: Toys, infra: Infra) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the book as a process."""
    definition = await toys.define("loyalty", {})
    settings = definition.settings
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RAPPORT_ENVIRONMENT": "development",
        "RAPPORT_DATABASE_DSN": settings.database_dsn,
        "RAPPORT_KAFKA_BOOTSTRAP": infra.kafka,
        "RAPPORT_PORT": str(settings.port),
        "RAPPORT_OPS_PORT": str(settings.ops_port),
        "RAPPORT_PARTITIONS": str(settings.partitions),
        "RAPPORT_LEASE_SECONDS": "2",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", book_process.__name__, "serve"),
        stdout=asyncio.subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
        env=environment,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_replicas_come_and_go_under_load(toys: Toys, infra: Infra) -> None:
    """One freezes over a full queue, another takes over, it wakes; one is killed, one leaves."""
    till = await toys.start("contacts", {})
    book = await asyncpg.connect(await toys.database("loyalty"))
    load = Load(till)

    async def works(process: asyncio.subprocess.Process) -> None:
        async def seen() -> bool:
            assert process.returncode is None
            workers = [row["worker"] for row in await book.fetch(WORKERS)]
            return any(worker.endswith(f"/{process.pid}") for worker in workers)

        await until(seen, f"replica {process.pid} applied something", 90)

    async def alone(process: asyncio.subprocess.Process) -> None:
        since = await book.fetchval("select clock_timestamp()")

        async def everywhere() -> bool:
            rows = await book.fetch(PARTITIONS_OF, CONTACTS, since, f"%/{process.pid}")
            return len(rows) == PARTITIONS

        await until(everywhere, f"replica {process.pid} works on every partition", 90)

    async with replica(toys, infra) as first, replica(toys, infra) as second:
        await works(first)
        await works(second)
        load.size = 60
        await load.more(1800)
        first.send_signal(signal.SIGSTOP)
        load.size = 3
        await alone(second)
        first.send_signal(signal.SIGCONT)
        await load.more(300)
        first.send_signal(signal.SIGKILL)
        await first.wait()
        await alone(second)
        second.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await second.wait() == 0
        async with replica(toys, infra) as third:
            await load.more(300)
            await works(third)
            await check(book, load.contacts, await load.stop())
    await book.close()


async def test_two_owners_of_every_partition(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a replica that has not noticed its rebalance: the position row decides between them."""
    till = await toys.start("contacts", {})
    book = await toys.start("loyalty", {PurchaseRecorded: enter})

    def in_another_group(
        broker: KafkaBroker, topic: str, group: str, runner: Runner, instance: str | None
    ) -> BatchSubscriber:
        return subscriber.subscribe(broker, topic, f"{group}-other", runner, instance)

    monkeypatch.setattr(consuming, "subscribe", in_another_group)
    other = InProcess(await toys.define("loyalty", {PurchaseRecorded: enter}))
    await other.start()
    toys.running.append(other)

    async def owns_all() -> bool:
        runner = other.running.consuming.runners[CONTACTS]
        return len(runner.backlogs) == PARTITIONS

    await until(owns_all, "the other owns every partition too")
    load = Load(till)
    load.size = 30
    await load.more(6000)
    async with book.running.database.pool.acquire() as connection:
        await check(connection, load.contacts, await load.stop())
    await lab.assert_nothing_parked(book)


async def flow(toys: Toys) -> tuple[InProcess, InProcess]:
    till = await toys.start("contacts", {PointsAwarded: note})
    return till, await toys.start("loyalty", {PurchaseRecorded: enter})


async def check_both(till: InProcess, book: InProcess, load: Load, infra: Infra) -> None:
    """Purchases arrived at the book, awards came back to the till, each once."""
    purchases = await load.stop()
    await lab.entered(till, purchases, 90)
    async with book.running.database.pool.acquire() as connection:
        await check(connection, load.contacts, purchases)
    rows = await fetch(till, "select count(*), sum(number) from entry")
    assert list(rows[0].values()) == [purchases, purchases]
    await lab.assert_nothing_parked(till, book)
    Log(await lab.read_stream(infra, CONTACTS)).check(purchases)
    Log(await lab.read_stream(infra, LOYALTY)).check(purchases)


async def test_kafka_restarts_under_load(toys: Toys, infra: Infra) -> None:
    """Purchases go on while Kafka is away; ticks are cut, nothing is lost, doubled or parked."""
    till, book = await flow(toys)
    load = Load(till)
    await load.more(300)
    await lab.entered(book, 100)
    await asyncio.to_thread(infra.kill, "kafka", signal.SIGKILL)
    await asyncio.to_thread(infra.stop_kafka)
    await load.more(300)
    await asyncio.to_thread(infra.start_kafka)
    await load.more(300)
    await check_both(till, book, load, infra)


async def test_postgres_restarts_under_load(toys: Toys, infra: Infra) -> None:
    """All connections break, writers see errors, then everything goes on; nothing is parked."""
    till, book = await flow(toys)
    load = Load(till)
    await load.more(300)
    await lab.entered(book, 100)
    await asyncio.to_thread(infra.stop_postgres)
    await asyncio.to_thread(infra.start_postgres)
    await load.more(300)
    await check_both(till, book, load, infra)
