"""Purchases into the ledger: the hot path, one statement for a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from loyalty.domain.earning import Credit
from loyalty.store.queries import read_query
from rapport.messaging.transaction import Tx

ADD_CREDITS = read_query("add_credits")
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class AddedCredits:
    """What became of a batch: purchases added, contacts enrolled, contacts left alone."""

    purchases: set[UUID]
    enrolled: set[UUID]
    odd: set[UUID]


async def add_credits(
    tx: Tx, credits_: Sequence[Credit], enrolled_at: Mapping[UUID, datetime]
) -> AddedCredits:
    """Write purchases whose members owe nothing and have no refund waiting for one of them.

    Those of the other contacts are left alone; known purchases change nothing. Purchases must
    differ from each other.
    """
    row = await tx.fetchrow(
        ADD_CREDITS,
        *_columns(credits_),
        [enrolled_at[c.contact_id] for c in credits_],
        tx.now,
    )
    added, enrolled, odd = row or (None, None, None)
    return AddedCredits(set(added or ()), set(enrolled or ()), set(odd or ()))


async def add_earnings(tx: Tx, credits_: Sequence[Credit]) -> set[UUID]:
    """Note that purchases were judged; return those that had not been."""
    rows = await tx.fetch(
        """
        insert into earning (purchase_id, contact_id, event_id, occurred_at, programme_version,
            points, shares, active_from, expires_at)
        select p, c, e, o, v, n, s::jsonb, f, x from unnest(
            $1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::integer[], $6::bigint[],
            $7::text[], $8::timestamptz[], $9::timestamptz[]) as g(p, c, e, o, v, n, s, f, x)
        on conflict do nothing
        returning purchase_id
        """,
        *_columns(credits_),
    )
    return {row["purchase_id"] for row in rows}


def _columns(credits_: Sequence[Credit]) -> list[list[object]]:
    return [
        [c.purchase_id for c in credits_],
        [c.contact_id for c in credits_],
        [c.event_id for c in credits_],
        [c.occurred_at for c in credits_],
        [c.version for c in credits_],
        [c.points for c in credits_],
        [_encode(c.shares).decode() for c in credits_],
        [c.active_from for c in credits_],
        [c.expires_at for c in credits_],
    ]
