"""Statements that the tests of handlers and API do not pin down by themselves."""

from __future__ import annotations

from datetime import date, timedelta
from uuid import UUID

import asyncpg
import pytest

from contacts.domain.consent import Channel, Decision
from contacts.domain.contact import Contact
from contacts.domain.purchase import Purchase, Refund, RefundWish
from contacts.store import (
    anniversary,
    consent,
    contact,
    purchase,
    reference,
    source,
    timeline,
    totals,
)
from contacts.store import refund as refund_store
from rapport.contracts.contacts import PurchaseLine, RefundedLine
from rapport.messaging import inbox
from rapport.messaging.transaction import Tx
from services.contacts.tests.door import Door

NOBODY, ADA, BOB = UUID(int=0), UUID(int=1), UUID(int=2)


@pytest.fixture
def tx(door: Door) -> Tx:
    return Tx(door.connection, door.now)


def bought(tx: Tx, n: int, contact_id: UUID = ADA, *net: int) -> Purchase:
    return Purchase(
        id=UUID(int=n),
        contact_id=contact_id,
        source="cdnow",
        order=f"o{n}",
        occurred_at=tx.now - timedelta(days=n),
        currency="USD",
        lines=tuple(
            PurchaseLine(line=str(i), sku="cd", quantity=1, net_minor=m) for i, m in enumerate(net)
        ),
        shipping_minor=0,
        shop=None,
        digest=b"d",
        event_id=UUID(int=n + 1000),
    )


def given_back(tx: Tx, n: int, of: Purchase, **lines: int) -> Refund:
    wish = RefundWish(
        id=UUID(int=n),
        purchase_id=of.id,
        contact_id=of.contact_id,
        source=of.source,
        external_id=str(n),
        order=of.order,
        occurred_at=tx.now,
        currency="USD",
        lines=tuple((k, v) for k, v in lines.items()) or None,
        trace=None,
    )
    granted = tuple(RefundedLine(line=k.strip("_"), net_minor=v) for k, v in lines.items())
    return Refund(wish=wish, lines=granted, event_id=UUID(int=n + 2000))


async def test_references_keep_their_first_contact(tx: Tx) -> None:
    assert await reference.add_references(tx, {("s", "1"): ADA}) == {("s", "1"): ADA}
    both = {("s", "1"): BOB, ("s", "2"): BOB}
    assert await reference.add_references(tx, both) == {("s", "2"): BOB}
    assert await reference.find_contacts(tx, both) == {("s", "1"): ADA, ("s", "2"): BOB}
    await reference.delete_references(tx, [("s", "2")])
    assert await reference.find_contacts(tx, both) == {("s", "1"): ADA}


async def test_contacts_are_saved_and_found_by_address_and_number(tx: Tx) -> None:
    ada = Contact(id=ADA, registered_at=tx.now, email="Ada@x.example", birth_date=date(1980, 3, 15))
    await contact.save_contacts(tx, [ada, Contact(id=BOB, registered_at=tx.now, zone="UTC")])
    await reference.add_references(tx, {("s", "1"): ADA, ("s", "0"): ADA})
    (found,) = await contact.list_contacts(tx, NOBODY, 9, contact.Filter(email="ada@X.example"))
    assert found.references == (("s", "0"), ("s", "1"))
    assert found.birth_date == date(1980, 3, 15)
    by_number = contact.Filter(system="s", number="1")
    assert await contact.list_contacts(tx, NOBODY, 9, by_number) == [found]
    assert await contact.list_contacts(tx, ADA, 9, by_number) == []
    assert await contact.find_zones(tx, [ADA, BOB]) == {BOB: "UTC"}


async def test_another_name_of_a_merged_contact_finds_the_survivor(tx: Tx) -> None:
    await contact.save_contacts(tx, [Contact(id=ADA, registered_at=tx.now)])
    await tx.execute("insert into rapport.key (id, survivor) values ($1, $2)", BOB, ADA)
    found = await contact.find_contact(tx, BOB)
    assert found is not None
    assert found.id == ADA


async def test_the_newest_decision_of_a_purpose_and_channel_is_current(tx: Tx) -> None:
    def decided(*, granted: bool, channel: Channel = "email") -> Decision:
        return Decision(
            purpose="marketing",
            channel=channel,
            granted=granted,
            wording_version="1",
            recipient="Rapport",
            decided_at=tx.now,
        )

    yes, no = decided(granted=True), decided(granted=False)
    sms = decided(granted=True, channel="sms")
    await consent.add_consents(tx, [(UUID(int=n), ADA, d) for n, d in enumerate([yes, sms, no])])
    await consent.add_consents(tx, [(UUID(int=0), ADA, no)])
    listed = await consent.list_consents(tx, ADA)
    assert [(r.event_id.int, r.granted, r.current) for r in listed] == [
        (2, False, True),
        (1, True, True),
        (0, True, False),
    ]
    assert (await totals.count_totals(tx))["marketing_consents"] == 1


async def test_remainders_and_kept_purchases_count_refunds_per_line(tx: Tx) -> None:
    both = [bought(tx, 10, ADA, 100, 50), bought(tx, 11, ADA, 70), bought(tx, 12, ADA, 0)]
    await purchase.add_purchases(tx, both)
    await purchase.add_lines(tx, both)
    back = [
        given_back(tx, 20, both[0], _0=30),
        given_back(tx, 21, both[0], _0=70),
        given_back(tx, 22, both[1], _0=70),
    ]
    await refund_store.add_refunds(tx, back)
    await refund_store.add_lines(tx, back)
    found = await purchase.find_remainders(tx, [p.id for p in both] + [NOBODY])
    assert {k.int: v.left for k, v in found.items()} == {
        10: {"0": 0, "1": 50},
        11: {"0": 0},
        12: {"0": 0},
    }
    past = await purchase.list_past(tx, [ADA])
    assert {p.id.int: p.kept for p in past[ADA]} == {10: True, 11: False, 12: False}
    counted = await totals.count_totals(tx)
    assert (counted["revenue_gross_minor"], counted["refunded_minor"]) == (220, 170)
    assert (counted["purchases"], counted["refunds"]) == (3, 3)


async def test_an_order_recorded_at_the_same_time_starts_the_transaction_again(tx: Tx) -> None:
    await purchase.add_purchases(tx, [bought(tx, 10)])
    with pytest.raises(asyncpg.SerializationError):
        await purchase.add_purchases(tx, [bought(tx, 10, BOB), bought(tx, 11, BOB)])


async def test_waiting_refunds_are_found_in_order_of_arrival_until_settled(tx: Tx) -> None:
    order = bought(tx, 10)
    wishes = [given_back(tx, 30, order, a=1).wish, given_back(tx, 29, order).wish]
    await refund_store.add_waiting(tx, wishes)
    found = await refund_store.find_waiting(tx, [order.id])
    assert found == {order.id: wishes}
    await refund_store.settle_waiting(
        tx, [refund_store.Settled(wishes[0].id, "lines[0].line: is no line", "lines[0].line")]
    )
    assert await refund_store.find_waiting(tx, [order.id]) == {order.id: wishes[1:]}
    assert (await totals.count_totals(tx))["waiting_refunds"] == 1


async def test_lists_are_paged_from_the_newest(tx: Tx) -> None:
    orders = [bought(tx, n, ADA, n) for n in (10, 11, 12)]
    await purchase.add_purchases(tx, orders)
    await purchase.add_lines(tx, orders)
    rows = await purchase.list_purchases(tx, ADA, (tx.now, NOBODY), 2)
    assert [row["order"] for row in rows] == ["o10", "o11"]
    behind = (rows[-1]["occurred_at"], rows[-1]["id"])
    assert [r["order"] for r in await purchase.list_purchases(tx, ADA, behind, 2)] == ["o12"]
    facts = [timeline.Entry(UUID(int=n), ADA, tx.now, "t", "{}") for n in range(3)]
    await timeline.add_entries(tx, facts)
    await timeline.add_entries(tx, facts)
    rows = await timeline.list_entries(tx, ADA, (tx.now, UUID(int=2)), 9)
    assert [row["event_id"].int for row in rows] == [1, 0]


async def test_sources(tx: Tx) -> None:
    assert await source.add_source(tx, "web", "shop")
    assert not await source.add_source(tx, "web", "other")
    assert await source.find_systems(tx, ["web", "nobody"]) == {"web": "shop"}
    assert await source.find_unknown_systems(tx, ["shop", "moon"]) == {"moon"}
    assert [s.source for s in await source.list_sources(tx, "till-1", 9)] == ["till-2", "web"]


async def test_an_anniversary_day_is_recorded_once(tx: Tx) -> None:
    day = anniversary.Celebration(ADA, date(1998, 3, 2), UUID(int=5), [UUID(int=6), UUID(int=7)])
    await anniversary.add_anniversaries(tx, [day])
    await anniversary.add_anniversaries(tx, [day._replace(event_id=UUID(int=9))])
    row = await tx.fetchrow("select event_id, purchases from anniversary")
    assert row is not None
    assert (row["event_id"].int, [p.int for p in row["purchases"]]) == (5, [6, 7])


async def test_the_inbox_keeps_the_first_and_notices_a_second_at_the_same_time(tx: Tx) -> None:
    entry = inbox.Entry(b"h", UUID(int=1))
    await inbox.add_entries(tx, [(("cdnow", "2"), entry), (("cdnow", "1"), entry)])
    keys = [("cdnow", "1"), ("cdnow", "3"), ("other", "1")]
    assert await inbox.find_entries(tx, keys) == {("cdnow", "1"): entry}
    with pytest.raises(asyncpg.SerializationError):
        await inbox.add_entries(tx, [(("cdnow", "1"), entry), (("cdnow", "9"), entry)])
