"""Live revenue by day."""

from __future__ import annotations

from analytics.domain.revenue import RevenueChanges
from rapport.messaging.transaction import Tx

ADD_REVENUE = """
insert into revenue_day as r (day, partition, purchases, refunds, gross_minor, refunded_minor)
select * from unnest($1::date[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
order by 1, 2
on conflict (day, partition) do update set purchases = r.purchases + excluded.purchases,
    refunds = r.refunds + excluded.refunds, gross_minor = r.gross_minor + excluded.gross_minor,
    refunded_minor = r.refunded_minor + excluded.refunded_minor
"""


async def add_revenue(tx: Tx, changes: RevenueChanges) -> None:
    """Add a batch's sums; rows are taken in (day, partition) order."""
    places = sorted(changes.by_place.items())
    await tx.execute(
        ADD_REVENUE,
        [day for (day, _), _ in places],
        [partition for (_, partition), _ in places],
        [change.purchases for _, change in places],
        [change.refunds for _, change in places],
        [change.gross_minor for _, change in places],
        [change.refunded_minor for _, change in places],
    )
