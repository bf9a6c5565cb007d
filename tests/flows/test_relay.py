"""The relay: frozen and woken, holes in the log, a log that lost its end, a fork."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from rapport.contracts.contacts import PurchaseRecorded
from rapport.messaging import tick
from rapport.messaging.lease import Lease, LeaseLostError
from rapport.messaging.wire import Wire
from rapport.testing.inprocess import until
from tests.flows import lab, relay_process
from tests.flows.lab import CONTACTS, Log
from tests.flows.leader import Leader
from tests.flows.toys import enter, fetch

if TYPE_CHECKING:
    from rapport.messaging.tick import Tick
    from rapport.pgtypes import Connection
    from rapport.testing.inprocess import InProcess
    from rapport_local.infra import Infra
    from tests.flows.toys import Toys


async def book_of(toys: Toys) -> InProcess:
    return await toys.start("loyalty", {PurchaseRecorded: enter})


async def totals(book: InProcess, events: int) -> None:
    """Every purchase has one entry, and every entry is in the sum."""
    await lab.entered(book, events)
    rows = await fetch(
        book, "select count(*), sum(number), (select sum(points) from book) from entry"
    )
    assert list(rows[0].values()) == [events, events, events]
    await lab.assert_nothing_parked(book)


async def test_a_relay_that_froze_between_cut_and_send_is_harmless(
    toys: Toys, infra: Infra, leaders: list[Leader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another took over meanwhile: the same numbers, no doubled effect, its next tick refused."""
    dsn, contacts = await toys.database("contacts"), [lab.contact_in(n % 3) for n in range(30)]
    book = await book_of(toys)
    frozen, woken, repeated = asyncio.Event(), asyncio.Event(), asyncio.Event()
    first = await Leader(dsn, infra.kafka).start()
    leaders.append(first)
    cut_tick, send_tick = tick.cut, first.relay._send_tick

    async def freeze(connection: Connection, wire: Wire, cut: Tick) -> None:
        frozen.set()
        await woken.wait()
        await send_tick(connection, wire, cut)
        await wire.settle()
        repeated.set()

    async def freeze_too(connection: Connection, lease: Lease, last: Tick) -> Tick | None:
        if lease is first.lease and frozen.is_set():
            await repeated.wait()
        return await cut_tick(connection, lease, last)

    monkeypatch.setattr(first.relay, "_send_tick", freeze)
    monkeypatch.setattr(tick, "cut", freeze_too)
    async with lab.opened(dsn) as database:
        for contact in contacts:
            await lab.record(database, contact, ["1"])
        first.relay.wake.set()
        await lab.soon(frozen.wait())
        second = await Leader(dsn, infra.kafka).start()
        leaders.append(second)
        for contact in contacts:
            await lab.record(database, contact, ["2"])
        await second.sent(60)
        woken.set()
        await lab.record(database, contacts[0], ["3"])
        assert isinstance(await first.ended(), LeaseLostError)
        await second.sent(61)
        assert first.relay.fork is None
    await totals(book, 61)
    log = await lab.read_stream(infra, CONTACTS)
    assert len(log) > 61, "the woken relay repeated nothing: the test did not test"
    Log(log).check(61)
    for contact in contacts[1:]:
        assert await lab.orders_of(book, contact) == ["1", "2"]


async def test_a_stopped_process_is_taken_over_and_ends_when_it_wakes(
    toys: Toys, infra: Infra, leaders: list[Leader]
) -> None:
    """SIGSTOP beyond the lease, under load, then SIGCONT."""
    dsn, contacts = await toys.database("contacts"), [uuid4() for _ in range(20)]
    book = await book_of(toys)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", relay_process.__name__, dsn, infra.kafka, CONTACTS, "3"),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while await process.stdout.readline() != b"leading\n":
                pass
        async with lab.opened(dsn) as database:
            for n in range(20):
                for contact in contacts:
                    await lab.record(database, contact, [f"{n}"])
                if n == 10:
                    await lab.entered(book, 20)
                    process.send_signal(signal.SIGSTOP)
            leader = await Leader(dsn, infra.kafka).start()
            leaders.append(leader)
            await leader.sent(400)
            process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(20):
                assert await process.wait() == relay_process.LEASE_LOST
            await lab.record(database, contacts[0], ["20"])
            leader.relay.wake.set()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    await totals(book, 401)
    Log(await lab.read_stream(infra, CONTACTS)).check(401)
    for contact in contacts[1:]:
        assert await lab.orders_of(book, contact) == [str(n) for n in range(20)]


async def test_a_woken_relay_does_not_take_its_successor_for_a_fork(
    toys: Toys, infra: Infra, leaders: list[Leader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own last tick is behind Kafka, because another has the lease: that is no fork."""
    dsn, contact = await toys.database("contacts"), uuid4()
    first = await Leader(dsn, infra.kafka).start()
    leaders.append(first)
    async with lab.opened(dsn) as database:
        await lab.record(database, contact, ["1"])
        await first.sent(1)
        frozen, woken = asyncio.Event(), asyncio.Event()

        async def freeze(*_: object) -> None:
            frozen.set()
            await woken.wait()
            raise ConnectionError("Kafka closed the connection meanwhile")

        async def idle(*_: object) -> None:
            await woken.wait()
            await asyncio.sleep(3600)

        monkeypatch.setattr(first.relay, "_send_until_error", freeze)
        monkeypatch.setattr(first.relay, "_cut_ticks", idle)
        first.relay._news.set()
        await first.stop()
        first.task = asyncio.create_task(first.relay.lead(first.lease))
        await lab.soon(frozen.wait())
        second = await Leader(dsn, infra.kafka).start()
        leaders.append(second)
        await lab.record(database, contact, ["2"])
        await second.sent(2)
        woken.set()
        assert isinstance(await first.ended(), LeaseLostError)
        assert first.relay.fork is None


async def complete_log(infra: Infra, events: int) -> None:
    """Wait until the log holds every number."""

    async def complete() -> bool:
        return len(Log(await lab.read_stream(infra, CONTACTS)).contents) == events

    await until(complete, f"{events} numbers in the log", 60)
    Log(await lab.read_stream(infra, CONTACTS)).check(events)


async def test_a_hole_is_healed_by_the_resend_behind_it(toys: Toys, infra: Infra) -> None:
    """The log holds 51 to 100, then 1 to 60, then the end again: numbers decide, not places."""
    dsn, contact = await toys.database("contacts"), lab.contact_in(1)
    book = await book_of(toys)
    async with lab.opened(dsn) as database:
        await lab.record(database, contact, map(str, range(1, 101)))
    records = await lab.number_outbox(dsn, CONTACTS)
    assert [r.number for r in records] == list(range(1, 101))
    await lab.send(infra, CONTACTS, records[50:])
    await lab.send(infra, CONTACTS, records[:60])
    await lab.send(infra, CONTACTS, records[30:40])
    await lab.send(infra, CONTACTS, records[55:])
    await totals(book, 100)
    assert await lab.orders_of(book, contact) == [str(n) for n in range(1, 101)]


async def test_the_relay_resends_from_the_lowest_unacknowledged(
    toys: Toys, infra: Infra, leaders: list[Leader]
) -> None:
    """Kafka holds 51 to 100 of what nobody acknowledged: a last record vouches for no other."""
    dsn, contact = await toys.database("contacts"), lab.contact_in(2)
    book = await book_of(toys)
    async with lab.opened(dsn) as database:
        await lab.record(database, contact, map(str, range(1, 101)))
    records = await lab.number_outbox(dsn, CONTACTS)
    await lab.send(infra, CONTACTS, records[50:])
    leaders.append(await Leader(dsn, infra.kafka).start())
    await totals(book, 100)
    Log(await lab.read_stream(infra, CONTACTS)).check(100)


async def test_a_log_that_lost_its_end_is_filled_again(
    toys: Toys, infra: Infra, leaders: list[Leader]
) -> None:
    """The topic comes back with 30 of 100 acknowledged records; the consumer has applied 60."""
    dsn, contact = await toys.database("contacts"), lab.contact_in(0)
    async with lab.opened(dsn) as database:
        await lab.record(database, contact, map(str, range(1, 61)))
        records = await lab.number_outbox(dsn, CONTACTS)
        first = await Leader(dsn, infra.kafka).start()
        leaders.append(first)
        book = await book_of(toys)
        await totals(book, 60)
        await toys.stop()
        await lab.record(database, contact, map(str, range(61, 101)))
        first.relay.wake.set()
        await first.sent(100)

        async def marked() -> bool:
            mark = await database.pool.fetchval("select acknowledged from rapport.relay_progress")
            return bool(mark[0] == 100)

        await until(marked, "100 marked as acknowledged")
    await first.stop()
    await lab.renew_topic(infra, CONTACTS)
    await lab.send(infra, CONTACTS, records[:30])
    leaders.append(await Leader(dsn, infra.kafka).start())
    await complete_log(infra, 100)
    book = await book_of(toys)
    await totals(book, 100)
    assert await lab.orders_of(book, contact) == [str(n) for n in range(1, 101)]


async def test_a_log_that_starts_anew_under_a_running_relay_is_filled_again(
    toys: Toys, infra: Infra, leaders: list[Leader]
) -> None:
    """The broker takes the next batch of the same producer as the first of an empty log."""
    dsn, contact = await toys.database("contacts"), lab.contact_in(0)
    leader = await Leader(dsn, infra.kafka).start()
    leaders.append(leader)
    async with lab.opened(dsn) as database:
        await lab.record(database, contact, map(str, range(1, 51)))
        await leader.sent(50)
        await lab.renew_topic(infra, CONTACTS)
        await lab.record(database, contact, map(str, range(51, 61)))
        leader.relay.wake.set()
        await complete_log(infra, 60)
