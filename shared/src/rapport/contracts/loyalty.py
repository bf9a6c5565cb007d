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


EVENTS: tuple[type[Event], ...] = (
    MemberEnrolled,
    PointsPending,
    PointsAwarded,
    PointsReversed,
    PointsExpired,
)
