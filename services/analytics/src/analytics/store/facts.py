"""Facts, the purchases and refunds among them, and refunds that wait for their purchase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import msgspec

from analytics.domain.fact import Fact
from analytics.domain.money import Sale
from rapport.messaging.transaction import Tx

ADD_FACTS = """
insert into fact (event_id, kind, contact_id, occurred_at, day, subject_id, amount,
    original_minor, currency, details, recorded_at)
select event_id, kind, contact_id, occurred_at, (occurred_at at time zone $10)::date, subject_id,
    amount, original_minor, currency, details, $11
from unnest($1::uuid[], $2::text[], $3::uuid[], $4::timestamptz[], $5::uuid[], $6::bigint[],
    $7::bigint[], $8::text[], $9::jsonb[]) as new (event_id, kind, contact_id, occurred_at,
    subject_id, amount, original_minor, currency, details)
on conflict do nothing
returning event_id, day
"""
LIST_KNOWN = "select event_id from fact where event_id = any($1::uuid[])"
LIST_SALES = """
select p.subject_id, p.day, coalesce(a.survivor_id, p.contact_id) as contact_id,
    p.original_minor, p.amount, p.currency,
    coalesce(sum(r.original_minor), 0)::bigint as refunded_original,
    coalesce(sum(r.amount), 0)::bigint as refunded
from fact p
    left join alias a on a.loser_id = p.contact_id
    left join fact r on r.kind = 'refund' and r.subject_id = p.subject_id
where p.kind = 'purchase' and p.subject_id = any($1::uuid[])
group by p.event_id, a.survivor_id
"""
ADD_WAITING = """
insert into waiting_refund (event_id, purchase_id, contact_id, occurred_at, original_minor,
    currency, received_at)
select *, $7 from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::bigint[],
    $6::text[])
on conflict do nothing
"""
TAKE_WAITING = """
delete from waiting_refund where purchase_id = any($1::uuid[])
returning event_id, purchase_id, contact_id, occurred_at, original_minor, currency
"""


@dataclass(frozen=True, slots=True)
class Refund:
    """Money of a purchase given back, as paid."""

    event_id: UUID
    purchase_id: UUID
    contact_id: UUID
    occurred_at: datetime
    original_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class KnownSale:
    """A purchase that is a fact: its day, whose it is today, and its money."""

    day: date
    contact_id: UUID
    sale: Sale


async def add_facts(tx: Tx, facts: Sequence[Fact], zone: str) -> dict[UUID, date]:
    """Insert what is not known yet; return the new ones' days in the zone, by event id."""
    rows = await tx.fetch(
        ADD_FACTS,
        [f.event_id for f in facts],
        [str(f.kind) for f in facts],
        [f.contact_id for f in facts],
        [f.occurred_at for f in facts],
        [f.subject_id for f in facts],
        [f.amount for f in facts],
        [f.original_minor for f in facts],
        [f.currency for f in facts],
        [f.details and msgspec.json.encode(f.details).decode() for f in facts],
        zone,
        tx.now,
    )
    return {row["event_id"]: row["day"] for row in rows}


async def list_known(tx: Tx, event_ids: Sequence[UUID]) -> set[UUID]:
    """Return which events are facts already."""
    return {row["event_id"] for row in await tx.fetch(LIST_KNOWN, event_ids)}


async def list_sales(tx: Tx, purchase_ids: Sequence[UUID]) -> dict[UUID, KnownSale]:
    """Return the purchases that are facts, with what was refunded of them so far."""
    rows = await tx.fetch(LIST_SALES, purchase_ids)
    return {
        r["subject_id"]: KnownSale(
            r["day"],
            r["contact_id"],
            Sale(
                r["original_minor"],
                r["amount"],
                r["currency"],
                r["refunded_original"],
                r["refunded"],
            ),
        )
        for r in rows
    }


async def add_waiting_refunds(tx: Tx, refunds: Sequence[Refund]) -> None:
    """Keep refunds until their purchase comes; known ones are left alone."""
    await tx.execute(
        ADD_WAITING,
        [r.event_id for r in refunds],
        [r.purchase_id for r in refunds],
        [r.contact_id for r in refunds],
        [r.occurred_at for r in refunds],
        [r.original_minor for r in refunds],
        [r.currency for r in refunds],
        tx.now,
    )


async def take_waiting_refunds(tx: Tx, purchase_ids: Sequence[UUID]) -> list[Refund]:
    """Remove and return the refunds that waited for these purchases, by time and id."""
    rows = await tx.fetch(TAKE_WAITING, purchase_ids)
    refunds = [Refund(*row.values()) for row in rows]
    return sorted(refunds, key=lambda r: (r.occurred_at, r.event_id))
