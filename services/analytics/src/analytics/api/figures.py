"""The metrics by name: definition and query."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from analytics.models import runner
from analytics.store import metrics, segments
from rapport.messaging.transaction import Tx


@dataclass(frozen=True, slots=True)
class Period:
    """What was asked, with every default filled in."""

    first: date | None
    last: date
    as_of: date
    zone: str
    contact_id: UUID | None = None
    segment: str | None = None
    weeks: float = 39


@dataclass(frozen=True, slots=True)
class Metric:
    """A definition in words, and the figures that it gives."""

    definition: str
    compute: Callable[[Tx, Period], Awaitable[Any]]


async def _revenue_daily(tx: Tx, period: Period) -> Any:  # noqa: ANN401  each metric has its shape
    return await metrics.list_revenue_by_day(tx, period.first, period.last)


async def _revenue_monthly(tx: Tx, period: Period) -> Any:  # noqa: ANN401
    return await metrics.list_revenue_by_month(tx, period.first, period.last)


async def _purchases(tx: Tx, period: Period) -> Any:  # noqa: ANN401
    return await metrics.list_purchases(tx, period.first, period.last, period.as_of)


async def _repeat_rate(tx: Tx, period: Period) -> Any:  # noqa: ANN401
    counts = await metrics.find_repeat_rate(tx, period.first, period.last, period.as_of)
    if not counts["customers"]:
        return counts | {"rate": None, "unknown": "no first purchase is 365 days old"}
    return counts | {"rate": round(counts["repeaters"] / counts["customers"], 6)}


async def _rfm(tx: Tx, period: Period) -> Any:  # noqa: ANN401
    if period.contact_id:
        found = await metrics.find_rfm(tx, period.as_of, period.contact_id)
        return found or {"unknown": "the contact has no kept purchase"}
    codes = await metrics.list_rfm_codes(tx, period.as_of)
    ranked = [row for row in codes if row["code"]]
    few = "fewer than 25 customers besides the new ones: no codes"
    return {"codes": ranked} | ({"unknown": few} if len(ranked) < len(codes) else {})


async def _bgnbd(tx: Tx, period: Period) -> Any:  # noqa: ANN401
    patterns = await metrics.list_purchase_patterns(tx, period.as_of)
    individual = None
    if period.contact_id:
        own = await metrics.list_purchase_patterns(tx, period.as_of, period.contact_id)
        if not own:
            return {"unknown": "the contact has no kept purchase"}
        individual = own[0][:3]
    return runner.question(patterns, individual, period.weeks)


async def _messages(tx: Tx, period: Period) -> Any:  # noqa: ANN401
    return await metrics.list_messages(tx, period.first, period.last)


async def _points(tx: Tx, period: Period) -> Any:  # noqa: ANN401
    return await metrics.list_points(tx, period.first, period.last)


async def _segment(tx: Tx, period: Period) -> Any:  # noqa: ANN401
    return {
        "now": await segments.list_summaries(tx, period.segment),
        "crossings": await metrics.list_crossings(
            tx, period.first, period.last, period.zone, period.segment
        ),
    }


METRICS: dict[str, Metric] = {
    "revenue_daily": Metric(
        "Net of tax and shipping, per day: purchases on their own day less refunds on theirs, at"
        " the rate of the purchase's day.",
        _revenue_daily,
    ),
    "revenue_monthly": Metric(
        "revenue_daily summed per calendar month.",
        _revenue_monthly,
    ),
    "purchases": Metric(
        "Purchases per day of sale; kept are those of which anything is left after the refunds up"
        " to as_of.",
        _purchases,
    ),
    "repeat_rate": Metric(
        "Share of customers with at least 2 kept purchases within 365 days of their first, among"
        " those whose first kept purchase is at least 365 days old as of as_of (and lies within"
        " from and to).",
        _repeat_rate,
    ),
    "rfm": Metric(
        "Quintiles by rank, 5 is best: last kept day, number and money of kept purchases as of"
        " as_of; ties go by first purchase, then id. Customers whose first kept purchase is less"
        " than 30 days old are New and taken out first; fewer than 25 others get no codes.",
        _rfm,
    ),
    "bgnbd": Metric(
        "BG/NBD by maximum likelihood on days with a kept purchase as of as_of, in weeks: r and"
        " alpha of the purchase rate, a and b of the drop-out probability. With contact_id also"
        " P(alive) and the purchases to expect within `weeks`.",
        _bgnbd,
    ),
    "messages": Metric(
        "Messages per day of the decision: sent, or suppressed with the reason.",
        _messages,
    ),
    "points": Metric(
        "Points per day: credited as pending, made active (or used to repay a debt), and taken"
        " back by refunds.",
        _points,
    ),
    "segment": Metric(
        "Members now by the rule in force, and crossings per day; joined are memberships of two"
        " contacts that became one.",
        _segment,
    ),
}
