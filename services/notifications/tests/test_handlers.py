"""What each event does to messages, on a real Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.domain.message import ANNIVERSARY, THANK_YOU, message_id
from notifications.handlers import HANDLERS
from rapport.contracts.base import Event
from rapport.contracts.contacts import ContactMerged, ContactUpdated
from rapport.messaging.delivery import Delivery
from rapport.messaging.ids import derived_id
from rapport.messaging.transaction import Tx
from rapport.pgtypes import Connection
from rapport.testing import deliver
from services.notifications.tests.story import NAME, NOW, Story

OLD = timedelta(days=7, seconds=1)


def published(tx: Tx) -> list[tuple[str, Any]]:
    return [(p.type.split(".")[2], msgspec.json.decode(p.body)) for p in tx.published]


async def test_a_purchase_queues_a_thank_you(story: Story, tx: Tx) -> None:
    purchase = story.purchase(1, "O1")
    await story.handle(tx, story.registered(1), purchase)
    [row] = await story.messages(tx)
    assert (row["state"], row["reason"], row["rule"]) == ("queued", None, "thank-you")
    assert row["id"] == message_id(THANK_YOU, purchase.event.purchase_id, "", story.contact(1))
    assert (row["template_language"], row["template_version"]) == ("default", 1)
    assert row["variables"] == {
        "order": "O1",
        "purchased_on": "1998-01-15",
        "amount": "12.34",
        "currency": "USD",
    }
    assert row["gates"][0] == {"gate": "dedupe", "decision": "pass"}
    assert len(row["gates"]) == 10
    assert row["expires_at"] == NOW + timedelta(hours=48)
    [(kind, body)] = published(tx)
    assert kind == "message-queued"
    assert body["message_id"] == str(row["id"])


async def test_events_and_variables_hold_no_personal_data(story: Story, tx: Tx) -> None:
    await story.handle(tx, story.registered(1), story.purchase(1, "O1"), story.purchase(2, "O2"))
    said = " ".join(p.body for p in tx.published) + str(await story.messages(tx))
    assert len(tx.published) == 2
    assert NAME not in said
    assert story.address(1) not in said


async def test_the_same_purchase_again_changes_nothing(story: Story, tx: Tx) -> None:
    purchase = story.purchase(1, "O1")
    again = deliver(purchase.event, event_id=derived_id("other"))
    await story.handle(tx, story.registered(1), purchase, again, purchase)
    await story.handle(tx, purchase)
    assert len(await story.messages(tx)) == 1
    assert len(tx.published) == 1


@pytest.mark.parametrize(
    ("event", "reason"),
    [({"age": OLD}, "too_old"), ({"age": timedelta(days=7)}, None)],
)
async def test_an_old_purchase_leaves_a_row_saying_so(
    story: Story, tx: Tx, event: dict[str, timedelta], reason: str | None
) -> None:
    await story.handle(tx, story.registered(1), story.purchase(1, "O1", **event))
    [row] = await story.messages(tx)
    assert row["reason"] == reason
    assert row["state"] == ("suppressed" if reason else "queued")
    [(kind, body)] = published(tx)
    assert (kind, body.get("reason")) == (
        "message-suppressed" if reason else "message-queued",
        reason,
    )


async def test_a_free_purchase_is_not_thanked_for(story: Story, tx: Tx) -> None:
    await story.handle(tx, story.registered(1), story.purchase(1, "O1", 0, 0))
    assert await story.messages(tx) == []


async def test_without_an_address_there_is_a_reason(story: Story, tx: Tx) -> None:
    await story.handle(
        tx, story.registered(1, None), story.purchase(1, "O1"), story.purchase(2, "O2")
    )
    assert [row["reason"] for row in await story.messages(tx)] == ["no_address"] * 2


async def test_a_suppressed_address_binds_every_class(story: Story, tx: Tx) -> None:
    await tx.execute(
        "insert into suppression select sha256(convert_to($1, 'UTF8')), 'hard_bounce', $2, $3",
        story.address(1),
        story.contact(9),
        NOW,
    )
    shouted = story.registered(1, story.address(1).upper())
    await story.handle(
        tx, shouted, story.consent(1), story.purchase(1, "O1"), story.anniversary(1, "O1")
    )
    assert [row["reason"] for row in await story.messages(tx)] == ["hard_bounce"] * 2


async def test_language_chooses_the_template(story: Story, tx: Tx) -> None:
    await story.handle(tx, story.registered(1, language="cs-CZ"), story.purchase(1, "O1"))
    [row] = await story.messages(tx)
    assert row["template_language"] == "cs"


async def test_a_template_that_does_not_fit_is_a_reason(story: Story, tx: Tx) -> None:
    await tx.execute(
        "insert into template values ('thank-you', 'default', 2, 's', '{{ nobody }}', 'h')"
    )
    await story.handle(tx, story.registered(1), story.purchase(1, "O1"))
    [row] = await story.messages(tx)
    assert row["reason"] == "render_failed"
    assert row["gates"][-1] == {"gate": "render", "decision": "refuse", "reason": "render_failed"}


@pytest.mark.parametrize(
    ("consents", "reason"),
    [([], "consent"), ([True], None), ([True, False], "consent"), ([False, True], None)],
)
async def test_an_anniversary_needs_consent(
    story: Story, tx: Tx, consents: Sequence[bool], reason: str | None
) -> None:
    changes = [
        deliver(story.consent(1, granted=granted).event, event_id=derived_id("consent", n))
        for n, granted in enumerate(consents)
    ]
    await story.handle(tx, story.registered(1), *changes, story.anniversary(1, "O1"))
    [row] = await story.messages(tx)
    assert row["reason"] == reason
    allowed_by = None if reason else changes[-1].id
    assert row["consent_event_id"] == allowed_by


async def test_only_the_first_kept_purchase_has_an_anniversary_mail(story: Story, tx: Tx) -> None:
    await story.handle(
        tx, story.registered(1), story.consent(1), story.anniversary(1, "O1", first_kept=False)
    )
    assert await story.messages(tx) == []


async def test_an_anniversary_comes_once_a_year(story: Story, tx: Tx) -> None:
    await story.handle(tx, story.registered(1), story.consent(1))
    for year in (1998, 1998, 1999):
        await story.handle(tx, story.anniversary(1, "O1", year=year))
    rows = await story.messages(tx)
    assert sorted(row["occasion"] for row in rows) == ["1998", "1999"]
    assert {row["rule"] for row in rows} == {ANNIVERSARY.code}


async def test_quiet_hours_switched_on_defer(story: Story, tx: Tx) -> None:
    await tx.execute(
        """
        insert into category (code, version, rules) values ('anniversary', 2, '{
            "message_class": "marketing", "purpose": "marketing",
            "quiet_hours": {"start": "11:00", "end": "15:00"}}')
        """
    )
    await story.handle(tx, story.registered(1), story.consent(1), story.anniversary(1, "O1"))
    [row] = await story.messages(tx)
    assert row["state"] == "queued"
    assert row["category_version"] == 2
    waits = row["due_at"] - NOW  # until 15:00 in Prague, and up to ten minutes more
    assert timedelta(hours=3) <= waits < timedelta(hours=3, minutes=10)
    assert {"gate": "quiet_hours", "decision": "defer", "reason": "quiet_hours"} in row["gates"]


async def test_an_update_that_comes_late_changes_nothing(story: Story, tx: Tx) -> None:
    newer = ContactUpdated(
        contact_id=story.contact(1),
        email="new@shop.example",
        registered_at=NOW,
        version=2,
    )
    await story.handle(tx, story.registered(1), deliver(newer))
    await story.handle(tx, story.registered(1))
    assert await tx.fetchval("select address from recipient") == "new@shop.example"


def merge(story: Story, loser: int, survivor: int) -> Delivery[ContactMerged]:
    event = ContactMerged(
        contact_id=story.contact(survivor),
        loser_id=story.contact(loser),
        survivor_id=story.contact(survivor),
    )
    return deliver(event)


async def test_a_merge_re_keys_messages_and_their_dedupe(story: Story, tx: Tx) -> None:
    purchase = story.purchase(1, "O1")
    await story.handle(tx, story.registered(1), story.registered(2), purchase)
    await story.handle(tx, merge(story, 1, 2))
    [row] = await story.messages(tx)
    assert row["contact_id"] == story.contact(2)
    purchase.contact_id = story.contact(2)  # as the runner gives it from now on
    await story.handle(tx, purchase)
    assert len(await story.messages(tx)) == 1


async def test_a_merge_of_two_that_were_written_to_keeps_both_rows(story: Story, tx: Tx) -> None:
    theirs = story.anniversary(2, "O1")
    await story.handle(tx, story.registered(1), story.registered(2))
    await story.handle(tx, story.anniversary(1, "O1"), theirs, merge(story, 1, 2))
    rows = await story.messages(tx)
    assert sorted(row["contact_id"] for row in rows) == sorted(map(story.contact, (1, 2)))
    await story.handle(tx, theirs)
    assert len(await story.messages(tx)) == 2


@pytest.mark.parametrize(
    ("loser", "survivor", "granted"),
    [(True, None, True), (True, False, False), (False, True, False), (None, True, True)],
)
async def test_a_merge_keeps_the_strictest_consent(
    story: Story, tx: Tx, *, loser: bool | None, survivor: bool | None, granted: bool
) -> None:
    given_ = [(1, loser), (2, survivor)]
    changes = [story.consent(n, granted=yes) for n, yes in given_ if yes is not None]
    await story.handle(tx, story.registered(1), story.registered(2), *changes)
    await story.handle(tx, merge(story, 1, 2))
    rows = await tx.fetch("select contact_id, granted from consent")
    assert [tuple(row) for row in rows] == [(story.contact(2), granted)]


async def test_a_merge_gives_a_stranger_the_loser_s_address(story: Story, tx: Tx) -> None:
    await story.handle(tx, story.registered(1), merge(story, 1, 2))
    rows = await tx.fetch("select contact_id, address from recipient")
    assert [tuple(row) for row in rows] == [(story.contact(2), story.address(1))]


def event_of(story: Story, place: int, kind: int, who: int) -> Event:
    """Turn numbers into an event; versions grow with its place."""
    order = f"O{place % 5}"
    made: Delivery[Any]
    match kind:
        case 0:
            made = story.registered(who, version=place + 1)
        case 1:
            made = story.registered(who, None, version=place + 1)
        case 2 | 3:
            made = story.consent(who, granted=kind == 2)
        case 4:
            made = story.purchase(who, order)
        case 5:
            made = story.purchase(who, order, age=OLD)
        case _:
            made = story.anniversary(who, order, year=1997 + place % 2)
    event: Event = made.event
    return event


def events_of(story: Story, moves: Sequence[tuple[int, int]]) -> list[Delivery[Any]]:
    """Turn numbers into events of three contacts, each with an id of its own."""
    return [
        deliver(event_of(story, place, kind, who), event_id=derived_id("event", place))
        for place, (kind, who) in enumerate(moves)
    ]


async def outcome(
    story: Story, connection: Connection, batches: Sequence[Sequence[Delivery[Any]]]
) -> tuple[Any, ...]:
    """Handle batches in a transaction that is rolled back; return rows and events."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        tx = Tx(connection, NOW)
        for batch in batches:
            await story.handle(tx, *batch)
        tables = [
            [tuple(row) for row in await tx.fetch(f"select * from {table} order by 1, 2")]  # noqa: S608  names below
            for table in ("message", "recipient", "consent")
        ]
        return *tables, sorted((p.id, p.body) for p in tx.published)
    finally:
        await transaction.rollback()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    moves=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3)), min_size=1, max_size=25),
    cuts=st.sets(st.integers(1, 24)),
)
async def test_any_cut_gives_the_same_rows_and_events(
    story: Story, connection: Connection, moves: list[tuple[int, int]], cuts: set[int]
) -> None:
    """Types that follow one another in a batch reach their handler as one list."""
    events = events_of(story, moves)
    edges = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
    batches = [events[a:b] for a, b in pairwise(edges)]
    one_by_one = await outcome(story, connection, [[event] for event in events])
    assert await outcome(story, connection, batches) == one_by_one
    assert await outcome(story, connection, [events]) == one_by_one


def test_the_table_names_every_event_that_messages_depend_on() -> None:
    assert {event.__name__ for event in HANDLERS} == {
        "ContactRegistered",
        "ContactUpdated",
        "ConsentChanged",
        "PurchaseRecorded",
        "AnniversaryDue",
        "ContactMerged",
    }
