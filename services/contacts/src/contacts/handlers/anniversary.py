"""Timers of purchase anniversaries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from zoneinfo import ZoneInfo

from contacts.domain.anniversary import celebrated, first_kept, observed
from contacts.handlers.work import ANNIVERSARY, PROGRAMME_ZONE, Work, zone_of
from contacts.store import anniversary as anniversary_store
from contacts.store import contact as contact_store
from contacts.store import purchase as purchase_store
from rapport.contracts.contacts import AnniversaryDue, RememberedPurchase
from rapport.messaging.delivery import TimerDue
from rapport.messaging.handler import TimerHandlers
from rapport.messaging.transaction import Tx


async def remember_purchases(
    due: Sequence[TimerDue], tx: Tx, zone: ZoneInfo = PROGRAMME_ZONE
) -> None:
    """Publish the day's anniversaries and set next year's timers; nothing kept ends them."""
    ids = [tx.locked[timer.contact_id] for timer in due]
    zones = await contact_store.find_zones(tx, ids)
    past = await purchase_store.list_past(tx, ids)
    work = Work(tx, zone)
    published = []
    for timer, contact_id in zip(due, ids, strict=True):
        local = zone_of(zones[contact_id]) if contact_id in zones else zone
        day = date.fromisoformat(timer.payload["date"])
        found = celebrated(past.get(contact_id, ()), day, local)
        if not found:
            continue
        first = first_kept(past[contact_id])
        event = AnniversaryDue(
            contact_id=contact_id,
            local_date=day,
            purchases=tuple(
                RememberedPurchase(purchase_id=p.id, purchased_on=on, first_kept=p is first)
                for p, on in found
            ),
        )
        event_id = work.publish(event, timer)
        published.append(
            anniversary_store.Celebration(contact_id, day, event_id, [p.id for p, _ in found])
        )
        for _, on in found:
            work.remember(contact_id, observed(on, day.year + 1), local, timer.trace)
    if published:
        await anniversary_store.add_anniversaries(tx, published)
    await work.save()


def timers(zone: ZoneInfo) -> TimerHandlers:
    """Return the timer handlers of a programme in `zone`."""

    async def fire(due: Sequence[TimerDue], tx: Tx) -> None:
        await remember_purchases(due, tx, zone)

    return {ANNIVERSARY: fire}
