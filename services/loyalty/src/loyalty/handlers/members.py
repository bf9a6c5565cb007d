"""Who is in the programme."""

from collections.abc import Sequence

from loyalty import store
from loyalty.domain.cap import unite_days
from loyalty.domain.programme import in_force
from loyalty.handlers.books import open_books, publish_corrections
from rapport.contracts.contacts import ContactMerged, ContactRegistered
from rapport.contracts.loyalty import MemberEnrolled
from rapport.messaging.delivery import Delivery
from rapport.messaging.handler import several_per_contact
from rapport.messaging.transaction import Tx


@several_per_contact
async def enrol_members(contacts: Sequence[Delivery[ContactRegistered]], tx: Tx) -> None:
    """Make every registered contact a member, provisional ones too."""
    first = {d.contact_id: d for d in reversed(contacts)}
    enrolled = await store.add_members(tx, {key: d.time for key, d in first.items()})
    for contact_id, delivery in first.items():
        if contact_id in enrolled:
            event = MemberEnrolled(contact_id=contact_id, enrolled_at=delivery.time)
            tx.publish(event, cause=delivery)


async def join_members(merges: Sequence[Delivery[ContactMerged]], tx: Tx) -> None:
    """Make the loser another name of the survivor, and move its lots, holds and debt there.

    One member has one cap: days on which both bought are divided anew.

    The merge comes on both keys. With the loser's record, which is the first, the core sets the
    alias; behind the survivor's lie both pasts, so that one moves the state.
    """
    for merge in merges:
        event = merge.event
        if merge.cause_key == event.loser_id:
            continue
        await store.add_members(tx, {event.survivor_id: merge.time})
        shared = await store.list_shared_days(tx, [event.loser_id, event.survivor_id])
        books = await open_books(tx, [event.loser_id, event.survivor_id], capped=shared)
        survivor, loser = books[event.survivor_id], books[event.loser_id]
        survivor.join(loser, merge.id)
        if shared:
            shortfall = in_force(await store.list_programmes(tx), merge.time).shortfall
            publish_corrections(survivor, unite_days(survivor, merge.id, shortfall), merge, tx)
        await store.save_books(tx, books.values())
        await store.add_merge(tx, event.loser_id, event.survivor_id)
        await store.move_redemptions(tx, event.loser_id, event.survivor_id)
        await store.move_capped_lines(tx, event.loser_id, event.survivor_id)
