"""What a failed transaction means: retried for ever, halved, or parked; by kind of failure."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from rapport.contracts.contacts import PurchaseRecorded
from rapport.messaging import runner
from rapport.messaging.delivery import Command, Delivery
from rapport.messaging.handler import several_per_contact
from rapport.testing.inprocess import until
from tests.flows import lab
from tests.flows.faults import Fault, Poison, parked_of, raise_state, until_called, until_parked
from tests.flows.toys import Toys, enter, fetch, points, purchase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rapport.messaging.transaction import Tx
    from rapport.testing.inprocess import InProcess

RETRIED = (
    *("08006", "08000", "40001", "40P01", "42703", "42P01", "53100", "53200", "53300", "55P03"),
    *("57P01", "57014", "58030", "25006", "XX000", "0A000", "21000", "P0004"),
)
PARKED = ("22003", "22P02", "23505", "23503", "P0001")
ATTEMPTS = 3


async def wrong_argument(tx: Tx) -> None:
    """Give a driver something that it refuses before Postgres sees it."""
    await tx.fetchval("select $1::int", 2**40)


async def nul_character(tx: Tx) -> None:
    """Give Postgres a text that it cannot hold."""
    await tx.fetchval("select $1::text", "a\0b")


async def key_error(_tx: Tx) -> None:
    """Fail in Python."""
    raise KeyError("missing")


async def recursion(tx: Tx) -> None:
    """Fail in Python, differently."""
    await recursion(tx)


async def on_top_of_a_unique_violation(tx: Tx) -> None:
    """Hide a SQLSTATE behind an exception of one's own."""
    try:
        await raise_state("23505")(tx)
    except Exception as error:
        raise Poison("hidden") from error


async def on_top_of_a_deadlock(tx: Tx) -> None:
    """Hide a SQLSTATE behind an exception of one's own, without naming it as the cause."""
    try:
        await raise_state("40P01")(tx)
    except Exception:  # noqa: BLE001  that is the point
        raise Poison("hidden") from None


async def on_top_of_a_lost_connection(tx: Tx) -> None:
    """Lose the connection, and say something else about it."""
    try:
        await tx.execute("select pg_terminate_backend(pg_backend_pid())")
    except Exception as error:
        raise Poison("hidden") from error


async def after_a_lost_connection(tx: Tx) -> None:
    """Lose the connection, do not notice, and go on."""
    with contextlib.suppress(Exception):
        await tx.execute("select pg_terminate_backend(pg_backend_pid())")
    await tx.fetchval("select 1")


async def os_error(_tx: Tx) -> None:
    """Fail as a socket does."""
    raise ConnectionResetError("gone")


async def memory_error(_tx: Tx) -> None:
    """Fail as a machine does."""
    raise MemoryError


RETRIED_ACTS = {
    "a deadlock hidden": on_top_of_a_deadlock,
    "a lost connection hidden": on_top_of_a_lost_connection,
    "a lost connection not noticed": after_a_lost_connection,
    "an OSError": os_error,
    "a MemoryError": memory_error,
}
PARKED_ACTS = {
    "an argument of the wrong size": wrong_argument,
    "a NUL character": nul_character,
    "a KeyError": key_error,
    "a RecursionError": recursion,
    "a unique violation hidden": on_top_of_a_unique_violation,
}


async def test_each_kind_of_failure(toys: Toys) -> None:
    """One contact fails by every kind in turn; only the kinds of bad data are ever parked."""
    fault = Fault()
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: fault.before(enter)})
    retried = {state: raise_state(state) for state in RETRIED} | RETRIED_ACTS
    parked = {state: raise_state(state) for state in PARKED} | PARKED_ACTS
    for name, act in retried.items():
        await check_retried(till, desk, fault, name, act)
    for name, act in parked.items():
        await check_parked(till, desk, fault, name, act)


async def check_retried(
    till: InProcess, desk: InProcess, fault: Fault, name: str, act: Callable[[Tx], Awaitable[None]]
) -> None:
    """After more than three attempts nothing is parked; mended, the event is applied once."""
    contact = uuid4()
    fault.contacts, fault.act = {contact}, act
    calls = fault.calls
    await lab.record(till.running.database, contact, [name])
    await until_called(fault, calls + ATTEMPTS + 2)
    assert not await parked_of(desk), name
    fault.mend()

    async def applied() -> bool:
        return await lab.orders_of(desk, contact) == [name]

    await until(applied, f"{name} applied when mended")


async def check_parked(
    till: InProcess, desk: InProcess, fault: Fault, name: str, act: Callable[[Tx], Awaitable[None]]
) -> None:
    """After three attempts the event is parked."""
    await desk.running.database.pool.execute("delete from rapport.parked_event")
    contact = uuid4()
    fault.contacts, fault.act = {contact}, act
    calls = fault.calls
    await lab.record(till.running.database, contact, [name])
    (row,) = await until_parked(desk, 1)
    assert fault.calls - calls == ATTEMPTS, name
    assert (row["reason"], row["attempts"]) == ("failed", ATTEMPTS), name
    assert await lab.orders_of(desk, contact) == []


async def test_other_failures_do_not_count_towards_parking(toys: Toys) -> None:
    """Two deadlocks and one refusal are not three refusals."""
    turns = iter(["40P01", "40P01", "23503"])
    till = await toys.start("contacts", {})

    async def act(tx: Tx) -> None:
        state = next(turns, None)
        if state is not None:
            await raise_state(state)(tx)

    fault = Fault(always=True, act=act)
    desk = await toys.start("loyalty", {PurchaseRecorded: fault.before(enter)})
    contact = uuid4()
    await lab.record(till.running.database, contact, ["1"])
    await lab.entered(desk, 1)
    await lab.assert_nothing_parked(desk)


async def test_halving_isolates_one_event(toys: Toys) -> None:
    """Of 300 contacts one is parked; the others of the same batch are applied once."""
    fault = Fault()
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: fault.before(enter)})
    contacts = [lab.contact_in(0) for _ in range(300)]
    fault.contacts = {contacts[137]}
    await record_each(till, contacts)
    await lab.entered(desk, 299)
    (parked,) = await until_parked(desk, 1)
    assert parked["contacts"] == [contacts[137]]
    rows = await fetch(desk, "select count(*), sum(points) from book")
    assert tuple(rows[0].values()) == (299, 299)
    assert fault.calls < 60
    assert max(fault.sizes) > 100


async def record_each(till: InProcess, contacts: Sequence[Any]) -> None:
    """Record a purchase of each contact, all in one transaction."""

    async def body(tx: Tx) -> None:
        await tx.lock_keys(contacts)
        for contact in contacts:
            tx.publish(purchase(contact, 1, f"{contact}"), cause=Command.drawn(contact))

    await till.running.database.transact(body)


async def sleep_in_postgres(tx: Tx, seconds: float) -> None:
    await tx.execute("select pg_sleep($1)", seconds)


async def sleep_in_python(_tx: Tx, seconds: float) -> None:
    await asyncio.sleep(seconds)


@pytest.mark.parametrize("sleep", [sleep_in_postgres, sleep_in_python])
async def test_a_batch_beyond_its_deadline_is_halved(
    toys: Toys, monkeypatch: pytest.MonkeyPatch, sleep: Callable[[Tx, float], Awaitable[None]]
) -> None:
    """A handler that takes 20 ms an event gets through although 200 would take too long."""
    monkeypatch.setattr(runner, "BATCH_DEADLINE_SECONDS", 1.0)
    sizes = []

    @several_per_contact
    async def slow(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
        sizes.append(len(purchases))
        await sleep(tx, 0.02 * len(purchases))
        await enter(purchases, tx)

    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: slow})
    await record_each(till, [lab.contact_in(0) for _ in range(200)])
    await lab.entered(desk, 200, 90)
    assert max(sizes) > 50
    await lab.assert_nothing_parked(desk)


async def test_a_cancelled_statement_halves(toys: Toys) -> None:
    """57014 (statement_timeout) with long lists only: shorter ones pass."""
    fault = Fault(above=20, act=raise_state("57014"))
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: fault.before(enter)})
    await record_each(till, [lab.contact_in(0) for _ in range(200)])
    await lab.entered(desk, 200)
    assert max(fault.sizes) > 20
    await lab.assert_nothing_parked(desk)


async def test_one_event_beyond_the_deadline_is_retried(
    toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slowness is never the data's fault."""
    monkeypatch.setattr(runner, "BATCH_DEADLINE_SECONDS", 1.5)

    async def act(tx: Tx) -> None:
        await tx.execute("select pg_sleep(5)")

    fault = Fault(always=True, act=act)
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: fault.before(enter)})
    contact = uuid4()
    await lab.record(till.running.database, contact, ["1"])
    await until_called(fault, ATTEMPTS + 2)
    assert not await parked_of(desk)
    fault.mend()
    await lab.entered(desk, 1)


async def test_a_missing_table_heals(toys: Toys) -> None:
    """42P01 is a deploy in the wrong order: nothing is parked, and the table makes it good."""
    calls = []

    @several_per_contact
    async def later(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
        calls.append(len(purchases))
        await tx.execute("insert into later select unnest($1::uuid[])", [p.id for p in purchases])
        await enter(purchases, tx)

    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: later})
    await record_each(till, [uuid4() for _ in range(30)])

    async def often() -> bool:
        return len(calls) > 15

    await until(often, "15 attempts", 60)
    assert not await parked_of(desk)
    await desk.running.database.pool.execute("create table later (id uuid primary key)")
    await lab.entered(desk, 30)
    rows = await fetch(desk, "select count(*) from later")
    assert rows[0][0] == 30
    await lab.assert_nothing_parked(desk)


async def test_backends_terminated_within_handlers(toys: Toys) -> None:
    """Six calls in a row, then every fifth, lose their backend: none parked, lost, doubled."""
    ready = 0

    async def act(tx: Tx) -> None:
        nonlocal ready
        ready += 1
        if ready % 5 == 0 or 5 <= ready <= 10:
            await tx.execute("select pg_terminate_backend(pg_backend_pid())")

    fault = Fault(always=True, act=act)
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: fault.before(enter)})
    contacts = [uuid4() for _ in range(10)]
    for n in range(30):
        for contact in contacts:
            await lab.record(till.running.database, contact, [f"{n}"])
    await lab.entered(desk, 300)
    for contact in contacts:
        assert await lab.orders_of(desk, contact) == [f"{n}" for n in range(30)]
        assert await points(desk, contact) == 30
    await lab.assert_nothing_parked(desk)
    assert ready >= 5
