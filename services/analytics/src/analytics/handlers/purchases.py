"""Purchases and refunds become facts, and change profile, segments and revenue at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from analytics.domain.fact import Fact, Kind
from analytics.domain.money import Sale, convert, rate_on
from analytics.handlers.figures import Figures, partition_of
from analytics.handlers.refunds import GivenBack, apply, give_back
from analytics.store import facts, parameters
from analytics.store.facts import KnownSale, Refund
from rapport.contracts.contacts import PurchaseRecorded, PurchaseRefunded
from rapport.messaging.delivery import Delivery
from rapport.messaging.handler import several_per_contact
from rapport.messaging.transaction import Tx

Purchase = Delivery[PurchaseRecorded]


@several_per_contact
async def record_purchases(purchases: Sequence[Purchase], tx: Tx) -> None:
    """Count each purchase once, followed by the refunds that were waiting for it."""
    figures = await Figures.open(tx)
    sales = await _price(purchases, figures)
    days = await facts.add_facts(
        tx, [_fact(p, s) for p, s in zip(purchases, sales, strict=True)], figures.reporting.zone
    )
    by_id = {p.id: (p, s) for p, s in zip(purchases, sales, strict=True) if p.id in days}
    if not by_id:
        return
    new = list(by_id.values())
    known = {p.event.purchase_id: KnownSale(days[p.id], p.contact_id, s) for p, s in new}
    kept = {p.id for p, s in new if s.kept}
    waiting = await _give_back_waiting(known, figures)
    buyers = {p.contact_id for p, _ in new}
    if waiting:  # refunds look at days of other purchases too
        await figures.load(buyers)
    else:
        await figures.load(buyers, min(days.values()), max(days.values()))
    for purchase, sale in new:
        day, profile = days[purchase.id], figures.profiles[purchase.contact_id]
        profile.record(day, sale.amount_minor, kept=purchase.id in kept)
        figures.revenue.record(day, partition_of(purchase), sale.amount_minor)
        figures.tell(profile, purchase)
        for refund in waiting[purchase.event.purchase_id] if waiting else ():
            apply(refund, figures, purchase)
    await figures.save()


def _fact(purchase: Purchase, sale: Sale) -> Fact:
    event = purchase.event
    return Fact(
        purchase.id,
        Kind.PURCHASE,
        event.contact_id,
        event.occurred_at,
        event.purchase_id,
        sale.amount_minor,
        sale.original_minor,
        sale.currency,
    )


async def _price(purchases: Sequence[Purchase], figures: Figures) -> list[Sale]:
    """Price in the reporting currency, at the rate of the purchase's day.

    Raises UnknownRateError: an amount without a rate is unknown, not 0.
    """
    home = figures.reporting.currency
    amounts = [sum(line.net_minor for line in p.event.lines) for p in purchases]
    foreign = sorted({p.event.currency for p in purchases} - {home})
    if not foreign:
        return [Sale(amount, amount, home) for amount in amounts]
    rates = await parameters.list_rates(figures.tx, foreign)
    moments: list[datetime] = [p.event.occurred_at for p in purchases]
    days: list[date] = await parameters.list_days(figures.tx, moments, figures.reporting.zone)
    sales: list[Sale] = []
    for purchase, amount, day in zip(purchases, amounts, days, strict=True):
        currency = purchase.event.currency
        price = amount if currency == home else convert(amount, rate_on(rates, currency, day))
        sales.append(Sale(amount, price, currency))
    return sales


async def _give_back_waiting(
    known: dict[UUID, KnownSale], figures: Figures
) -> defaultdict[UUID, list[GivenBack]]:
    refunds = await facts.take_waiting_refunds(figures.tx, list(known))
    by_purchase: defaultdict[UUID, list[GivenBack]] = defaultdict(list)
    for refund in await give_back(refunds, known, figures) if refunds else []:
        by_purchase[refund.refund.purchase_id].append(refund)
    return by_purchase


@several_per_contact
async def record_refunds(refunds: Sequence[Delivery[PurchaseRefunded]], tx: Tx) -> None:
    """Take each refund off its purchase, on the refund's own day; without one it waits."""
    figures = await Figures.open(tx)
    counted = await facts.list_known(tx, [d.id for d in refunds])
    new = {d.id: d for d in refunds if d.id not in counted}
    known = await facts.list_sales(tx, sorted({d.event.purchase_id for d in new.values()}))
    ready = [_refund(d) for d in new.values() if d.event.purchase_id in known]
    early = [_refund(d) for d in new.values() if d.event.purchase_id not in known]
    if early:
        await facts.add_waiting_refunds(tx, early)
    if not ready:
        return
    given_back = await give_back(ready, known, figures)
    await figures.load({new[g.refund.event_id].contact_id for g in given_back})
    for refund in given_back:
        apply(refund, figures, new[refund.refund.event_id])
    await figures.save()


def _refund(delivery: Delivery[PurchaseRefunded]) -> Refund:
    event = delivery.event
    return Refund(
        delivery.id,
        event.purchase_id,
        event.contact_id,
        event.occurred_at,
        sum(line.net_minor for line in event.lines),
        event.currency,
    )
