"""Contacts that become known, and contacts that turn out to be one."""

from __future__ import annotations

from collections.abc import Sequence

from analytics.domain.fact import Fact, Kind
from analytics.handlers.figures import Figures
from analytics.store import facts, profiles
from rapport.contracts.contacts import ContactMerged, ContactRegistered
from rapport.messaging.delivery import Delivery
from rapport.messaging.handler import several_per_contact
from rapport.messaging.transaction import Tx


@several_per_contact
async def open_profiles(contacts: Sequence[Delivery[ContactRegistered]], tx: Tx) -> None:
    """Give each new contact a profile, and the segments that an empty one is in."""
    figures = await Figures.open(tx)
    new = [
        Fact(d.id, Kind.CONTACT_REGISTERED, d.event.contact_id, d.event.registered_at)
        for d in contacts
    ]
    days = await facts.add_facts(tx, new, figures.reporting.zone)
    await figures.load({d.contact_id for d in contacts if d.id in days})
    for delivery in contacts:
        if delivery.id in days:
            figures.judge(figures.profiles[delivery.contact_id], delivery)
    await figures.save()


async def join_profiles(merges: Sequence[Delivery[ContactMerged]], tx: Tx) -> None:
    """Move the loser's figures to the survivor, at the survivor's own record of the merge.

    The loser's record comes first and changes no figure: only behind the second lie both pasts.
    """
    for delivery in merges:
        if delivery.cause_key == delivery.event.survivor_id:
            await _join(delivery, tx)


async def _join(delivery: Delivery[ContactMerged], tx: Tx) -> None:
    figures = await Figures.open(tx)
    loser_id, survivor_id = delivery.event.loser_id, delivery.contact_id
    merged = Fact(delivery.id, Kind.CONTACT_MERGED, survivor_id, delivery.time, loser_id)
    if not await facts.add_facts(tx, [merged], figures.reporting.zone):
        return
    await profiles.add_alias(tx, loser_id, survivor_id)
    await figures.load((loser_id, survivor_id))
    survivor = figures.profiles[survivor_id]
    figures.unite(survivor, figures.profiles[loser_id], delivery)
    figures.tell(survivor, delivery)
    await profiles.delete_profile(tx, loser_id, survivor_id)
    await figures.save()
