"""What each event does to facts, live figures and segments, on a real Postgres."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from analytics.domain.money import CurrencyDiffersError, UnknownRateError
from analytics.handlers.rebuild import rebuild
from analytics.store import metrics, parameters, profiles
from rapport.contracts.analytics import ProfileUpdated, SegmentEntered, SegmentExited
from rapport.contracts.contacts import AnniversaryDue, RememberedPurchase
from rapport.contracts.loyalty import PointsAwarded, PointsPending, PointsReversed
from rapport.contracts.notifications import MessageSent, MessageSuppressed
from rapport.messaging.delivery import Delivery
from rapport.messaging.ids import derived_id
from rapport.messaging.transaction import Tx
from rapport.testing import deliver
from services.analytics.tests.story import (
    FIRST_DAY,
    contact,
    handle,
    handle_each,
    merged,
    noon,
    published,
    purchase,
    refund,
    registered,
)

ANNE, BERT = contact(1), contact(2)


async def figures_of(tx: Tx, who: object) -> tuple[Any, ...]:
    row = await tx.fetchrow("select * from profile where contact_id = $1", who)
    return () if row is None else tuple(row.values())[1:6]


def day(number: int) -> date:
    return FIRST_DAY + timedelta(days=number)


async def revenue(tx: Tx) -> dict[date, tuple[int, int]]:
    rows = await metrics.list_revenue_by_day(tx, None, day(9999))
    return {r["day"]: (r["gross_minor"], r["refunded_minor"]) for r in rows}


async def test_a_purchase_is_a_fact_a_profile_and_revenue(tx: Tx) -> None:
    await handle(tx, [registered(ANNE), purchase(ANNE, "1", 3, 600, 400)])
    assert await figures_of(tx, ANNE) == (1, 1, 1000, day(3), day(3))
    assert await revenue(tx) == {day(3): (1000, 0)}
    assert await metrics.count_facts(tx) == {"contact_registered": 1, "purchase": 1}
    (told,) = published(tx, ProfileUpdated)
    assert told == ProfileUpdated(
        contact_id=ANNE,
        kept_purchases=1,
        monetary_minor=1000,
        currency="USD",
        last_purchase_on=day(3),
    )


async def test_a_new_contact_has_an_empty_profile(tx: Tx) -> None:
    await handle(tx, [registered(ANNE)])
    assert await figures_of(tx, ANNE) == (0, 0, 0, None, None)
    assert tx.published == []


async def test_an_event_that_comes_again_changes_nothing(tx: Tx) -> None:
    """Not only the position keeps figures single: positions may be set back."""
    story: list[Delivery[Any]] = [
        registered(ANNE),
        purchase(ANNE, "1", 3, 20_000),
        refund(ANNE, "1", 5, 15_000),
    ]
    await handle(tx, story)
    before, told = await figures_of(tx, ANNE), len(tx.published)
    await handle(tx, story)
    await handle_each(tx, [story[1], story[1], story[2], story[2]])
    assert await figures_of(tx, ANNE) == before == (1, 1, 5000, day(3), day(3))
    assert await revenue(tx) == {day(3): (20_000, 0), day(5): (0, 15_000)}
    assert len(tx.published) == told


async def test_the_same_event_twice_in_one_list_counts_once(tx: Tx) -> None:
    await handle(tx, [purchase(ANNE, "1", 3, 500)] * 2)
    await handle(tx, [refund(ANNE, "1", 3, 200)] * 2)
    assert await figures_of(tx, ANNE) == (1, 1, 300, day(3), day(3))


async def test_days_are_those_of_the_programme_zone(tx: Tx) -> None:
    late = purchase(ANNE, "1", 3, 500)
    moment = noon(3).replace(hour=23, minute=30)
    late.event = type(late.event)(
        **{f: getattr(late.event, f) for f in late.event.__struct_fields__ if f != "occurred_at"},
        occurred_at=moment,
    )
    await handle(tx, [late])
    assert await revenue(tx) == {day(3): (500, 0)}


async def test_a_free_purchase_is_told_but_not_kept(tx: Tx) -> None:
    await handle(tx, [purchase(ANNE, "1", 3, 0)])
    assert await figures_of(tx, ANNE) == (0, 0, 0, None, None)
    assert len(published(tx, ProfileUpdated)) == 1


async def test_a_refund_counts_on_its_own_day(tx: Tx) -> None:
    await handle(tx, [purchase(ANNE, "1", 3, 1000), purchase(ANNE, "2", 4, 50)])
    await handle(tx, [refund(ANNE, "1", 23, 1000)])
    assert await figures_of(tx, ANNE) == (1, 1, 50, day(4), day(4))
    assert await revenue(tx) == {day(3): (1000, 0), day(4): (50, 0), day(23): (0, 1000)}


async def test_a_refund_waits_for_its_purchase(tx: Tx) -> None:
    early = refund(ANNE, "1", 3, 400)
    await handle_each(tx, [registered(ANNE), early, early])
    assert await metrics.count_facts(tx) == {"contact_registered": 1}
    assert (await metrics.find_money_totals(tx))["waiting_refunds"] == 1
    await handle_each(tx, [purchase(ANNE, "1", 3, 400, 600), early])
    assert await figures_of(tx, ANNE) == (1, 1, 600, day(3), day(3))
    assert [p.monetary_minor for p in published(tx, ProfileUpdated)] == [1000, 600]
    assert (await metrics.find_money_totals(tx))["waiting_refunds"] == 0


async def test_a_segment_is_entered_and_left_once_per_crossing(tx: Tx) -> None:
    await handle(
        tx,
        [
            purchase(ANNE, "1", 1, 9_999),
            purchase(ANNE, "2", 2, 1),
            purchase(ANNE, "3", 3, 5_000),
            refund(ANNE, "3", 4, 5_000),
            refund(ANNE, "2", 5, 1),
            purchase(ANNE, "4", 6, 1),
        ],
    )
    directions = [p.type.split(".")[2] for p in tx.published if "segment" in p.type]
    assert directions == ["segment-entered", "segment-exited", "segment-entered"]
    entered = published(tx, SegmentEntered)
    assert entered[0] == SegmentEntered(contact_id=ANNE, segment="valued")
    totals = await metrics.find_segment_totals(tx)
    assert totals == {
        "segment_members": 1,
        "segment_entered": 2,
        "segment_exited": 1,
        "segment_joined": 0,
    }


async def test_profile_and_crossing_follow_each_event_in_order(tx: Tx) -> None:
    await handle(tx, [purchase(ANNE, str(n), n, 6_000) for n in range(3)])
    kinds = [p.type.split(".")[2] for p in tx.published]
    assert kinds == ["profile-updated", "profile-updated", "segment-entered", "profile-updated"]
    assert [p.kept_purchases for p in published(tx, ProfileUpdated)] == [1, 2, 3]


async def test_merged_contacts_share_one_profile(tx: Tx) -> None:
    await handle(tx, [registered(ANNE), registered(BERT)])
    await handle(tx, [purchase(ANNE, "1", 1, 6_000), purchase(BERT, "2", 1, 6_000)])
    await handle(tx, merged(BERT, ANNE))
    assert await figures_of(tx, ANNE) == (2, 1, 12_000, day(1), day(1))
    assert await figures_of(tx, BERT) == ()
    assert await profiles.find_survivor(tx, BERT) == ANNE
    assert len(published(tx, SegmentEntered)) == 1
    await handle(tx, [refund(ANNE, "2", 9, 6_000), *merged(BERT, ANNE)])
    assert await figures_of(tx, ANNE) == (1, 1, 6_000, day(1), day(1))
    assert len(published(tx, SegmentExited)) == 1
    assert (await rebuild(tx)).total == 0


async def test_two_members_that_are_one_stay_one_member(tx: Tx) -> None:
    await handle(tx, [purchase(ANNE, "1", 1, 10_000), purchase(BERT, "2", 1, 10_000)])
    await handle(tx, merged(BERT, ANNE))
    totals = await metrics.find_segment_totals(tx)
    assert (totals["segment_members"], totals["segment_joined"]) == (1, 1)
    assert len(published(tx, SegmentEntered)) == 2
    assert published(tx, SegmentExited) == []
    assert (await rebuild(tx)).total == 0


async def test_a_survivor_that_is_merged_away_takes_its_past_along(tx: Tx) -> None:
    carl = contact(3)
    await handle(tx, [purchase(ANNE, "1", 1, 100), purchase(BERT, "2", 2, 200)])
    await handle(tx, merged(ANNE, BERT))
    await handle(tx, merged(BERT, carl))
    assert await profiles.find_survivor(tx, ANNE) == carl
    assert await figures_of(tx, carl) == (2, 2, 300, day(1), day(2))
    assert (await rebuild(tx)).total == 0


async def test_other_currencies_count_at_the_rate_of_the_purchase(tx: Tx) -> None:
    await parameters.add_rate(tx, "EUR", day(0), Decimal("1.25"))
    await parameters.add_rate(tx, "EUR", day(10), Decimal(2))
    await handle(tx, [purchase(ANNE, "1", 3, 1001, currency="EUR")])
    assert await revenue(tx) == {day(3): (1251, 0)}
    await handle(tx, [refund(ANNE, "1", 20, 500, name="a", currency="EUR")])
    await handle(tx, [refund(ANNE, "1", 20, 501, name="b", currency="EUR")])
    assert await revenue(tx) == {day(3): (1251, 0), day(20): (0, 1251)}
    assert await figures_of(tx, ANNE) == (0, 0, 0, None, None)
    assert (await rebuild(tx)).total == 0


async def test_an_amount_without_a_rate_is_unknown_not_zero(tx: Tx) -> None:
    with pytest.raises(UnknownRateError, match="CHF"):
        await handle(tx, [purchase(ANNE, "1", 3, 1001, currency="CHF")])


async def test_a_refund_in_another_currency_fails(tx: Tx) -> None:
    await handle(tx, [purchase(ANNE, "1", 3, 1001)])
    with pytest.raises(CurrencyDiffersError):
        await handle(tx, [refund(ANNE, "1", 3, 1, currency="EUR")])


async def test_points_messages_and_anniversaries_are_counted_once(tx: Tx) -> None:
    about, message = derived_id("purchase", "cdnow", "1"), derived_id("message", 1)
    letter: dict[str, Any] = {
        "contact_id": ANNE,
        "message_id": message,
        "rule": "thank-you",
        "channel": "email",
    }
    remembered = RememberedPurchase(purchase_id=about, purchased_on=day(0), first_kept=True)
    events = [
        deliver(event)
        for event in (
            PointsPending(contact_id=ANNE, purchase_id=about, points=10, active_from=noon(14)),
            PointsAwarded(contact_id=ANNE, purchase_id=about, points=10, repaid=2),
            PointsReversed(
                contact_id=ANNE,
                purchase_id=about,
                refund_id=derived_id("r"),
                from_pending=1,
                from_active=2,
                to_debt=3,
            ),
            MessageSent(**letter),
            MessageSuppressed(**letter, reason="too_old"),
            AnniversaryDue(contact_id=ANNE, local_date=day(365), purchases=(remembered,)),
        )
    ]
    await handle(tx, events)
    await handle(tx, events)
    kinds = ["anniversary", "message_sent", "message_suppressed"]
    kinds += ["points_awarded", "points_pending", "points_reversed"]
    assert await metrics.count_facts(tx) == dict.fromkeys(kinds, 1)
    (points,) = await metrics.list_points(tx, None, date(2030, 1, 1))
    assert (points["pending"], points["awarded"], points["reversed"]) == (10, 10, 6)
    messages = await metrics.list_messages(tx, None, date(2030, 1, 1))
    assert [(m["outcome"], m["rule"], m["reason"]) for m in messages] == [
        ("sent", "thank-you", None),
        ("suppressed", "thank-you", "too_old"),
    ]


async def test_each_partition_has_its_own_revenue_row(tx: Tx) -> None:
    """Replicas hold different partitions, hence never the same row."""
    first, second = purchase(ANNE, "1", 3, 100), purchase(BERT, "2", 3, 10)
    first.causal_entry, second.causal_entry = "contacts.events.v1:2:1:7", "contacts.events.v1:5:1:9"
    await handle(tx, [first, second])
    rows = await tx.fetch("select partition, gross_minor from revenue_day order by partition")
    assert [tuple(r.values()) for r in rows] == [(2, 100), (5, 10)]
    assert await revenue(tx) == {day(3): (110, 0)}
