"""Events for tests, and the way in which a runner brings them to the handlers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from analytics.handlers import HANDLERS
from rapport.contracts.base import Event
from rapport.contracts.contacts import (
    ContactMerged,
    ContactRegistered,
    PurchaseLine,
    PurchaseRecorded,
    PurchaseRefunded,
    RefundedLine,
)
from rapport.contracts.registry import EVENT_TYPES
from rapport.messaging.delivery import Delivery
from rapport.messaging.handler import takes_several
from rapport.messaging.ids import derived_id
from rapport.messaging.transaction import Tx
from rapport.messaging.wave import cut
from rapport.testing import deliver

PRAGUE = ZoneInfo("Europe/Prague")
FIRST_DAY = date(1997, 1, 1)


def contact(number: int) -> UUID:
    """Return the id of the test's n-th contact."""
    return derived_id("contact", "cdnow", number)


def noon(day: int) -> datetime:
    """Return noon in Prague, so many days after New Year 1997."""
    return datetime.combine(FIRST_DAY + timedelta(days=day), time(12), PRAGUE)


def registered(who: UUID) -> Delivery[ContactRegistered]:
    """Return a registration."""
    return deliver(ContactRegistered(contact_id=who, registered_at=noon(0)))


def purchase(
    who: UUID, order: str, day: int, *net_minor: int, currency: str = "USD"
) -> Delivery[PurchaseRecorded]:
    """Return a purchase of one line per amount, at noon of a day."""
    lines = tuple(
        PurchaseLine(line=str(n), sku="cd", quantity=1, net_minor=net)
        for n, net in enumerate(net_minor, 1)
    )
    event = PurchaseRecorded(
        contact_id=who,
        purchase_id=derived_id("purchase", "cdnow", order),
        source="cdnow",
        order=order,
        occurred_at=noon(day),
        currency=currency,
        lines=lines,
    )
    return deliver(event, event_id=derived_id("event", "purchase", order))


def refund(
    who: UUID, order: str, day: int, *net_minor: int, name: str = "", currency: str = "USD"
) -> Delivery[PurchaseRefunded]:
    """Return a refund of the order; `name` tells several of one order apart."""
    event = PurchaseRefunded(
        contact_id=who,
        refund_id=derived_id("refund", "cdnow", order, name),
        purchase_id=derived_id("purchase", "cdnow", order),
        source="cdnow",
        order=order,
        occurred_at=noon(day),
        currency=currency,
        lines=tuple(RefundedLine(line=str(n), net_minor=m) for n, m in enumerate(net_minor, 1)),
    )
    return deliver(event, event_id=derived_id("event", "refund", order, name))


def merged(loser: UUID, survivor: UUID) -> list[Delivery[ContactMerged]]:
    """Return both records of a merge, the loser's first, as consumers get them."""
    records = []
    for key in (loser, survivor):
        event = ContactMerged(contact_id=key, loser_id=loser, survivor_id=survivor)
        record = deliver(event, event_id=derived_id("event", "merge", key, survivor))
        record.contact_id = survivor
        records.append(record)
    return records


@dataclass(frozen=True)
class _Item:
    delivery: Delivery[Any]

    @property
    def kind(self) -> str:
        return self.delivery.type

    @property
    def canonical(self) -> tuple[UUID, ...]:
        event = self.delivery.event
        if isinstance(event, ContactMerged):
            return (event.loser_id, event.survivor_id)
        return (self.delivery.contact_id,)


async def handle(tx: Tx, deliveries: Sequence[Delivery[Any]]) -> None:
    """Bring one batch to the handlers as the runner does: keys locked, cut into waves."""
    items = [_Item(delivery) for delivery in deliveries]
    tx.locked.update({key: key for item in items for key in item.canonical})
    waves = cut(items, lambda kind: takes_several(HANDLERS[EVENT_TYPES[kind]]))
    for wave in waves:
        for kind, members in wave.by_kind.items():
            await HANDLERS[EVENT_TYPES[kind]]([item.delivery for item in members], tx)


async def handle_each(tx: Tx, deliveries: Iterable[Delivery[Any]]) -> None:
    """Bring events one by one."""
    for delivery in deliveries:
        await handle(tx, [delivery])


E = TypeVar("E", bound=Event)


def published(tx: Tx, event_class: type[E]) -> list[E]:
    """Return what was published of a class, in order."""
    bodies = [p.body for p in tx.published if p.type == event_class.type]
    return [msgspec.json.decode(body, type=event_class) for body in bodies]
