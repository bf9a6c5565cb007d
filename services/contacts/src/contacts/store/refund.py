"""Refunds, and those that wait for their purchase."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg
import orjson

from contacts.domain.purchase import Refund, RefundWish
from rapport.messaging.transaction import Tx

APPLIED = "applied"
NOTHING_LEFT = "nothing_left"

ADD = """
insert into refund (id, purchase_id, contact_id, occurred_at, event_id, recorded_at)
select *, $6 from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::uuid[])
order by 1
"""
ADD_LINES = """
insert into refund_line (purchase_id, line, refund_id, net_minor)
select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[]) order by 1, 2, 3
"""
FIND_WAITING = """
select id, purchase_id, contact_id, source, external_id, order_number, occurred_at, currency,
    lines, trace
from waiting_refund where purchase_id = any($1::uuid[]) and outcome is null
order by purchase_id, place
"""
ADD_WAITING = """
insert into waiting_refund (id, purchase_id, contact_id, source, external_id, order_number,
    occurred_at, currency, lines, trace, received_at)
select id, purchase_id, contact_id, source, external_id, order_number, occurred_at, currency,
    lines, trace, $11
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[],
    $7::timestamptz[], $8::text[], $9::jsonb[], $10::text[]) with ordinality as new (id,
    purchase_id, contact_id, source, external_id, order_number, occurred_at, currency, lines,
    trace, place)
order by place
"""
SETTLE = """
update waiting_refund w set outcome = new.outcome, field = new.field, settled_at = $4
from unnest($1::uuid[], $2::text[], $3::text[]) as new (id, outcome, field)
where w.id = new.id
"""


class Settled(NamedTuple):
    """How the waiting of a refund ended; `field` when it was refused."""

    id: UUID
    outcome: str
    field: str | None = None


async def add_refunds(tx: Tx, refunds: Sequence[Refund]) -> None:
    """Add granted refunds."""
    rows = [
        (r.wish.id, r.wish.purchase_id, r.wish.contact_id, r.wish.occurred_at, r.event_id)
        for r in refunds
    ]
    await tx.execute(ADD, *zip(*rows, strict=True), tx.now)


async def add_lines(tx: Tx, refunds: Sequence[Refund]) -> None:
    """Add the lines of granted refunds."""
    rows = [
        (r.wish.purchase_id, line.line, r.wish.id, line.net_minor)
        for r in refunds
        for line in r.lines
    ]
    await tx.execute(ADD_LINES, *zip(*rows, strict=True))


async def find_waiting(tx: Tx, purchases: Collection[UUID]) -> dict[UUID, list[RefundWish]]:
    """Return the refunds that wait for these purchases, in order of arrival."""
    found: defaultdict[UUID, list[RefundWish]] = defaultdict(list)
    for row in await tx.fetch(FIND_WAITING, list(purchases)):
        found[row["purchase_id"]].append(_wish(row))
    return dict(found)


async def add_waiting(tx: Tx, wishes: Sequence[RefundWish]) -> None:
    """Keep refunds until their purchase arrives."""
    rows = [
        (
            w.id,
            w.purchase_id,
            w.contact_id,
            w.source,
            w.external_id,
            w.order,
            w.occurred_at,
            w.currency,
            None if w.lines is None else orjson.dumps(w.lines).decode(),
            w.trace,
        )
        for w in wishes
    ]
    await tx.execute(ADD_WAITING, *zip(*rows, strict=True), tx.now)


async def settle_waiting(tx: Tx, settled: Sequence[Settled]) -> None:
    """Note how the waiting ended."""
    await tx.execute(SETTLE, *zip(*settled, strict=True), tx.now)


def _wish(row: asyncpg.Record) -> RefundWish:
    fields = dict(row)
    lines = fields.pop("lines")
    return RefundWish(
        order=fields.pop("order_number"),
        **fields,
        lines=None if lines is None else tuple((line, net) for line, net in lines),
    )
