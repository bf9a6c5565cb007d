"""On which local day the anniversary of a purchase falls, and which purchases share a day."""

from __future__ import annotations

from calendar import isleap
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID
    from zoneinfo import ZoneInfo

AT = time(9)
LEAP_DAY = (2, 29)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastPurchase:
    """A purchase as anniversaries see it; `kept` when any line is left after refunds."""

    id: UUID
    order: str
    occurred_at: datetime
    kept: bool


def observed(purchased_on: date, year: int) -> date:
    """Return the anniversary in `year`; 29 February is kept on the 28th in common years."""
    if (purchased_on.month, purchased_on.day) == LEAP_DAY and not isleap(year):
        return date(year, 2, 28)
    return purchased_on.replace(year=year)


def due_at(day: date, zone: ZoneInfo) -> datetime:
    """Return 09:00 of the local day as UTC; within a DST gap the clock has moved forward.

    (`fold=0` in a gap counts with the offset before it, PEP 495.)
    """
    return datetime.combine(day, AT, zone).astimezone(UTC)


def next_day(purchased_on: date, after: datetime, zone: ZoneInfo) -> date:
    """Return the first anniversary that is due later than `after`."""
    year = max(purchased_on.year + 1, after.astimezone(zone).year)
    day = observed(purchased_on, year)
    return day if due_at(day, zone) > after else observed(purchased_on, year + 1)


def first_kept(purchases: Iterable[PastPurchase]) -> PastPurchase | None:
    """Return the contact's first kept purchase by (time, order)."""
    kept = [p for p in purchases if p.kept]
    return min(kept, key=lambda p: (p.occurred_at, p.order), default=None)


def celebrated(
    purchases: Iterable[PastPurchase], day: date, zone: ZoneInfo
) -> list[tuple[PastPurchase, date]]:
    """Return the kept purchases of earlier years whose anniversary is `day`, with their day."""
    found = []
    for purchase in purchases:
        on = purchase.occurred_at.astimezone(zone).date()
        if purchase.kept and on.year < day.year and observed(on, day.year) == day:
            found.append((purchase, on))
    return sorted(found, key=lambda p: (p[0].occurred_at, p[0].order))
