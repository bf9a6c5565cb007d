"""Versioned parameters: zone and currency of reports, exchange rates, segment rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from analytics.domain.money import Rate, Reporting
from analytics.domain.segment import Segment
from rapport.messaging.transaction import Tx

FIND_REPORTING = "select zone, currency from reporting order by version desc limit 1"
FIND_PARAMETERS = """
select zone, currency,
    (select jsonb_agg(jsonb_build_array(code, version, rule) order by code) from segment_in_force)
from reporting order by version desc limit 1
"""
LIST_RATES = "select currency, valid_from, rate from exchange_rate where currency = any($1::text[])"
PUT_RATE = """
insert into exchange_rate (currency, valid_from, rate) values ($1, $2, $3)
on conflict do nothing returning rate
"""
LIST_DAYS = """
select (at at time zone $2)::date as day
from unnest($1::timestamptz[]) with ordinality as t (at, place) order by place
"""
LIST_SEGMENTS = "select code, version, rule from segment_in_force order by code"
ADD_SEGMENT = """
insert into segment (code, version, rule)
select $1, coalesce(max(version), 0) + 1, $2 from segment where code = $1
returning version
"""


async def find_reporting(tx: Tx) -> Reporting:
    """Return what is in force; the first migration brings one."""
    row = await tx.fetchrow(FIND_REPORTING)
    assert row is not None  # noqa: S101  the first migration inserts a row, nothing deletes it
    return Reporting(row["zone"], row["currency"])


async def find_parameters(tx: Tx) -> tuple[Reporting, list[Segment]]:
    """Return what handlers need, at once: how to report, and every segment's rule in force."""
    row = await tx.fetchrow(FIND_PARAMETERS)
    assert row is not None  # noqa: S101  as above
    zone, currency, rules = row.values()
    return Reporting(zone, currency), [Segment.from_rule(*rule) for rule in rules or ()]


async def list_rates(tx: Tx, currencies: Sequence[str]) -> list[Rate]:
    """Return all rates of these currencies."""
    return [Rate(*row.values()) for row in await tx.fetch(LIST_RATES, currencies)]


async def add_rate(tx: Tx, currency: str, valid_from: date, rate: Decimal) -> bool:
    """Add a rate; False when one stands for that currency and day, which is never changed."""
    return await tx.fetchval(PUT_RATE, currency, valid_from, rate) is not None


async def list_days(tx: Tx, instants: Sequence[Any], zone: str) -> list[date]:
    """Return the local day of each instant, in order."""
    return [row["day"] for row in await tx.fetch(LIST_DAYS, instants, zone)]


async def list_segments(tx: Tx) -> list[Segment]:
    """Return every segment's rule in force, by code."""
    rows = await tx.fetch(LIST_SEGMENTS)
    return [Segment.from_rule(r["code"], r["version"], r["rule"]) for r in rows]


async def add_segment_version(tx: Tx, code: str, rule: dict[str, Any]) -> int:
    """Add a version of a segment's rule and return its number."""
    version: int = await tx.fetchval(ADD_SEGMENT, code, rule)
    return version
