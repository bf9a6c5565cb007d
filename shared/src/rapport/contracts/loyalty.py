"""Events of the loyalty service. Points are whole numbers."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from rapport.contracts.base import Event


class MemberEnrolled(Event, frozen=True, kw_only=True):
    """A contact became a member of the programme."""

    type: ClassVar = "rapport.loyalty.member-enrolled.v1"
    enrolled_at: datetime


class PointsPending(Event, frozen=True, kw_only=True):
    """Points were credited that become spendable at `active_from`."""

    type: ClassVar = "rapport.loyalty.points-pending.v1"
    purchase_id: UUID
    points: int
    active_from: datetime


class PointsAwarded(Event, frozen=True, kw_only=True):
    """Points of a purchase became active; `repaid` of them settled a debt."""

    type: ClassVar = "rapport.loyalty.points-awarded.v1"
    purchase_id: UUID
    points: int
    repaid: int = 0


class PointsReversed(Event, frozen=True, kw_only=True):
    """A refund took points back: from pending, from active, the rest as debt."""

    type: ClassVar = "rapport.loyalty.points-reversed.v1"
    purchase_id: UUID
    refund_id: UUID
    from_pending: int = 0
    from_active: int = 0
    to_debt: int = 0


class PointsExpired(Event, frozen=True, kw_only=True):
    """Active points of a purchase reached their first invalid instant."""

    type: ClassVar = "rapport.loyalty.points-expired.v1"
    purchase_id: UUID
    points: int


class PointsRedeemed(Event, frozen=True, kw_only=True):
    """Held points were spent; `reference` is what the caller named, such as an order."""

    type: ClassVar = "rapport.loyalty.points-redeemed.v1"
    redemption_id: UUID
    points: int
    reference: str | None = None


class PointsRestored(Event, frozen=True, kw_only=True):
    """A spend was undone: `points` are active again, `repaid` of them settled a debt.

    Points of lots past their expiry do not come back: a points-expired names them.
    """

    type: ClassVar = "rapport.loyalty.points-restored.v1"
    redemption_id: UUID
    points: int
    repaid: int = 0


class PointsCorrected(Event, frozen=True, kw_only=True):
    """Another purchase or a refund of the day changed what the daily cap leaves to a purchase.

    It earned so many `points` more, or fewer below zero; `pending`, `active` and `debt` say by how
    much each of them rose.
    """

    type: ClassVar = "rapport.loyalty.points-corrected.v1"
    purchase_id: UUID
    points: int
    pending: int = 0
    active: int = 0
    debt: int = 0


EVENTS: tuple[type[Event], ...] = (
    MemberEnrolled,
    PointsPending,
    PointsAwarded,
    PointsReversed,
    PointsExpired,
    PointsRedeemed,
    PointsRestored,
    PointsCorrected,
)
