"""What a refund does to its purchase and to the figures, whenever it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from analytics.domain.fact import Fact, Kind
from analytics.handlers.figures import Figures, partition_of
from analytics.store import facts
from analytics.store.facts import KnownSale, Refund
from rapport.messaging.delivery import Cause


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A refund in the reporting currency; `undone` when it left nothing of its purchase."""

    refund: Refund
    purchaser: UUID
    purchased_on: date
    day: date
    amount_minor: int
    undone: bool


async def give_back(
    refunds: Sequence[Refund], known: Mapping[UUID, KnownSale], figures: Figures
) -> list[GivenBack]:
    """Take refunds, in order, off their purchases, which are known, and record the facts."""
    amounts: list[tuple[int, bool]] = []
    for refund in refunds:
        sale = known[refund.purchase_id].sale
        was_kept = sale.kept
        amount = sale.give_back(refund.original_minor, refund.currency)
        amounts.append((amount, was_kept and not sale.kept))
    new = [_fact(r, amount) for r, (amount, _) in zip(refunds, amounts, strict=True)]
    days = await facts.add_facts(figures.tx, new, figures.reporting.zone)
    return [
        GivenBack(
            r, known[r.purchase_id].contact_id, known[r.purchase_id].day, days[r.event_id], *a
        )
        for r, a in zip(refunds, amounts, strict=True)
    ]


def apply(given: GivenBack, figures: Figures, cause: Cause) -> None:
    """Change the purchaser's figures and the revenue of the refund's day, and tell."""
    profile = figures.profiles[given.purchaser]
    profile.give_back(given.purchased_on, given.amount_minor, undone=given.undone)
    figures.revenue.give_back(given.day, partition_of(cause), given.amount_minor)
    figures.tell(profile, cause)


def _fact(refund: Refund, amount_minor: int) -> Fact:
    return Fact(
        refund.event_id,
        Kind.REFUND,
        refund.contact_id,
        refund.occurred_at,
        refund.purchase_id,
        amount_minor,
        refund.original_minor,
        refund.currency,
    )
