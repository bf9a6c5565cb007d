"""Metric queries against counts made in plain Python, and the rebuild against planted errors."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.handlers.rebuild import rebuild
from analytics.store import metrics, segments
from rapport.messaging.transaction import Tx
from services.analytics.tests.conftest import NOW
from services.analytics.tests.story import FIRST_DAY, contact, handle, purchase, refund, registered

# (customer, day, net, day of a full refund or None)
Sale = tuple[int, int, int, int | None]
sales = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.integers(0, 800),
        st.sampled_from([0, 100, 100, 250, 999]),
        st.none() | st.integers(0, 800),
    ),
    max_size=150,
)
RELAXED = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def day(number: int) -> date:
    return FIRST_DAY + timedelta(days=number)


async def play(tx: Tx, bought: list[Sale]) -> None:
    await handle(tx, [purchase(contact(w), str(n), d, m) for n, (w, d, m, _) in enumerate(bought)])
    await handle(
        tx,
        [
            refund(contact(who), str(n), undone, net)
            for n, (who, _, net, undone) in enumerate(bought)
            if undone is not None
        ],
    )


def kept(bought: list[Sale], as_of: int) -> dict[UUID, list[tuple[int, int]]]:
    """Return (day, net) of kept purchases by customer."""
    found = defaultdict(list)
    for who, on, net, undone in bought:
        if on <= as_of and net and not (undone is not None and undone <= as_of):
            found[contact(who)].append((on, net))
    return found


def rfm(bought: list[Sale], as_of: int) -> dict[UUID, str | None]:
    """Rank by (value, first purchase, id); 5 is best, the first fifths take what is left over."""
    customers = kept(bought, as_of)
    first = {c: min(d for d, _ in p) for c, p in customers.items()}
    old = [c for c in customers if as_of - first[c] >= 30]
    values = {
        c: (max(d for d, _ in customers[c]), len(customers[c]), sum(n for _, n in customers[c]))
        for c in old
    }
    codes = dict.fromkeys(old, "")
    for measure in range(3):
        ranked = sorted(old, key=lambda c: (values[c][measure], first[c], c.bytes))
        size, more = divmod(len(ranked), 5)
        ends = [size * (n + 1) + min(n + 1, more) for n in range(5)]
        for rank, customer in enumerate(ranked):
            codes[customer] += str(next(n for n, end in enumerate(ends, 1) if rank < end))
    new: dict[UUID, str | None] = dict.fromkeys(customers.keys() - set(old), "New")
    return new | (codes if len(old) >= 25 else dict.fromkeys(old))


async def in_transaction(connection: asyncpg.Connection) -> tuple[Any, Tx]:
    transaction = connection.transaction()
    await transaction.start()
    return transaction, Tx(connection, NOW)


@RELAXED
@given(sales, st.integers(0, 900))
async def test_rfm_ranks_as_counted_by_hand(
    connection: asyncpg.Connection, bought: list[Sale], as_of: int
) -> None:
    transaction, tx = await in_transaction(connection)
    try:
        await play(tx, bought)
        expected = rfm(bought, as_of)
        rows = await tx.fetch("select contact_id, is_new, code from rfm_as_of($1)", day(as_of))
        assert {r["contact_id"]: "New" if r["is_new"] else r["code"] for r in rows} == expected
        summary = {r["code"]: r["customers"] for r in await metrics.list_rfm_codes(tx, day(as_of))}
        assert summary == Counter(expected.values())
    finally:
        await transaction.rollback()


@RELAXED
@given(sales, st.integers(300, 900))
async def test_repeat_rate_and_patterns_as_counted_by_hand(
    connection: asyncpg.Connection, bought: list[Sale], as_of: int
) -> None:
    transaction, tx = await in_transaction(connection)
    try:
        await play(tx, bought)
        days = [[d for d, _ in p] for p in kept(bought, as_of).values()]
        old = [d for d in days if as_of - min(d) >= 365]
        back = [d for d in old if sum(one - min(d) <= 365 for one in d) >= 2]
        found = await metrics.find_repeat_rate(tx, None, day(as_of), day(as_of))
        assert found == {"customers": len(old), "repeaters": len(back)}
        patterns = Counter((len(set(d)) - 1, max(d) - min(d), as_of - min(d)) for d in days)
        assert await metrics.list_purchase_patterns(tx, day(as_of)) == sorted(
            (*pattern, customers) for pattern, customers in patterns.items()
        )
    finally:
        await transaction.rollback()


async def test_twenty_four_customers_get_no_codes_and_twenty_five_do(tx: Tx) -> None:
    await handle(tx, [purchase(contact(n), str(n), n, 100 + n) for n in range(24)])
    assert [r["code"] for r in await metrics.list_rfm_codes(tx, day(100))] == [None]
    await handle(tx, [purchase(contact(24), "24", 24, 124)])
    codes = {r["code"]: r["customers"] for r in await metrics.list_rfm_codes(tx, day(100))}
    assert codes == {f"{n}{f}{n}": 5 for n, f in zip(range(1, 6), range(1, 6), strict=True)}


async def test_who_came_less_than_thirty_days_ago_is_new(tx: Tx) -> None:
    await handle(tx, [purchase(contact(1), "1", 10, 100)])
    assert (await metrics.find_rfm(tx, day(39), contact(1)) or {})["code"] == "New"
    assert (await metrics.find_rfm(tx, day(40), contact(1)) or {"code": 1})["code"] is None
    assert await metrics.find_rfm(tx, day(9), contact(1)) is None


async def test_kept_is_judged_as_of_a_day_and_revenue_is_dated_on_the_refund(tx: Tx) -> None:
    await handle(tx, [purchase(contact(1), "1", 10, 100), refund(contact(1), "1", 40, 100)])
    (before,) = await metrics.list_purchases(tx, None, day(39), day(39))
    (after,) = await metrics.list_purchases(tx, None, day(40), day(40))
    assert (before["kept"], before["left_minor"]) == (1, 100)
    assert (after["kept"], after["left_minor"]) == (0, 0)
    months = await metrics.list_revenue_by_month(tx, None, day(99))
    assert [(m["month"], m["revenue_minor"]) for m in months] == [
        ("1997-01", 100),
        ("1997-02", -100),
    ]


async def test_the_period_bounds_are_included(tx: Tx) -> None:
    await handle(tx, [purchase(contact(1), str(n), n, 100) for n in range(5)])
    rows = await metrics.list_revenue_by_day(tx, day(1), day(3))
    assert [r["day"] for r in rows] == [day(1), day(2), day(3)]
    rows = await metrics.list_purchases(tx, day(1), day(3), day(4))
    assert [r["day"] for r in rows] == [day(1), day(2), day(3)]


PLANTED = [
    ("update profile set monetary_minor = monetary_minor + 1 where contact_id = $1", "profile"),
    ("delete from profile where contact_id = $1", "profile"),
    ("delete from kept_day where contact_id = $1", "kept_day"),
    (
        "update revenue_day set gross_minor = gross_minor - 1 where $1::uuid is not null",
        "revenue_day",
    ),
    ("delete from segment_member where contact_id = $1", "segment_crossing segment_member"),
    ("delete from segment_crossing where contact_id = $1", "segment_crossing"),
    (
        "delete from fact where contact_id = $1 and kind = 'purchase'",
        "kept_day profile revenue_day segment_member",
    ),
]


@pytest.mark.parametrize(("sql", "figures"), PLANTED)
async def test_a_rebuild_finds_what_is_wrong(tx: Tx, sql: str, figures: str) -> None:
    who = contact(1)
    await handle(
        tx, [registered(who), purchase(who, "1", 1, 20_000), purchase(contact(2), "2", 1, 5)]
    )
    assert (await rebuild(tx)).total == 0
    await tx.execute(sql, who)
    assert {d.figure for d in (await rebuild(tx)).first} == set(figures.split())


async def test_a_rebuild_mends_what_it_found(tx: Tx) -> None:
    await play(tx, [(n % 3, n, 100, None if n % 4 else n + 1) for n in range(12)])
    before = await tx.fetch("select * from profile order by 1")
    await tx.execute("update profile set kept_purchases = 99, last_kept_on = null")
    await tx.execute("delete from kept_day where day < $1", day(6))
    await tx.execute("update revenue_day set gross_minor = 1, partition = 7")
    await tx.execute("insert into profile values ($1, 0, 0, 0, null, null, $2)", contact(9), NOW)
    found = await rebuild(tx, dry_run=False)
    assert found.total > 3
    assert (await rebuild(tx)).total == 0
    assert await tx.fetch("select * from profile order by 1") == before


async def test_every_table_is_free_of_foreign_keys(tx: Tx) -> None:
    """They cost most of the throughput; the rebuild checks instead."""
    assert await tx.fetchval("select count(*) from pg_constraint where contype = 'f'") == 0


async def test_a_preview_counts_who_would_cross(tx: Tx) -> None:
    await handle(tx, [purchase(contact(n), str(n), 1, n * 6_000) for n in range(4)])
    rule = {"all": [{"measure": "monetary_minor", "at_most": 12_000}]}
    assert await segments.preview(tx, "valued", rule) == {
        "members": 3,
        "entering": 2,
        "leaving": 1,
    }
