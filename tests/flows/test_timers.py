"""Timers: once with two replicas, behind a parked contact, failing, scheduled again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from rapport.contracts.contacts import PurchaseRecorded
from rapport.contracts.loyalty import PointsAwarded
from rapport.messaging.transaction import Timer
from rapport.testing.inprocess import InProcess, until
from tests.flows import lab
from tests.flows.faults import Fault, ops_of, parked_of, until_parked
from tests.flows.toys import ADD, Toys, enter, fetch, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rapport.messaging.delivery import TimerDue
    from rapport.messaging.handler import TimerHandlers
    from rapport.messaging.transaction import Tx

PAST = datetime(2026, 1, 1, tzinfo=UTC)
TIMERS = "select kind, key, due_at from rapport.timer order by id"


async def award(due: Sequence[TimerDue], tx: Tx) -> None:
    """Enter each timer and tell; `entry.event_id` is unique, so a second firing would fail."""
    contacts = [t.contact_id for t in due]
    amounts = [t.payload.get("points", 1) for t in due]
    await tx.execute(ADD, contacts, [t.cause_id for t in due], [t.key for t in due], amounts)
    for t in due:
        event = PointsAwarded(contact_id=t.contact_id, purchase_id=t.contact_id, points=1)
        tx.publish(event, cause=t)


class Ringing:
    """Timer handlers whose behaviour a test can change."""

    def __init__(self) -> None:
        self.broken: set[UUID] = set()
        self.calls = 0

    async def ring(self, due: Sequence[TimerDue], tx: Tx) -> None:
        """Award, unless one of the contacts is broken."""
        self.calls += 1
        if any(t.contact_id in self.broken for t in due):
            raise ValueError("broken")
        await award(due, tx)

    @property
    def handlers(self) -> TimerHandlers:
        """The table of timer handlers."""
        return {"bell": self.ring}


async def schedule(process: InProcess, contacts: Sequence[UUID], each: int = 1) -> None:
    """Schedule timers that are due."""

    async def body(tx: Tx) -> None:
        await tx.lock_keys(contacts)
        timers = [
            Timer("bell", f"{contact}:{n}", contact, PAST + timedelta(minutes=n))
            for contact in contacts
            for n in range(each)
        ]
        await tx.schedule(timers)

    await process.running.database.transact(body)
    process.running.leading.wake()


async def test_they_fire_once_with_two_replicas(toys: Toys) -> None:
    """One replica is aborted in the middle of 3,000 timers; the other fires the rest."""
    ringing = Ringing()
    first = await toys.start("loyalty", {PurchaseRecorded: enter}, timers=ringing.handlers)
    second = InProcess(
        await toys.define("loyalty", {PurchaseRecorded: enter}, timers=ringing.handlers)
    )
    await second.start()
    toys.running.append(second)
    till = await toys.start("contacts", {PointsAwarded: note})
    contacts = [uuid4() for _ in range(1000)]
    await schedule(first, contacts, 3)

    async def some() -> bool:
        return bool((await fetch(first, "select count(*) from entry"))[0][0])

    await until(some, "the first timers fired")
    await first.abort()
    await lab.entered(second, 3000)
    await lab.entered(till, 3000)
    assert not await fetch(second, TIMERS)
    for contact in contacts[:50]:
        assert await lab.orders_of(second, contact) == [f"{contact}:{n}" for n in range(3)]
    rows = await fetch(till, "select count(*), sum(points) from book")
    assert tuple(rows[0].values()) == (1000, 3000)
    await lab.assert_nothing_parked(till, second)


async def test_a_timer_of_a_parked_contact_waits(toys: Toys) -> None:
    """It fires after the redrive, behind the events that were parked."""
    fault, ringing = Fault(), Ringing()
    till = await toys.start("contacts", {})
    desk = await toys.start(
        "loyalty", {PurchaseRecorded: fault.before(enter)}, timers=ringing.handlers
    )
    parked, other = uuid4(), uuid4()
    fault.contacts = {parked}
    await lab.record(till.running.database, parked, ["purchase"])
    await until_parked(desk, 1)
    await schedule(desk, [parked, other])
    await lab.entered(desk, 1)
    assert await lab.orders_of(desk, other) == [f"{other}:0"]
    async with ops_of(desk) as ops:
        assert (await ops.get("/ops/settle")).json()["timers_due"] == 0
        fault.mend()
        await ops.post("/ops/parked/redrive", json={"contact_id": str(parked)})
    await lab.entered(desk, 3)
    assert await lab.orders_of(desk, parked) == ["purchase", f"{parked}:0"]
    assert not await parked_of(desk)


async def test_a_merged_contact_waits_for_its_survivor(toys: Toys) -> None:
    """A timer that was scheduled for the loser waits while the survivor is parked."""
    ringing = Ringing()
    desk = await toys.start("loyalty", {PurchaseRecorded: enter}, timers=ringing.handlers)
    loser, survivor, other = uuid4(), uuid4(), uuid4()
    database = desk.running.database
    await database.add_keys([loser, survivor])
    await database.pool.execute(
        "update rapport.key set survivor = $2 where id = $1", loser, survivor
    )
    await database.pool.execute("update rapport.key set parked = true where id = $1", survivor)
    await schedule(desk, [loser, other])
    await lab.entered(desk, 1)
    assert len(await fetch(desk, TIMERS)) == 1
    await database.pool.execute("update rapport.key set parked = false")
    await lab.entered(desk, 2)
    assert await lab.orders_of(desk, survivor) == [f"{loser}:0"]


async def test_a_failing_timer_blocks_nobody(toys: Toys) -> None:
    """It is tried again until it works; the others of its batch fire at once."""
    ringing = Ringing()
    desk = await toys.start("loyalty", {PurchaseRecorded: enter}, timers=ringing.handlers)
    contacts = [uuid4() for _ in range(30)]
    ringing.broken = {contacts[7]}
    await schedule(desk, contacts)
    await lab.entered(desk, 29)
    calls = ringing.calls

    async def tried_again() -> bool:
        return ringing.calls >= calls + 2

    await until(tried_again, "two more attempts")
    assert len(await fetch(desk, TIMERS)) == 1
    ringing.broken.clear()
    await lab.entered(desk, 30)
    assert not await fetch(desk, TIMERS)


async def test_a_timer_is_scheduled_again_by_its_own_handler(toys: Toys) -> None:
    """The same (kind, key) fires three times, each with events of its own."""

    async def again(due: Sequence[TimerDue], tx: Tx) -> None:
        await award(due, tx)
        next_ones = [
            Timer(t.kind, t.key, t.contact_id, t.due_at + timedelta(days=1), {"left": left - 1})
            for t in due
            if (left := t.payload.get("left", 2))
        ]
        await tx.schedule(next_ones)

    desk = await toys.start("loyalty", {PurchaseRecorded: enter}, timers={"bell": again})
    till = await toys.start("contacts", {PointsAwarded: note})
    contact = uuid4()
    await schedule(desk, [contact])
    await lab.entered(till, 3)
    assert not await fetch(desk, TIMERS)
    ids = [row[0] for row in await fetch(till, "select event_id from entry")]
    assert len(set(ids)) == 3
    await lab.assert_nothing_parked(till, desk)
