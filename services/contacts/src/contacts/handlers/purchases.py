"""External events about money: purchases and refunds, in whichever order they arrive."""

from __future__ import annotations

from datetime import UTC
from typing import cast
from uuid import UUID

from contacts.domain.purchase import Purchase, Refund, RefundWish, digest_of, lines_of
from contacts.domain.refusal import ORDER_CONFLICT, RefusedError
from contacts.handlers.arrival import Arrival, Effect
from contacts.handlers.work import Work
from contacts.store.refund import APPLIED, NOTHING_LEFT, Settled
from rapport.contracts import contacts, inbound
from rapport.messaging.delivery import Command
from rapport.messaging.ids import derived_id


def record(arrival: Arrival[inbound.PurchaseRecorded], work: Work) -> Effect:
    """Record an order once; then grant the refunds that waited for it."""
    purchase_id = cast("UUID", arrival.purchase_id)
    digest = digest_of(arrival.fact)
    known = work.remainders.get(purchase_id)
    if known is not None:
        if known.digest != digest:
            raise RefusedError("order", ORDER_CONFLICT)
        return Effect(known.event_id, "duplicate")
    contact = arrival.contact(work)
    event = _recorded(arrival, contact.id, purchase_id)
    event_id = work.publish(event, arrival.cause)
    work.add_purchase(
        Purchase(
            id=purchase_id,
            contact_id=contact.id,
            source=event.source,
            order=event.order,
            occurred_at=event.occurred_at,
            currency=event.currency,
            lines=event.lines,
            shipping_minor=event.shipping_minor,
            shop=event.shop,
            digest=digest,
            event_id=event_id,
        ),
        arrival.event.trace,
    )
    for wish in work.waiting.pop(purchase_id, ()):
        work.settled.append(_grant_late(wish, work))
    return Effect(event_id)


def refund(arrival: Arrival[inbound.PurchaseRefunded], work: Work) -> Effect:
    """Grant a refund of a known purchase; keep one that came before its purchase."""
    wish = _wish(arrival)
    if wish.purchase_id in work.remainders:
        return _grant(wish, work)
    arrival.contact(work)
    work.add_waiting(wish)
    # The id that the event will have when the purchase arrives, see Tx.publish.
    return Effect(derived_id(arrival.cause.id, contacts.PurchaseRefunded.type, None, 0))


def _grant(wish: RefundWish, work: Work) -> Effect:
    lines = work.remainders[wish.purchase_id].take(wish)
    if not lines:
        return Effect(None, "duplicate")
    event = contacts.PurchaseRefunded(
        contact_id=wish.contact_id,
        refund_id=wish.id,
        purchase_id=wish.purchase_id,
        source=wish.source,
        order=wish.order,
        occurred_at=wish.occurred_at,
        currency=wish.currency,
        lines=lines,
    )
    event_id = work.publish(event, Command.external(wish.source, wish.external_id, wish.trace))
    work.refunds.append(Refund(wish=wish, lines=lines, event_id=event_id))
    return Effect(event_id)


def _grant_late(wish: RefundWish, work: Work) -> Settled:
    """Nobody can be told any more that the refund is refused: the reason stays on its row."""
    try:
        effect = _grant(wish, work)
    except RefusedError as error:
        return Settled(wish.id, error.reason, error.field)
    return Settled(wish.id, APPLIED if effect.event_id else NOTHING_LEFT)


def _recorded(
    arrival: Arrival[inbound.PurchaseRecorded], contact_id: UUID, purchase_id: UUID
) -> contacts.PurchaseRecorded:
    sold = arrival.fact
    return contacts.PurchaseRecorded(
        contact_id=contact_id,
        purchase_id=purchase_id,
        source=arrival.event.source,
        order=sold.order,
        occurred_at=sold.occurred_at.astimezone(UTC),
        currency=sold.currency,
        lines=lines_of(sold),
        shipping_minor=sold.shipping_minor,
        shop=sold.shop,
    )


def _wish(arrival: Arrival[inbound.PurchaseRefunded]) -> RefundWish:
    asked, event = arrival.fact, arrival.event
    lines = asked.lines
    return RefundWish(
        id=derived_id("refund", event.source, event.id),
        purchase_id=cast("UUID", arrival.purchase_id),
        contact_id=arrival.contact_id,
        source=event.source,
        external_id=event.id,
        order=asked.order,
        occurred_at=asked.occurred_at.astimezone(UTC),
        currency=asked.currency,
        lines=None if lines is None else tuple((line.line, line.net_minor) for line in lines),
        trace=event.trace,
    )
