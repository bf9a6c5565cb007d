"""Totals, counted from the base tables."""

from __future__ import annotations

from rapport.messaging.transaction import Tx

COUNT = """
select
    (select count(*) from contact) as contacts,
    (select count(*) from contact where provisional) as provisional,
    (select count(*) from reference) as "references",
    (select count(*) from purchase) as purchases,
    (select count(*) from refund) as refunds,
    (select count(*) from waiting_refund where outcome is null) as waiting_refunds,
    (select coalesce(sum(net_minor), 0) from purchase_line) as revenue_gross_minor,
    (select coalesce(sum(net_minor), 0) from refund_line) as refunded_minor,
    (select count(*) from consent) as consents,
    (select count(*) from (
        select distinct on (contact_id, purpose, channel) granted from consent
        where purpose = 'marketing'
        order by contact_id, purpose, channel, number desc) newest
     where granted) as marketing_consents,
    (select count(*) from anniversary) as anniversaries_published,
    (select count(*) from timeline) as timeline,
    (select count(*) from rapport.inbox) as external_events
"""


async def count_totals(tx: Tx) -> dict[str, int]:
    """Return every total by name; money in minor units, all currencies added up."""
    row = await tx.fetchrow(COUNT)
    return {name: int(value) for name, value in row.items()} if row else {}
