"""Nothing is applied before its cause, whatever overtakes it; an outage parks nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rapport.contracts.contacts import PurchaseRecorded
from rapport.contracts.loyalty import PointsAwarded
from rapport.contracts.notifications import MessageQueued
from rapport.messaging.handler import several_per_contact, touches
from rapport.testing.inprocess import until
from tests.flows import lab
from tests.flows.lab import CONTACTS, LOYALTY
from tests.flows.toys import ADD, enter, fetch, note

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from rapport.contracts.base import Event
    from rapport.messaging.delivery import Delivery
    from rapport.messaging.handler import Handler, Handlers
    from rapport.messaging.runner import Runner
    from rapport.messaging.transaction import Tx
    from rapport.testing.inprocess import InProcess
    from tests.flows.toys import Toys

PURCHASES = 60


def runner_of(process: InProcess, stream: str) -> Runner:
    return process.running.consuming.runners[stream]


def to_referrer(referrer: UUID, event: type[Event]) -> Handler:
    """Return a handler that answers an event of anybody with one of the referrer's."""

    async def find(*_: object) -> set[UUID]:
        return {referrer}

    @touches(find)
    @several_per_contact
    async def answer(deliveries: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
        for d in deliveries:
            about = d.event.purchase_id
            more = (
                {"points": 1, "purchase_id": about}
                if event is PointsAwarded
                else {"message_id": about, "rule": "toy", "channel": "email"}
            )
            tx.publish(event(contact_id=referrer, **more), cause=d)

    return answer


@several_per_contact
async def note_message(messages: Sequence[Delivery[MessageQueued]], tx: Tx) -> None:
    notes = [str(m.event.message_id) for m in messages]
    contacts = [m.contact_id for m in messages]
    await tx.execute(ADD, contacts, [m.id for m in messages], notes, [1] * len(messages))


@several_per_contact
async def note_purchase(purchases: Sequence[Delivery[PurchaseRecorded]], tx: Tx) -> None:
    notes = [str(p.event.purchase_id) for p in purchases]
    contacts = [p.contact_id for p in purchases]
    await tx.execute(ADD, contacts, [p.id for p in purchases], notes, [0] * len(purchases))


async def read_everything(process: InProcess, stream: str, events: int) -> None:
    """Wait until a stream's records all lie in the process, applied or queued."""
    runner = runner_of(process, stream)

    async def there() -> bool:
        known = [b.position.number + len(b.queue) for b in runner.backlogs.values()]
        return sum(known) >= events

    await until(there, f"{events} events of {stream} read")


async def check_order(watcher: InProcess, effects: int) -> None:
    """Everything was applied once, causes first."""
    await lab.entered(watcher, PURCHASES + effects)
    rows = await fetch(watcher, "select note, number from entry order by id")
    assert_causes_first(rows)
    assert len(rows) == PURCHASES + effects
    await lab.assert_nothing_parked(watcher)


async def purchases(till: InProcess, contacts: Sequence[UUID]) -> None:
    for n in range(PURCHASES):
        contact = contacts[n % len(contacts)]
        await lab.record(till.running.database, contact, [f"{contact}/{n}"])


async def test_loyalty_overtakes_contacts(toys: Toys) -> None:
    """Awards arrive while purchases are held back: they wait, nothing parks, causes come first."""
    till = await toys.start("contacts", {})
    book = await toys.start("loyalty", {PurchaseRecorded: enter})
    watcher = await toys.start("analytics", {PurchaseRecorded: note_purchase, PointsAwarded: note})
    release = lab.hold(runner_of(watcher, CONTACTS), "_step")
    contacts = [lab.contact_in(n % 3) for n in range(12)]
    await purchases(till, contacts)
    await lab.entered(book, PURCHASES)
    await read_everything(watcher, LOYALTY, PURCHASES)
    waiting = runner_of(watcher, LOYALTY).backlogs

    async def all_wait() -> bool:
        return all(b.waits_for is not None for b in waiting.values())

    await until(all_wait, "every loyalty partition waits at the gate")
    assert (await fetch(watcher, "select count(*) from entry"))[0][0] == 0
    await lab.assert_nothing_parked(watcher)
    release()
    await check_order(watcher, PURCHASES)


async def test_a_cause_of_another_contact_on_another_partition(toys: Toys) -> None:
    """An award to the referrer waits for the purchase of the one who was referred."""
    buyers = [lab.contact_in(1) for _ in range(6)]
    referrer = lab.contact_in(2)
    till = await toys.start("contacts", {})
    await toys.start("loyalty", {PurchaseRecorded: to_referrer(referrer, PointsAwarded)})
    watcher = await toys.start("analytics", {PurchaseRecorded: note_purchase, PointsAwarded: note})
    held = runner_of(watcher, CONTACTS).backlogs[1]
    release = lab.hold_partition(held)
    await lab.record(till.running.database, referrer, ["own"])
    await purchases(till, buyers)
    await read_everything(watcher, LOYALTY, PURCHASES + 1)
    waiting = runner_of(watcher, LOYALTY).backlogs[2]

    async def waits() -> bool:
        return waiting.waits_for is not None and waiting.waits_for[:2] == (CONTACTS, 1)

    await until(waits, "the award waits for the buyer's purchase")
    release()

    async def all_applied() -> bool:
        rows = await fetch(watcher, "select count(*) from entry")
        return bool(rows[0][0] == 2 * (PURCHASES + 1))

    await until(all_applied, "everything applied")
    rows = await fetch(watcher, "select note, number from entry order by id")
    assert_causes_first(rows)
    await lab.assert_nothing_parked(watcher)


def assert_causes_first(rows: Sequence[asyncpg.Record]) -> None:
    """Each effect (number 1) comes after the purchase (number 0) with the same note."""
    seen = set()
    for row in rows:
        if row["number"] == 0:
            seen.add(row["note"])
        else:
            assert row["note"] in seen, "an effect was applied before its cause"


async def test_ignored_types_pass_the_same_gate(toys: Toys) -> None:
    """A message caused by an award that the watcher ignores still waits for the purchase behind."""
    buyers, referrer = [lab.contact_in(0) for _ in range(4)], lab.contact_in(2)
    till = await toys.start("contacts", {})
    await toys.start("loyalty", {PurchaseRecorded: enter})
    await toys.start("notifications", {PointsAwarded: to_referrer(referrer, MessageQueued)})
    handlers: Handlers = {PurchaseRecorded: note_purchase, MessageQueued: note_message}
    watcher = await toys.start("analytics", handlers)
    release = lab.hold_partition(runner_of(watcher, CONTACTS).backlogs[0])
    await purchases(till, buyers)
    await read_everything(watcher, "notifications.events.v1", PURCHASES)
    await read_everything(watcher, LOYALTY, PURCHASES)
    waiting = runner_of(watcher, "notifications.events.v1").backlogs[2]

    async def waits() -> bool:
        return waiting.waits_for is not None and waiting.waits_for[:2] == (LOYALTY, 0)

    await until(waits, "the message waits for the award that nobody here handles")
    assert (await fetch(watcher, "select count(*) from entry"))[0][0] == 0
    release()
    await check_order(watcher, PURCHASES)
