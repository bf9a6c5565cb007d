"""Names of merged contacts: every service follows them, whatever it handles."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from rapport.contracts.contacts import ContactMerged, PurchaseRecorded
from rapport.messaging.delivery import Command
from tests.flows import lab
from tests.flows.faults import Fault, ops_of, parked_contacts, until_parked
from tests.flows.test_parking import redrive
from tests.flows.toys import Toys, enter, fetch, purchase

if TYPE_CHECKING:
    from rapport.messaging.transaction import Tx
    from rapport.testing.inprocess import InProcess


class Merge(NamedTuple):
    """A step of a script: two contacts become one."""

    loser: UUID
    survivor: UUID


class Buy(NamedTuple):
    """A step of a script: a contact buys, under a name of its own."""

    contact: UUID
    order: str


async def play(till: InProcess, *steps: Merge | Buy) -> None:
    """Publish the steps in one transaction, so that consumers meet them in one batch."""

    async def body(tx: Tx) -> None:
        await tx.lock_keys(
            {contact for step in steps for contact in step if isinstance(contact, UUID)}
        )
        for step in steps:
            if isinstance(step, Buy):
                cause = Command.drawn(step.contact)
                tx.publish(purchase(step.contact, 1, step.order), cause=cause)
            else:
                publish_merge(tx, step)

    await till.running.database.transact(body)


def publish_merge(tx: Tx, merge: Merge) -> None:
    """To the loser's key first; the survivor's record names that one as its cause."""
    cause = Command.drawn(merge.loser)
    for key in merge:
        event = ContactMerged(contact_id=key, loser_id=merge.loser, survivor_id=merge.survivor)
        both = (merge.loser, merge.survivor)
        cause = Command(tx.publish(event, cause=cause, contacts=both, key=key), key)


async def owners(process: InProcess) -> dict[str, UUID]:
    """Return under which contact each order was entered."""
    rows = await fetch(process, "select note, contact_id from entry")
    return {row["note"]: row["contact_id"] for row in rows}


async def names_of(process: InProcess, contact: UUID) -> set[UUID]:
    """Return the other names of a contact."""
    rows = await fetch(process, "select id from rapport.key where survivor = $1", contact)
    return {row["id"] for row in rows}


async def test_names_are_followed_by_a_service_that_ignores_merges(toys: Toys) -> None:
    """What a merged contact does later is its survivor's, also through two merges in one batch."""
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: enter})
    first, second, third = (lab.contact_in(n) for n in range(3))
    await play(
        till,
        Buy(first, "before"),
        Merge(first, second),
        Buy(first, "after one"),
        Merge(second, third),
        Buy(first, "after two"),
        Buy(second, "another name"),
        Buy(third, "its own"),
    )
    await lab.entered(desk, 5)
    found = await owners(desk)
    assert (found["before"], found["its own"]) == (first, third)
    await play(till, Buy(first, "later"), Buy(second, "later too"))
    await lab.entered(desk, 7)
    found = await owners(desk)
    assert {found["later"], found["later too"]} == {third}
    assert await names_of(desk, third) == {first, second}
    await lab.assert_nothing_parked(desk)


async def test_order_of_one_partition_decides_whose_it_is(toys: Toys) -> None:
    """Around a merge in one partition and one batch: before it the loser's, behind it not."""
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: enter})
    loser, survivor = lab.contact_in(0), lab.contact_in(1)
    release = lab.hold(desk.running.consuming.runners[lab.CONTACTS], "_step")
    await play(till, Buy(loser, "before"), Merge(loser, survivor), Buy(loser, "behind"))
    release()
    await lab.entered(desk, 2)
    assert await owners(desk) == {"before": loser, "behind": survivor}


async def test_a_parked_merge_is_followed_when_it_is_redriven(toys: Toys) -> None:
    """It waits behind what was parked, and changes whose the events behind it are."""
    fault = Fault()
    till = await toys.start("contacts", {})
    desk = await toys.start("loyalty", {PurchaseRecorded: fault.before(enter)})
    loser, survivor = lab.contact_in(0), lab.contact_in(1)
    fault.contacts = {loser}
    await play(till, Buy(loser, "before"), Merge(loser, survivor), Buy(loser, "behind"))
    await until_parked(desk, 4)
    assert await names_of(desk, survivor) == set()
    fault.mend()
    async with ops_of(desk) as ops:
        answer = await redrive(ops, loser)
        assert answer.status_code == 200, answer.text
    assert await owners(desk) == {"before": loser, "behind": survivor}
    assert await names_of(desk, survivor) == {loser}
    assert await parked_contacts(desk) == set()
