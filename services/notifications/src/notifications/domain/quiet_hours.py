"""Windows of local time in which nothing is handed over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID
    from zoneinfo import ZoneInfo

    from notifications.domain.category import QuietHours

JITTER_SECONDS = 600


def quiet_until(now: datetime, quiet: QuietHours, zone: ZoneInfo) -> datetime | None:
    """Return the instant at which the present quiet window ends; None when it is not quiet.

    The window includes its start and not its end, may cross midnight, and never exists when both
    are equal. An end inside the hour that a clock change skips moves forward with it.
    """
    if quiet.start == quiet.end:
        return None
    local = now.astimezone(zone)
    wall = local.time()
    if quiet.start < quiet.end:
        inside, ends_tomorrow = quiet.start <= wall < quiet.end, False
    else:
        inside, ends_tomorrow = wall >= quiet.start or wall < quiet.end, wall >= quiet.start
    if not inside:
        return None
    day = local.date() + timedelta(days=1) if ends_tomorrow else local.date()
    return datetime.combine(day, quiet.end, zone).astimezone(UTC)


def spread(until: datetime, message_id: UUID) -> datetime:
    """Add up to ten minutes, always the same for one message: not all leave in one second."""
    return until + timedelta(seconds=message_id.int % JITTER_SECONDS)
