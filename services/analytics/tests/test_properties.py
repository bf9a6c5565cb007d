"""However one history is cut into batches, rows and events are the same; so is a rebuild."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.domain.profile import Profile
from analytics.domain.segment import Segment
from analytics.handlers.rebuild import rebuild
from rapport.messaging.delivery import Delivery
from rapport.messaging.transaction import Tx
from services.analytics.tests.conftest import NOW
from services.analytics.tests.story import contact, handle, merged, purchase, refund, registered

LIVE = ("fact", "profile", "kept_day", "revenue_day", "segment_member", "segment_crossing")
TABLES = (*LIVE, "waiting_refund", "alias")
RULES = (
    {"all": [{"measure": "kept_purchases", "at_least": 1, "at_most": 2}]},
    {"all": [{"measure": "monetary_minor", "at_most": 4_000}]},
    {
        "all": [
            {"measure": "purchase_days", "at_least": 2},
            {"measure": "monetary_minor", "at_least": 1},
        ]
    },
)
Deliveries = list[Delivery[Any]]


@st.composite
def histories(draw: st.DrawFn) -> Deliveries:
    """Purchases and refunds of three contacts in any order, refunds before purchases included."""
    events: Deliveries = [registered(contact(n)) for n in range(3)]
    for order in range(draw(st.integers(0, 9))):
        who, day = contact(draw(st.integers(0, 2))), draw(st.integers(0, 4))
        nets = draw(st.lists(st.sampled_from([0, 1, 4_000, 6_000, 10_000]), min_size=1, max_size=2))
        events.append(purchase(who, str(order), day, *nets))
        left = nets
        for n in range(draw(st.integers(0, 2))):
            back = [draw(st.sampled_from([0, net // 2, net])) for net in left]
            left = [net - part for net, part in zip(left, back, strict=True)]
            later = draw(st.integers(0, 4))
            events.append(refund(who, str(order), later, *back, name=str(n)))
    return draw(st.permutations(events))


def cuts(events: Deliveries, places: Sequence[int]) -> list[Deliveries]:
    borders = [0, *sorted({place % (len(events) + 1) for place in places}), len(events)]
    return [events[a:b] for a, b in pairwise(borders)]


async def rows_of(tx: Tx) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table; `tx.now` is the same in all runs."""
    found = {}
    for table in TABLES:
        rows = await tx.fetch(f"select * from {table}")  # noqa: S608  a literal from above
        found[table] = sorted((tuple(row.values()) for row in rows), key=str)
    return found


Events = list[tuple[UUID, UUID, str, str]]


async def outcome(
    connection: asyncpg.Connection, batches: list[Deliveries]
) -> tuple[dict[str, list[tuple[Any, ...]]], dict[UUID, Events], int]:
    """Return rows, events per contact in order, and the differences of a rebuild."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        tx = Tx(connection, NOW)
        for number, rule in enumerate(RULES):
            await tx.execute("insert into segment values ($1, 1, $2, $3)", f"s{number}", rule, NOW)
        for batch in batches:
            await handle(tx, batch)
        events: dict[UUID, Events] = {}
        for p in tx.published:
            events.setdefault(p.key, []).append((p.id, p.cause.cause_id, p.type, p.body))
        return await rows_of(tx), events, (await rebuild(tx)).total
    finally:
        await transaction.rollback()


no_fixture_check = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
places = st.lists(st.integers(0, 40), max_size=6)


@settings(deadline=None, max_examples=60, suppress_health_check=no_fixture_check)
@given(histories(), places)
async def test_any_cut_gives_the_same_rows_and_events_and_a_rebuild_agrees(
    connection: asyncpg.Connection, events: Deliveries, where: list[int]
) -> None:
    one_by_one = await outcome(connection, [[event] for event in events])
    assert await outcome(connection, cuts(events, where)) == one_by_one
    assert await outcome(connection, [events]) == one_by_one
    assert one_by_one[2] == 0
    ids = [event[0] for told in one_by_one[1].values() for event in told]
    assert len(ids) == len(set(ids))


@settings(deadline=None, max_examples=40, suppress_health_check=no_fixture_check)
@given(histories(), places)
async def test_figures_do_not_depend_on_order_nor_repetition(
    connection: asyncpg.Connection,
    events: Deliveries,
    where: list[int],
) -> None:
    in_order = await outcome(connection, [events])
    repeated = cuts([*reversed(events), *events], where)
    rows, _, differences = await outcome(connection, repeated)
    assert differences == 0
    for table in ("profile", "revenue_day", "segment_member", "waiting_refund"):
        assert rows[table] == in_order[0][table]


@settings(deadline=None, max_examples=40, suppress_health_check=no_fixture_check)
@given(histories(), st.integers(0, 40), places)
async def test_a_merge_anywhere_keeps_figures_and_facts_together(
    connection: asyncpg.Connection, events: Deliveries, place: int, where: list[int]
) -> None:
    loser, survivor = contact(0), contact(1)
    at = place % (len(events) + 1)
    later = events[at:]
    for event in later:
        if event.contact_id == loser:
            event.contact_id = survivor
    records = merged(loser, survivor)
    batches = [*cuts(events[:at], where), [records[0]], [records[1]], *cuts(later, where)]
    rows, _, differences = await outcome(connection, batches)
    assert differences == 0
    assert loser not in {row[0] for row in rows["profile"]}


measures = ("kept_purchases", "purchase_days", "monetary_minor")
bounds = st.none() | st.integers(-2, 3)
conditions = st.builds(
    lambda m, low, high: (
        {"measure": m}
        | ({} if low is None else {"at_least": low})
        | ({} if high is None else {"at_most": high})
    ),
    st.sampled_from(measures),
    bounds,
    bounds,
)


@settings(deadline=None, max_examples=150, suppress_health_check=no_fixture_check)
@given(st.lists(conditions, max_size=3), st.tuples(*[st.integers(-3, 4)] * 3))
async def test_sql_and_python_judge_a_rule_alike(
    connection: asyncpg.Connection,
    rule: list[dict[str, Any]],
    values: tuple[int, int, int],
) -> None:
    profile = Profile(contact(1), *values)
    segment = Segment.from_rule("any", 1, {"all": rule})
    sql = "select satisfies($1, $2, $3, $4)"
    assert await connection.fetchval(sql, {"all": rule}, *values) is segment.holds(profile)
