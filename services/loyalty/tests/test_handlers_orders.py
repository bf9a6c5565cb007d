"""Any order, repetition and cut of purchases and refunds gives the same balances."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loyalty import store
from loyalty.handlers import purchases
from rapport.messaging.delivery import Delivery
from rapport.messaging.transaction import Tx
from rapport.pgtypes import Connection
from services.loyalty.tests.ledger_stories import (
    Sale,
    Step,
    assert_closed,
    fresh_world,
    live,
    stories,
    worth,
)
from services.loyalty.tests.ledger_world import contact

EXAMPLES = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CAP = 25


@pytest.mark.parametrize("cap", [None, CAP])
@EXAMPLES
@given(data=st.data())
async def test_any_order_repetition_and_cut_gives_the_oracles_balances(
    connection: Connection, cap: int | None, data: st.DataObject
) -> None:
    drawn, steps = data.draw(stories(spending=True, days=60 if cap is None else 3))
    async with fresh_world(connection) as world:
        await connection.execute("update programme set daily_cap = $1", cap)
        spent = await live(world, steps)
        for member in (1, 2):
            own = [sale for sale in drawn if sale.member == member]
            left = worth(own, cap)
            ripe = sum(left[s.name] for s in own if s.active_from() <= world.now)
            pending = sum(left[s.name] for s in own if s.active_from() > world.now)
            found = await world.balance(member)
            net = ripe - spent[member] - found["held"]
            assert found == {
                "pending": pending,
                "active": max(net, 0),
                "held": found["held"],
                "debt": max(-net, 0),
            }
        await assert_closed(world)


@pytest.mark.parametrize("cap", [None, CAP])
@EXAMPLES
@given(data=st.data())
async def test_the_same_holds_while_points_expire(
    connection: Connection, cap: int | None, data: st.DataObject
) -> None:
    drawn, steps = data.draw(stories(spending=False, days=60 if cap is None else 3))
    async with fresh_world(connection) as world:
        await connection.execute("update programme set expiry_months = 1, daily_cap = $1", cap)
        await live(world, steps)
        expired = 0
        for member in (1, 2):
            own = [sale for sale in drawn if sale.member == member]
            left = worth(own, cap)
            pending = sum(left[s.name] for s in own if s.active_from() > world.now)
            active = sum(left[s.name] for s in own if s.active_from() <= world.now < s.expires_at())
            expired += sum(left[s.name] for s in own if s.expires_at() <= world.now)
            assert await world.balance(member) == {
                "pending": pending,
                "active": active,
                "held": 0,
                "debt": 0,
            }
        await assert_closed(world)
        totals = await store.count_totals(Tx(connection, world.now))
        assert totals["programme"]["expired"] == expired


@EXAMPLES
@given(data=st.data())
async def test_with_cap_expiry_and_debt_on_what_comes_after_spends_may_come_in_any_order(
    connection: Connection, data: st.DataObject
) -> None:
    """Everything at one instant: points of it are pending, active, held, spent or past expiry."""
    _, steps = data.draw(stories(spending=True, days=data.draw(st.sampled_from([2, 70]))))
    events = [delivery for step in steps for delivery in step.batch]
    before = data.draw(st.integers(0, len(events)))
    early, late = events[:before], events[before:]
    spends = [Step([], 0, step.spender, step.points, step.action) for step in steps]
    story = [Step(early, 24 * data.draw(st.integers(0, 40)), 1, 0, ""), *spends]
    again = [*late, *data.draw(st.lists(st.sampled_from(events), max_size=4))]
    reordered, cut = data.draw(st.permutations(again)), data.draw(st.integers(1, 4))
    found = [
        await balances_after(connection, story, late, 1000),
        await balances_after(connection, story, reordered, cut),
    ]
    assert found[0] == found[1]


async def balances_after(
    connection: Connection, story: Sequence[Step], late: Sequence[Delivery[Any]], cut: int
) -> list[dict[str, int]]:
    """Live through a story and what comes after it; return both members' balances."""
    async with fresh_world(connection) as world:
        await connection.execute("update programme set expiry_months = 1, daily_cap = $1", CAP)
        await live(world, [*story, Step([*late], 0, 1, 0, "")], cut)
        await assert_closed(world)
        return [await world.balance(member) for member in (1, 2)]


@EXAMPLES
@given(story=stories(spending=True, days=40))
async def test_with_all_on_the_ledger_closes_whatever_happens(
    connection: Connection, story: tuple[list[Sale], list[Step]]
) -> None:
    async with fresh_world(connection) as world:
        await connection.execute("update programme set expiry_months = 1, daily_cap = $1", CAP)
        await live(world, story[1])
        await assert_closed(world)
        await world.advance(world.now + timedelta(days=90))
        await assert_closed(world)


ROWS = """
select jsonb_build_object(
    'members', (select jsonb_agg(to_jsonb(m) order by m.contact_id) from member m),
    'earnings', (select jsonb_agg(to_jsonb(e) order by e.purchase_id) from earning e),
    'lots', (select jsonb_agg(to_jsonb(l) - 'id' order by l.purchase_id, l.line) from lot l),
    'debts', (select jsonb_agg(to_jsonb(d) order by d.contact_id) from debt d),
    'redemptions', (select jsonb_agg(to_jsonb(r) order by r.id) from redemption r),
    'allocations', (select jsonb_agg(to_jsonb(a) order by a.redemption_id, a.number)
        from redemption_lot a),
    'capped', (select jsonb_agg(to_jsonb(c) order by c.purchase_id, c.line) from capped_line c),
    'refunds', (select jsonb_agg(to_jsonb(r) order by r.refund_id) from refund r),
    'waiting', (select jsonb_agg(to_jsonb(w) - 'arrival' order by w.arrival)
        from waiting_refund w),
    'timers', (select jsonb_agg(to_jsonb(t) - 'id' order by t.kind, t.key) from rapport.timer t),
    'journals', (select jsonb_agg(to_jsonb(j) - 'id' order by j.source_event, j.rule, j.leg)
        from journal j),
    'order', (select jsonb_agg(jsonb_build_array(j.contact_id, j.source_event, j.leg)
        order by j.contact_id, j.id) from journal j),
    'lines', (select jsonb_agg(
            jsonb_build_array(j.source_event, j.leg, n.account, n.contact_id, n.points,
                l.purchase_id, l.line)
            order by j.source_event, j.leg, n.account, n.points, l.purchase_id, l.line)
        from journal_line n join journal j on j.id = n.journal_id
        left join lot l on l.id = n.lot_id)
)
"""


async def history(
    connection: Connection, steps: list[Step], cut: int, cap: int | None = None
) -> tuple[Any, dict[Any, list[Any]]]:
    """Live through the steps, each cut into lists of so many; return all rows and events."""
    async with fresh_world(connection) as world:
        if cap is not None:
            await connection.execute("update programme set expiry_months = 1, daily_cap = $1", cap)
        await live(world, steps, cut)
        said = {
            contact(member): [
                (event.id, event.type, event.body)
                for event in world.published
                if event.key == contact(member)
            ]
            for member in (1, 2)
        }
        rows = await connection.fetchval(ROWS)
    return rows, said


@pytest.mark.parametrize("cap", [None, CAP])
@EXAMPLES
@given(data=st.data())
async def test_any_cut_of_one_list_gives_the_same_rows_and_events(
    connection: Connection, cap: int | None, data: st.DataObject
) -> None:
    """What `several_per_contact` promises."""
    _, steps = data.draw(stories(spending=True, days=60 if cap is None else 3))
    cut = data.draw(st.integers(1, 4))
    whole = await history(connection, steps, 1000, cap)
    assert whole == await history(connection, steps, cut, cap)


@EXAMPLES
@given(story=stories(spending=True))
async def test_the_one_statement_writes_what_the_books_would(
    connection: Connection, story: tuple[list[Sale], list[Step]]
) -> None:
    async def leave_all_alone(batch: purchases.Batch, _tx: Tx) -> set[Any]:
        return {credit.contact_id for credit in batch.credits}

    _, steps = story
    usual = await history(connection, steps, 1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(purchases, "_credit_usual", leave_all_alone)
        assert await history(connection, steps, 1000) == usual
