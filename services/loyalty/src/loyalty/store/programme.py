"""Versions of the programme's parameters."""

from loyalty.domain.programme import Programme
from rapport.messaging.transaction import Tx


async def list_programmes(tx: Tx) -> list[Programme]:
    """Return all versions in the order in which they come into force."""
    rows = await tx.fetch("select * from programme order by valid_from, version")
    return [Programme(**row) for row in rows]


async def add_programme(tx: Tx, programme: Programme) -> bool:
    """Add a version right after the newest one; tell whether that still was the newest."""
    added = await tx.fetchval(
        """
        insert into programme (version, valid_from, zone, pending_days, points_per_unit, shortfall,
            expiry_months, daily_cap, hold_minutes)
        select $1, $2, $3, $4, $5, $6, $7, $8, $9
        where $1 = (select max(version) + 1 from programme)
        on conflict (version) do nothing
        returning version
        """,
        programme.version,
        programme.valid_from,
        programme.zone,
        programme.pending_days,
        programme.points_per_unit,
        programme.shortfall,
        programme.expiry_months,
        programme.daily_cap,
        programme.hold_minutes,
    )
    return added is not None
