"""A handler that fails for all: its partition stops, and goes on by itself when mended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

from rapport.contracts.contacts import ContactRegistered, PurchaseRecorded
from rapport.messaging.delivery import Command, Delivery
from rapport.messaging.handler import several_per_contact, touches
from rapport.testing.inprocess import until
from tests.flows import lab
from tests.flows.faults import (
    Fault,
    find_referrers,
    ops_of,
    parked_contacts,
    parked_of,
    until_called,
    until_parked,
)
from tests.flows.lab import CONTACTS
from tests.flows.toys import TIME, Toys, enter, fetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rapport.messaging.backlog import Backlog
    from rapport.messaging.handler import Handlers
    from rapport.messaging.transaction import Tx
    from rapport.testing.inprocess import InProcess

CONTACTS_PARKED = 6
STOPPED = "select stopped from rapport.position where stream = $1 and partition = 0"
FAR = 1000.0


@several_per_contact
async def welcome(_registered: Sequence[Delivery[ContactRegistered]], _tx: Tx) -> None:
    """Succeed, doing nothing."""


async def register_and_buy(till: InProcess, contact: UUID, order: str) -> None:
    """Publish an event of another type, then a purchase."""

    async def body(tx: Tx) -> None:
        await tx.lock_keys([contact])
        event = ContactRegistered(contact_id=contact, registered_at=TIME)
        tx.publish(event, cause=Command.drawn(contact))

    await till.running.database.transact(body)
    await lab.record(till.running.database, contact, [order])


async def until_stopped(process: InProcess) -> None:
    """Wait until partition 0 of the contacts stream has stopped."""

    async def stopped() -> bool:
        return (await fetch(process, STOPPED, CONTACTS))[0][0] is not None

    await until(stopped, "the partition has stopped", 60)


def head_of(process: InProcess) -> Backlog:
    """Return the backlog of partition 0."""
    return process.running.consuming.runners[CONTACTS].backlogs[0]


async def resume(process: InProcess) -> None:
    """Ask for the next event to be tried at once."""
    async with ops_of(process) as ops:
        answer = await ops.post("/ops/positions/resume", json={"stream": CONTACTS})
    assert answer.json()["resumed"] == [0]


async def until_backed_off(process: InProcess) -> None:
    """Wait until the wish to resume is used up and the head waits again."""

    async def waits() -> bool:
        rows = await fetch(process, "select 1 from rapport.position where resume")
        return not rows and head_of(process).not_before > time.monotonic()

    await until(waits, "the head backs off again")


async def test_it_stops_with_six_and_goes_on(toys: Toys) -> None:
    """Events of other types between the failing ones do not let more contacts be parked."""
    fault = Fault(always=True)
    till = await toys.start("contacts", {})
    handlers: Handlers = {PurchaseRecorded: fault.before(enter), ContactRegistered: welcome}
    desk = await toys.start("loyalty", handlers)
    contacts = [lab.contact_in(0) for _ in range(12)]
    for n, contact in enumerate(contacts):
        await register_and_buy(till, contact, f"{n}")
    await until_stopped(desk)
    await until_called(fault, fault.calls + 3)
    await until_stopped(desk)
    assert len(await parked_contacts(desk)) == CONTACTS_PARKED

    # Another partition flows.
    elsewhere = lab.contact_in(1)
    fault.always, fault.contacts = False, set(contacts)
    await lab.record(till.running.database, elsewhere, ["elsewhere"])
    await lab.entered(desk, 1)

    # Resuming tries once, then backs off again.
    head_of(desk).not_before = time.monotonic() + FAR
    calls = fault.calls
    await resume(desk)
    await until_called(fault, calls + 1)
    await until_backed_off(desk)
    assert len(await parked_contacts(desk)) == CONTACTS_PARKED

    # A restart changes nothing.
    await desk.stop()
    calls = fault.calls
    desk = await toys.start("loyalty", handlers)
    await until_called(fault, calls + 4)
    await until_stopped(desk)
    assert len(await parked_contacts(desk)) == CONTACTS_PARKED

    fault.mend()
    await lab.entered(desk, 1 + 12 - CONTACTS_PARKED)
    assert (await fetch(desk, STOPPED, CONTACTS))[0][0] is None
    assert len(await parked_of(desk)) == CONTACTS_PARKED


async def test_resume_goes_on_at_once(toys: Toys) -> None:
    """A mended handler need not wait for the back-off of its stopped partition."""
    fault = Fault(always=True)
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: fault.before(enter)})
    contacts = [lab.contact_in(0) for _ in range(8)]
    for n, contact in enumerate(contacts):
        await lab.record(till.running.database, contact, [f"{n}"])
    await until_stopped(desk)
    await until_backed_off(desk)
    # Whatever attempt is under way, the next one is a minute off.
    head_of(desk).delay = FAR
    head_of(desk).not_before = time.monotonic() + FAR
    fault.mend()
    await resume(desk)
    await lab.entered(desk, 2)
    assert len(await parked_of(desk)) == CONTACTS_PARKED


async def test_bodies_of_a_type_that_nobody_can_read(toys: Toys) -> None:
    """When every event of a type fails to decode, the breaker stops it: it was a deploy."""
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: enter})
    contacts = [lab.contact_in(0) for _ in range(40)]
    await lab.add_in_bulk(till.running.database, 40, contacts)
    till.running.committed()
    await until_stopped(desk)
    parked = await parked_of(desk)
    assert len(parked) == CONTACTS_PARKED
    assert all("DecodingError" in row["error"] for row in parked)
    assert len(await parked_contacts(desk)) == CONTACTS_PARKED


async def test_a_body_that_cannot_be_read_is_parked_before_a_finder(toys: Toys) -> None:
    """Also when the handler's finder would have to read it."""
    till = await toys.start("contacts", {})
    handler = touches(find_referrers)(Fault().before(enter))
    desk = await toys.start("loyalty", {PurchaseRecorded: handler})
    bad, good = lab.contact_in(0), lab.contact_in(0)
    await lab.add_in_bulk(till.running.database, 1, [bad])
    await lab.record(till.running.database, good, ["1"])
    await lab.entered(desk, 1)
    (parked,) = await until_parked(desk, 1)
    assert parked["contacts"] == [bad]
