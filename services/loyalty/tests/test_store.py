"""Statements whose effect the handlers' tests do not show."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from loyalty import store
from loyalty.domain.outcome import Balance
from loyalty.domain.programme import Programme
from rapport.messaging.transaction import Tx
from rapport.pgtypes import Connection
from services.loyalty.tests.ledger_world import World, contact, merged, purchase, refund, registered

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
WINDOW = timedelta(days=14)


@pytest.fixture
def world(rolled_back: Connection) -> World:
    return World(rolled_back, MONDAY)


@pytest.fixture
def tx(rolled_back: Connection) -> Tx:
    return Tx(rolled_back, MONDAY)


async def test_default_programme_is_the_first_version(tx: Tx) -> None:
    expected = Programme(1, datetime(1900, 1, 1, tzinfo=UTC), "Europe/Prague", 14, 1, "debt", None)
    assert await store.list_programmes(tx) == [expected]


async def test_programme_version_is_added_only_after_the_newest(tx: Tx) -> None:
    [first] = await store.list_programmes(tx)
    second = replace(first, version=2, valid_from=MONDAY)
    assert await store.add_programme(tx, second)
    assert not await store.add_programme(tx, second)
    assert not await store.add_programme(tx, replace(first, version=4))
    assert await store.list_programmes(tx) == [first, second]


@pytest.mark.parametrize("table", ["journal", "journal_line"])
@pytest.mark.parametrize("change", ["delete from {}", "update {} set contact_id = null"])
async def test_journal_is_append_only(world: World, table: str, change: str) -> None:
    await world.deliver(purchase("a", 1, MONDAY, 1000))
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await world.connection.execute(change.format(table))


async def test_totals_add_up_from_the_tables(world: World, tx: Tx) -> None:
    await world.deliver(registered(3, MONDAY), purchase("a", 1, MONDAY - WINDOW, 1000, 500))
    await world.deliver(purchase("b", 2, MONDAY, 700), refund("b", 2, MONDAY, {0: 100}))
    await world.deliver(refund("c", 2, MONDAY, {0: 100}))
    await world.spend(1, 15)
    await world.deliver(refund("a", 1, MONDAY, {0: 1000}))
    assert await store.count_totals(tx) == {
        "members": 3,
        "points": {"pending": 6, "active": 0, "held": 0, "debt": 10},
        "programme": {"issued": 11, "redeemed": 15, "expired": 0},
        "lots": {"pending": 1, "active": 0},
        "lot_points": {"pending": 6, "active": 0},
        "owed": 10,
        "journals": 6,
        "journals_unbalanced": 0,
        "lines": 18,
        "purchases": 2,
        "refunds": 3,
        "refunds_waiting": 1,
    }


@pytest.mark.parametrize(
    ("damage", "unbalanced"),
    [
        ("delete from journal_line where account = 'active'", 1),
        ("delete from journal_line", 1),
        ("delete from journal", 1),
        ("insert into journal_line select * from journal_line where account = 'active'", 1),
    ],
)
async def test_totals_notice_a_line_or_journal_removed_or_doubled_by_hand(
    world: World, tx: Tx, damage: str, unbalanced: int
) -> None:
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000))
    await world.connection.execute("set local session_replication_role = replica")
    await world.connection.execute(damage)
    assert (await store.count_totals(tx))["journals_unbalanced"] == unbalanced


async def test_balance_is_the_sum_of_the_open_lots(world: World, tx: Tx) -> None:
    stranger = (await store.list_books(tx, [contact(1)]))[contact(1)]
    assert stranger.balance() == Balance(pending=0, active=0, held=0, debt=0)
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 1000), purchase("b", 1, MONDAY, 300))
    await world.hold(1, 4)
    book = (await store.list_books(tx, [contact(1)]))[contact(1)]
    assert book.balance() == Balance(pending=3, active=6, held=4, debt=0)


async def test_statement_sums_to_the_balance_and_pages_without_gap(world: World, tx: Tx) -> None:
    await world.deliver(purchase("a", 1, MONDAY, 1000), purchase("b", 1, MONDAY, 300))
    await world.advance(MONDAY + WINDOW)
    await world.spend(1, 10)
    await world.deliver(refund("a", 1, world.now, {0: 1000}))
    everything = await store.list_entries(tx, [contact(1)], None, 100)
    assert [entry.leg for entry in everything[-2:]] == ["issue", "issue"]
    assert sum(entry.active for entry in everything) == 0
    assert sum(entry.debt for entry in everything) == 7
    paged: list[store.StatementEntry] = []
    while page := await store.list_entries(tx, [contact(1)], paged[-1].id if paged else None, 2):
        paged += page
    assert paged == everything


async def test_merged_member_is_found_under_both_names_with_one_statement(
    world: World, tx: Tx
) -> None:
    await world.deliver(
        registered(1, MONDAY), purchase("a", 2, MONDAY, 1000), purchase("b", 3, MONDAY, 100)
    )
    for loser, survivor in ((3, 2), (2, 1)):
        for record in merged(loser, survivor, MONDAY):
            await world.deliver(record)
    for number in (1, 2, 3):
        member = await store.find_member(tx, contact(number))
        assert member is not None
        assert member.contact_id == contact(1)
    names = await store.list_aliases(tx, contact(1))
    assert set(names) == {contact(1), contact(2), contact(3)}
    entries = await store.list_entries(tx, names, None, 100)
    assert sum(entry.pending for entry in entries) == 11
    assert (await store.count_totals(tx))["members"] == 1


async def test_books_of_a_purchases_owner_come_with_all_its_lots(world: World, tx: Tx) -> None:
    await world.deliver(purchase("a", 1, MONDAY - WINDOW, 500), purchase("b", 1, MONDAY, 100))
    await world.spend(1, 5)
    sale = purchase("a", 1, MONDAY, 500).event.purchase_id
    assert [lot.line for lot in (await store.list_books(tx, [contact(1)]))[contact(1)].lots] == [
        "0"
    ]
    books = await store.list_books(tx, [], [sale])
    assert [lot.remaining for lot in books[contact(1)].lots] == [0, 1]
