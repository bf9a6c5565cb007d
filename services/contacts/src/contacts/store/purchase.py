"""Purchases and their lines; neither ever changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from contacts.domain.anniversary import PastPurchase
from contacts.domain.purchase import Purchase, Remainder
from rapport.messaging.transaction import Tx

FIND_REMAINDERS = """
select p.id, p.contact_id, p.currency, p.digest, p.event_id, l.line,
    l.net_minor - coalesce((select sum(r.net_minor) from refund_line r
        where r.purchase_id = p.id and r.line = l.line), 0)::bigint as left_minor,
    exists (select from refund_line r where r.purchase_id = p.id) as refunded
from purchase p join purchase_line l on l.purchase_id = p.id
where p.id = any($1::uuid[]) order by p.id, l.place
"""
LIST_PAST = """
select p.contact_id, p.id, p.order_number, p.occurred_at, exists (
    select from purchase_line l where l.purchase_id = p.id and l.net_minor > coalesce((
        select sum(r.net_minor) from refund_line r
        where r.purchase_id = p.id and r.line = l.line), 0)) as kept
from purchase p where p.contact_id = any($1::uuid[])
"""
ADD = """
insert into purchase (id, contact_id, source, order_number, occurred_at, currency, shipping_minor,
    shop, digest, event_id, recorded_at)
select *, $11 from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[],
    $6::text[], $7::bigint[], $8::text[], $9::bytea[], $10::uuid[])
order by 1
on conflict do nothing
"""
ADD_LINES = """
insert into purchase_line (purchase_id, line, place, sku, quantity, net_minor, tax_minor,
    category, excluded)
select * from unnest($1::uuid[], $2::text[], $3::integer[], $4::text[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::text[], $9::boolean[])
"""
LIST = """
select p.id, p.source, p.order_number as "order", p.occurred_at, p.currency, p.shipping_minor,
    p.shop,
    (select jsonb_agg(jsonb_build_object('line', l.line, 'sku', l.sku, 'quantity', l.quantity,
        'net_minor', l.net_minor, 'tax_minor', l.tax_minor, 'category', l.category,
        'excluded', l.excluded, 'refunded_minor', coalesce((select sum(r.net_minor)
            from refund_line r where r.purchase_id = p.id and r.line = l.line), 0))
        order by l.place)
     from purchase_line l where l.purchase_id = p.id) as lines
from purchase p
where p.contact_id = $1 and (p.occurred_at, p.id) < ($2, $3)
order by p.occurred_at desc, p.id desc limit $4
"""


async def find_remainders(tx: Tx, ids: Collection[UUID]) -> dict[UUID, Remainder]:
    """Return what is left of the known ones among these purchases."""
    found: dict[UUID, Remainder] = {}
    for row in await tx.fetch(FIND_REMAINDERS, list(ids)):
        remainder = found.get(row["id"])
        if remainder is None:
            remainder = found[row["id"]] = Remainder(
                id=row["id"],
                contact_id=row["contact_id"],
                currency=row["currency"],
                digest=row["digest"],
                event_id=row["event_id"],
                left={},
                refunded=row["refunded"],
            )
        remainder.left[row["line"]] = row["left_minor"]
    return found


async def list_past(tx: Tx, contacts: Collection[UUID]) -> dict[UUID, list[PastPurchase]]:
    """Return every purchase of these contacts, and whether it is kept now."""
    found: defaultdict[UUID, list[PastPurchase]] = defaultdict(list)
    for row in await tx.fetch(LIST_PAST, list(contacts)):
        found[row["contact_id"]].append(
            PastPurchase(
                id=row["id"],
                order=row["order_number"],
                occurred_at=row["occurred_at"],
                kept=row["kept"],
            )
        )
    return found


async def add_purchases(tx: Tx, purchases: Sequence[Purchase]) -> None:
    """Add purchases that this transaction did not find.

    Raises SerializationError when another transaction has just added one of them for another
    customer's number (whose key this one does not hold): run again, it is found then.
    """
    rows = [
        (
            p.id,
            p.contact_id,
            p.source,
            p.order,
            p.occurred_at,
            p.currency,
            p.shipping_minor,
            p.shop,
            p.digest,
            p.event_id,
        )
        for p in purchases
    ]
    tag = await tx.execute(ADD, *zip(*rows, strict=True), tx.now)
    if int(tag.rsplit(" ", 1)[1]) < len(rows):
        raise asyncpg.SerializationError("an order was recorded at the same time")


async def add_lines(tx: Tx, purchases: Sequence[Purchase]) -> None:
    """Add the lines of purchases that were just added."""
    rows = [
        (
            p.id,
            x.line,
            place,
            x.sku,
            x.quantity,
            x.net_minor,
            x.tax_minor,
            x.category,
            x.excluded,
        )
        for p in purchases
        for place, x in enumerate(p.lines)
    ]
    await tx.execute(ADD_LINES, *zip(*rows, strict=True))


async def list_purchases(
    tx: Tx, contact_id: UUID, before: tuple[datetime, UUID], limit: int
) -> list[dict[str, Any]]:
    """Return a contact's purchases with lines and what was refunded of each, the newest first."""
    rows = await tx.fetch(LIST, contact_id, *before, limit)
    return [dict(row) for row in rows]
