"""How old an answer's figures are."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from analytics.store import metrics
from rapport.messaging.transaction import Tx


class Freshness(BaseModel):
    """`facts_until` is when the newest fact was recorded; nothing later is in the figures."""

    computed_at: datetime
    facts_until: datetime | None


async def freshness_of(tx: Tx) -> Freshness:
    """Return it for an answer that this transaction computes."""
    return Freshness(computed_at=tx.now, facts_until=await metrics.find_last_recorded(tx))
