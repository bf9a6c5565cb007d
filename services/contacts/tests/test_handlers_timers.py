"""Anniversaries, and facts of other services on the timeline."""

from __future__ import annotations

from datetime import UTC, datetime

from contacts.handlers import HANDLERS
from contacts.handlers.anniversary import remember_purchases
from rapport.contracts.loyalty import PointsPending
from rapport.contracts.registry import EVENT_TYPES
from rapport.messaging.delivery import TimerDue
from rapport.messaging.ids import derived_id
from rapport.messaging.transaction import Tx
from rapport.testing import deliver
from services.contacts.tests.door import Door
from services.contacts.tests.events import event, purchase, refund

ADA = derived_id("contact", "cdnow", "7")


async def fire(door: Door, *, key_day: str) -> None:
    """Fire the contact's timer of a day as the core does: the row is gone before the handler."""
    row = await door.connection.fetchrow(
        "delete from rapport.timer where key = $1 returning kind, key, contact_id, due_at, payload",
        f"{ADA}:{key_day}",
    )
    assert row is not None
    due = TimerDue(**dict(row))

    async def body(tx: Tx) -> None:
        await tx.lock_keys([due.contact_id])
        await remember_purchases([due], tx)

    door.now = due.due_at
    await door.run(body)


async def timers(door: Door) -> list[str]:
    rows = await door.rows("rapport.timer", "payload")
    return [row["payload"]["date"] for row in rows]


async def test_an_anniversary_names_its_purchases_and_comes_every_year(door: Door) -> None:
    await door.accept(purchase("1"), purchase("2", "o2", net=0), purchase("3", "o3", net=500))
    assert await timers(door) == ["1998-03-02"]
    (timer,) = await door.rows("rapport.timer", "due_at")
    assert timer["due_at"] == datetime(1998, 3, 2, 8, tzinfo=UTC)
    await fire(door, key_day="1998-03-02")
    assert door.events()[-1] == "anniversary-due"
    body = door.published[-1].body
    assert body.count('"first_kept":true') == 1
    assert body.index('"first_kept":true') < body.index('"first_kept":false')
    assert body.count("purchased_on") == 2, "the free purchase is not kept"
    assert await timers(door) == ["1999-03-02"]
    (row,) = await door.rows("anniversary")
    assert (row["event_id"], len(row["purchases"])) == (door.published[-1].id, 2)
    await fire(door, key_day="1999-03-02")
    assert len(await door.rows("anniversary")) == 2


async def test_nothing_kept_ends_the_anniversaries(door: Door) -> None:
    await door.accept(purchase("1"), refund("2"))
    before = len(door.published)
    await fire(door, key_day="1998-03-02")
    assert len(door.published) == before
    assert await timers(door) == []


async def test_the_contacts_own_zone_counts(door: Door) -> None:
    await door.accept(
        event("1", "contact.registered", zone="Pacific/Auckland"),
        purchase("2", occurred_at="1997-03-01T12:00:00Z"),
    )
    (timer,) = await door.rows("rapport.timer")
    assert timer["payload"]["date"] == "1998-03-02"
    assert timer["due_at"] == datetime(1998, 3, 1, 20, tzinfo=UTC)
    await fire(door, key_day="1998-03-02")
    assert '"purchased_on":"1997-03-02"' in door.published[-1].body


async def test_leap_day_purchases_part_again_in_leap_years(door: Door) -> None:
    await door.accept(
        purchase("1", occurred_at="1996-02-29T12:00:00Z"),
        purchase("2", "o2", occurred_at="1997-02-28T12:00:00Z"),
    )
    assert await timers(door) == ["1998-02-28"]
    await fire(door, key_day="1998-02-28")
    assert await timers(door) == ["1999-02-28"]
    await fire(door, key_day="1999-02-28")
    assert await timers(door) == ["2000-02-28", "2000-02-29"]


# Facts of other services


async def test_facts_of_other_services_are_on_the_timeline_once(door: Door) -> None:
    fact = PointsPending(contact_id=ADA, purchase_id=ADA, points=10, active_from=door.now)
    deliveries = [deliver(fact, event_id=derived_id(n)) for n in (1, 2, 1)]
    handler = HANDLERS[PointsPending]
    for _ in range(2):
        await door.run(lambda tx: handler(deliveries, tx))
    rows = await door.rows("timeline", "contact_id, type, details")
    assert len(rows) == 2
    assert rows[0]["type"] == "rapport.loyalty.points-pending.v1"
    assert rows[0]["details"]["points"] == 10


def test_every_foreign_event_has_a_handler() -> None:
    foreign = {c for name, c in EVENT_TYPES.items() if not name.startswith("rapport.contacts.")}
    assert HANDLERS.keys() == foreign
