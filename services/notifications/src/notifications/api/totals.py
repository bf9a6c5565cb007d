"""Totals, counted in the base tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from fastapi import APIRouter, Request
from pydantic import BaseModel

from notifications.store import totals
from rapport.service import Service

router = APIRouter(tags=["totals"])

OUTCOMES = ("sent", "queued", "suppressed", "unknown", "failed")


class Totals(BaseModel):
    """How many messages by outcome, reason and rule; one being handed over counts as queued."""

    messages: dict[str, int]
    reasons: dict[str, int]
    by_rule: Mapping[str, Mapping[str, int]]
    attempts: int
    recipients: int
    marketing_consents: int
    suppressed_addresses: int


@router.get("/totals")
async def read_totals(request: Request) -> Totals:
    """Count everything."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        counts = await totals.count_messages(tx)
        others = await totals.count_others(tx)
    messages = Counter(dict.fromkeys(OUTCOMES, 0))
    reasons: Counter[str] = Counter()
    by_rule: dict[str, Counter[str]] = {}
    for rule, state, reason, count in counts:
        outcome = "queued" if state == "sending" else state
        messages[outcome] += count
        by_rule.setdefault(rule, Counter(dict.fromkeys(OUTCOMES, 0)))[outcome] += count
        if reason is not None:
            reasons[reason] += count
    return Totals(messages=messages, reasons=reasons, by_rule=by_rule, **others)
