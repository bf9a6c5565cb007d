"""Events that are counted only: points, messages, anniversaries."""

from __future__ import annotations

from collections.abc import Sequence

from analytics.domain.fact import Fact, Kind
from analytics.store import facts, parameters
from rapport.contracts.contacts import AnniversaryDue
from rapport.contracts.loyalty import PointsAwarded, PointsPending, PointsReversed
from rapport.contracts.notifications import MessageSent, MessageSuppressed
from rapport.messaging.delivery import Delivery
from rapport.messaging.handler import several_per_contact
from rapport.messaging.transaction import Tx


async def _add(tx: Tx, new: list[Fact]) -> None:
    reporting = await parameters.find_reporting(tx)
    await facts.add_facts(tx, new, reporting.zone)


@several_per_contact
async def count_pending_points(events: Sequence[Delivery[PointsPending]], tx: Tx) -> None:
    """Remember points that were credited and are not spendable yet."""
    await _add(tx, [_points(d, Kind.POINTS_PENDING, d.event.points) for d in events])


@several_per_contact
async def count_awarded_points(events: Sequence[Delivery[PointsAwarded]], tx: Tx) -> None:
    """Remember points that became spendable, or repaid a debt."""
    await _add(
        tx,
        [
            _points(d, Kind.POINTS_AWARDED, d.event.points, repaid=d.event.repaid or None)
            for d in events
        ],
    )


@several_per_contact
async def count_reversed_points(events: Sequence[Delivery[PointsReversed]], tx: Tx) -> None:
    """Remember points that a refund took back, from wherever they were."""
    await _add(
        tx,
        [
            _points(
                d,
                Kind.POINTS_REVERSED,
                d.event.from_pending + d.event.from_active + d.event.to_debt,
                from_pending=d.event.from_pending,
                from_active=d.event.from_active,
                to_debt=d.event.to_debt,
            )
            for d in events
        ],
    )


def _points(
    delivery: Delivery[PointsPending] | Delivery[PointsAwarded] | Delivery[PointsReversed],
    kind: Kind,
    points: int,
    **details: int | None,
) -> Fact:
    event = delivery.event
    known = {name: value for name, value in details.items() if value is not None}
    return Fact(
        delivery.id,
        kind,
        event.contact_id,
        delivery.time,
        event.purchase_id,
        points,
        details=known or None,
    )


@several_per_contact
async def count_sent_messages(events: Sequence[Delivery[MessageSent]], tx: Tx) -> None:
    """Remember messages that a provider accepted."""
    await _add(tx, [_message(d, Kind.MESSAGE_SENT) for d in events])


@several_per_contact
async def count_suppressed_messages(events: Sequence[Delivery[MessageSuppressed]], tx: Tx) -> None:
    """Remember messages that will not be sent, and why."""
    await _add(tx, [_message(d, Kind.MESSAGE_SUPPRESSED, d.event.reason) for d in events])


def _message(
    delivery: Delivery[MessageSent] | Delivery[MessageSuppressed],
    kind: Kind,
    reason: str | None = None,
) -> Fact:
    event = delivery.event
    details = {"rule": event.rule, "channel": event.channel}
    if reason:
        details["reason"] = reason
    return Fact(
        delivery.id, kind, event.contact_id, delivery.time, event.message_id, details=details
    )


@several_per_contact
async def count_anniversaries(events: Sequence[Delivery[AnniversaryDue]], tx: Tx) -> None:
    """Remember anniversaries; the amount is the number of purchases that they are of."""
    await _add(
        tx,
        [
            Fact(
                d.id,
                Kind.ANNIVERSARY,
                d.event.contact_id,
                d.time,
                amount=len(d.event.purchases),
                details={"local_date": d.event.local_date.isoformat()},
            )
            for d in events
        ],
    )
