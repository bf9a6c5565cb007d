"""Totals for the reconciliation, summed over the base tables."""

from typing import Any

from loyalty.store.queries import read_query
from rapport.messaging.transaction import Tx

COUNT_TOTALS = read_query("count_totals")


async def count_totals(tx: Tx) -> dict[str, Any]:
    """Count members, points by account, lots, journals, lines, purchases and refunds.

    Points come from the journal's lines, `lot_points` from the lots and `owed` from the debts:
    they must agree. A journal is unbalanced when its lines do not sum to zero, when it has none,
    or when lines lack their journal.
    """
    row = await tx.fetchrow(COUNT_TOTALS)
    return dict(row["totals"]) if row else {}
