"""Nothing written is left out, and no writer holds the others up."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest
import structlog

from rapport.contracts.contacts import PurchaseRecorded
from rapport.database import connect
from rapport.messaging import outbox, tick
from rapport.messaging.delivery import Command
from rapport.messaging.ids import key_hash
from rapport.messaging.transaction import KeyNotLockedError, Tx
from rapport.testing.inprocess import until
from tests.flows import lab
from tests.flows.lab import CONTACTS, Log
from tests.flows.toys import PARTITIONS, TIME, enter, fetch, points, purchase

if TYPE_CHECKING:
    from uuid import UUID

    from rapport.messaging.lease import Lease
    from rapport.messaging.tick import Tick
    from rapport.pgtypes import Connection
    from rapport.testing.inprocess import InProcess
    from rapport_local.infra import Infra
    from tests.flows.toys import Toys

log = structlog.get_logger()

ROWS = 200_000
PER_TRANSACTION = 5_000


async def sent(process: InProcess, events: int, seconds: float = 120.0) -> None:
    relay = process.running.leading.relay

    async def acknowledged() -> bool:
        return sum(relay.acknowledged) >= events

    await until(acknowledged, f"{events} events acknowledged", seconds)


async def test_a_late_commit_is_not_skipped(toys: Toys, infra: Infra) -> None:
    """Identity and xid come first, the commit last, while later rows are ticked and sent."""
    till = await toys.start("contacts", {})
    book = await toys.start("loyalty", {PurchaseRecorded: enter})
    late, others = uuid4(), [uuid4() for _ in range(10)]
    database = till.running.database
    await database.add_keys([late])
    connection = await connect(till.definition.settings.database_dsn)
    async with connection.transaction():
        tx = Tx(connection, TIME)
        await tx.lock_keys([late])
        tx.publish(purchase(late, 7, "late"), cause=Command.drawn(late))
        await outbox.write(tx, PARTITIONS)
        for round_ in range(5):
            for contact in others:
                await lab.record(database, contact, [f"{round_}"])
            await sent(till, 10 * (round_ + 1))
    await connection.close()
    await lab.record(database, others[0], ["5"])
    await lab.entered(book, 52)
    assert await points(book, late) == 7
    Log(await lab.read_stream(infra, CONTACTS)).check(52)
    for contact in others:
        assert (await lab.orders_of(book, contact))[:5] == ["0", "1", "2", "3", "4"]
    await lab.assert_nothing_parked(till, book)


async def test_an_early_xid_does_not_overtake_on_its_contact(toys: Toys, infra: Infra) -> None:
    """A transaction that took its xid first and the contact's lock second comes second."""
    dsn = await toys.database("contacts")
    contact = uuid4()
    async with lab.opened(dsn) as database:
        await database.add_keys([contact])
        early = await connect(dsn)
        async with early.transaction():
            await early.execute("select pg_current_xact_id()")
            await lab.record(database, contact, ["first"])
            tx = Tx(early, TIME)
            await tx.lock_keys([contact])
            tx.publish(purchase(contact, 1, "second"), cause=Command.drawn(contact))
            await outbox.write(tx, PARTITIONS)
        await early.close()
    await toys.start("contacts", {})
    book = await toys.start("loyalty", {PurchaseRecorded: enter})
    await lab.entered(book, 2)
    assert await lab.orders_of(book, contact) == ["first", "second"]
    Log(await lab.read_stream(infra, CONTACTS)).check(2)


async def test_commits_of_a_contact_keep_their_order(toys: Toys, infra: Infra) -> None:
    """Writers race for four contacts with early xids and pauses; a counter tells their order."""
    till = await toys.start("contacts", {})
    book = await toys.start("loyalty", {PurchaseRecorded: enter})
    database, rng = till.running.database, random.Random(9)  # noqa: S311  timings
    contacts = [lab.contact_in(n % PARTITIONS) for n in range(4)]
    await database.add_keys(contacts)
    count = dict.fromkeys(contacts, 0)

    async def write(contact: UUID, before: float, after: float, *, early: bool) -> None:
        async def body(tx: Tx) -> None:
            if early:
                await tx.execute("select pg_current_xact_id()")
            await asyncio.sleep(before)
            await tx.lock_keys([contact])
            count[contact] += 1
            tx.publish(purchase(contact, 1, f"{count[contact]}"), cause=Command.drawn(contact))
            await asyncio.sleep(after)

        await database.transact(body)

    jobs = [
        write(rng.choice(contacts), rng.random() / 50, rng.random() / 100, early=rng.random() < 0.5)
        for _ in range(300)
    ]
    await asyncio.gather(*jobs)
    await lab.entered(book, 300)
    for contact in contacts:
        expected = [str(n) for n in range(1, count[contact] + 1)]
        assert await lab.orders_of(book, contact) == expected
    Log(await lab.read_stream(infra, CONTACTS)).check(300)


async def test_publish_needs_the_lock(toys: Toys) -> None:
    """Unknown keys are added in a transaction of their own before the body runs again."""
    async with lab.opened(await toys.database("contacts")) as database:
        contact, runs = uuid4(), []

        async def body(tx: Tx) -> None:
            runs.append(1)
            await tx.lock_keys([contact])
            tx.publish(purchase(contact, 1, "1"), cause=Command.drawn(contact))

        async with database.read() as tx:
            with pytest.raises(KeyNotLockedError):
                tx.publish(purchase(contact, 1, "1"), cause=Command.drawn(contact))
        await database.transact(body)
        assert len(runs) == 2


async def test_sql_agrees_about_partitions(toys: Toys) -> None:
    """`hash % n` in SQL is the partition that the relay gives, for any count."""
    async with lab.opened(await toys.database("contacts")) as database:
        for _ in range(30):
            await lab.record(database, uuid4(), ["1"])
        for count in (1, 3, 6, 12, 1024):
            rows = await database.pool.fetch(
                "select key, hash, (hash % $1::int)::int as partition from rapport.outbox", count
            )
            for row in rows:
                assert row["partition"] == key_hash(row["key"]) % count
                assert row["hash"] == key_hash(row["key"])


async def pass_rows(till: InProcess, contacts: list[UUID], before: int) -> tuple[float, int]:
    """Let 200,000 rows through; return seconds, and index entries read per row."""
    database = till.running.database
    count = (
        "select coalesce(sum(idx_tup_read), 0)::bigint from pg_stat_user_indexes"
        " where indexrelname like 'outbox%xid%'"
    )
    read_before = (await fetch(till, count))[0][0]
    started = time.monotonic()
    for n in range(ROWS // PER_TRANSACTION):
        await lab.add_in_bulk(database, PER_TRANSACTION, contacts)
        if n % 4 == 3:
            await sent(till, before + (n + 1) * PER_TRANSACTION)
    await sent(till, before + ROWS)
    seconds = time.monotonic() - started

    async def reported() -> bool:
        await database.pool.execute("select pg_stat_clear_snapshot()")
        return bool((await fetch(till, count))[0][0] >= read_before + ROWS)

    await until(reported, "statistics of the index")
    return seconds, ((await fetch(till, count))[0][0] - read_before) // ROWS


async def test_an_open_transaction_holds_nothing_up(
    toys: Toys, infra: Infra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200,000 rows pass while a foreign transaction holds an xid; cutting reads no row twice."""
    till = await toys.start("contacts", {})
    contacts = [uuid4() for _ in range(50)]
    cuts: list[float] = []
    cut = tick.cut

    async def timed(connection: Connection, lease: Lease, last: Tick) -> Tick | None:
        started = time.monotonic()
        made = await cut(connection, lease, last)
        if made is not None:
            cuts.append((time.monotonic() - started) / made.size)
        return made

    monkeypatch.setattr(tick, "cut", timed)
    free, free_reads = await pass_rows(till, contacts, 0)
    free_cut = sum(cuts) / len(cuts)
    cuts.clear()
    foreign = await asyncpg.connect(till.definition.settings.database_dsn)
    try:
        await foreign.execute("begin")
        await foreign.execute("select pg_current_xact_id()")
        held, held_reads = await pass_rows(till, contacts, ROWS)
    finally:
        await foreign.close()
    ratio = sum(cuts) / len(cuts) / free_cut
    log.info(
        "rows_passed",
        free_seconds=round(free, 1),
        held_seconds=round(held, 1),
        cutting_ratio=round(ratio, 2),
        free_reads=free_reads,
        held_reads=held_reads,
    )
    assert held_reads <= free_reads + 2
    assert await lab.count_records(infra, CONTACTS) >= 2 * ROWS
