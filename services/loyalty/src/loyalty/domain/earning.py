"""What a purchase earns, on which line, and from when until when."""

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from loyalty.domain.programme import Programme, in_force
from rapport.contracts.contacts import PurchaseLine, PurchaseRecorded

MINOR_PER_UNIT = 100


class Share(msgspec.Struct, frozen=True):
    """One eligible line's part of the points."""

    line: str
    net_minor: int
    points: int


@dataclass(frozen=True, slots=True)
class Credit:
    """What one purchase earns under the version of the rule that its time chose.

    `day` is the local day whose `cap` counts; both are None without a cap.
    """

    purchase_id: UUID
    contact_id: UUID
    event_id: UUID
    occurred_at: datetime
    version: int
    points: int
    shares: tuple[Share, ...]
    active_from: datetime
    expires_at: datetime | None
    cap: int | None = None
    day: date | None = None

    def lapsed(self, now: datetime) -> bool:
        """Tell whether the points are already past their expiry."""
        return self.expires_at is not None and self.expires_at <= now


def credit_for(
    purchase: PurchaseRecorded,
    contact_id: UUID,
    event_id: UUID,
    programmes: Sequence[Programme],
) -> Credit:
    """Judge a purchase of a member by the programme's version in force when it occurred."""
    programme = in_force(programmes, purchase.occurred_at)
    shares = shares_of(purchase.lines, programme.points_per_unit)
    active_from = active_after(purchase.occurred_at, programme)
    return Credit(
        purchase.purchase_id,
        contact_id,
        event_id,
        purchase.occurred_at,
        programme.version,
        sum(share.points for share in shares),
        shares,
        active_from,
        expiry_of(active_from, programme),
        programme.daily_cap,
        local_day(purchase.occurred_at, programme) if programme.daily_cap else None,
    )


def shares_of(lines: Sequence[PurchaseLine], points_per_unit: int) -> tuple[Share, ...]:
    """Floor the order's points, floor each line's share, give the rest to the last line.

    Lines that are excluded or free take no part, so that every point can be clawed by a refund.
    """
    eligible = [line for line in lines if not line.excluded and line.net_minor > 0]
    total = sum(line.net_minor for line in eligible)
    points = total // MINOR_PER_UNIT * points_per_unit
    left = points
    shares = []
    for line in eligible[:-1]:
        share = points * line.net_minor // total
        left -= share
        shares.append(Share(line.line, line.net_minor, share))
    if eligible:
        shares.append(Share(eligible[-1].line, eligible[-1].net_minor, left))
    return tuple(shares)


def active_after(occurred_at: datetime, programme: Programme) -> datetime:
    """Add the pending days on the wall clock of the programme's zone.

    A time that a change of clocks leaves out moves forward, of one that occurs twice the first
    counts (PEP 495, fold 0).
    """
    local = occurred_at.astimezone(ZoneInfo(programme.zone))
    return (local + timedelta(days=programme.pending_days)).astimezone(UTC)


def local_day(occurred_at: datetime, programme: Programme) -> date:
    """Return the day of the programme's zone on which something happened."""
    return occurred_at.astimezone(ZoneInfo(programme.zone)).date()


def expiry_of(active_from: datetime, programme: Programme) -> datetime | None:
    """Return the first invalid instant: the first local midnight after one whole period."""
    if programme.expiry_months is None:
        return None
    zone = ZoneInfo(programme.zone)
    local = active_from.astimezone(zone)
    last_day = _add_months(local.date(), programme.expiry_months)
    if local.time() > time():
        last_day += timedelta(days=1)
    return datetime.combine(last_day, time(), zone).astimezone(UTC)


def _add_months(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
