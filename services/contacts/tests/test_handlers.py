"""External events, timers and facts of other services on a real Postgres."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contacts.handlers import HANDLERS
from contacts.handlers.anniversary import remember_purchases
from rapport import database
from rapport.contracts.loyalty import PointsPending
from rapport.contracts.registry import EVENT_TYPES
from rapport.messaging.delivery import TimerDue
from rapport.messaging.ids import derived_id
from rapport.messaging.inbox import External, Outcome
from rapport.messaging.transaction import Tx
from rapport.pgtypes import Connection
from rapport.testing import deliver
from services.contacts.tests.door import Door

ADA = derived_id("contact", "cdnow", "7")
TABLES = {
    "contact": "*",
    "reference": "*",
    "consent": "event_id, contact_id, purpose, channel, granted, wording_version, decided_at",
    "purchase": "*",
    "purchase_line": "*",
    "refund": "*",
    "refund_line": "*",
    "waiting_refund": "id, purchase_id, contact_id, lines, outcome, field, settled_at",
    "timeline": "*",
    "rapport.inbox": "source, id, body_hash, event_id",
    "rapport.timer": "kind, key, contact_id, due_at, payload",
}


def event(
    id_: str,
    type_: str,
    source: str = "cdnow",
    customer: str = "7",
    **body: Any,  # noqa: ANN401  data of any shape
) -> External:
    return External(source, id_, type_, None, {"customer": customer} | body)


def purchase(
    id_: str,
    order: str = "o1",
    net: int = 1000,
    **body: Any,  # noqa: ANN401  the same
) -> External:
    lines = [{"line": "1", "sku": "cd", "quantity": 1, "net_minor": net}]
    values = {"occurred_at": "1997-03-02T12:00:00+01:00", "currency": "USD", "lines": lines}
    return event(id_, "purchase.recorded", **{"order": order} | values | body)


def refund(
    id_: str,
    order: str = "o1",
    net: int | None = None,
    **body: Any,  # noqa: ANN401  the same
) -> External:
    values: dict[str, Any] = {"occurred_at": "1997-03-22T12:00:00+01:00", "currency": "USD"}
    if net is not None:
        values["lines"] = [{"line": "1", "net_minor": net}]
    return event(id_, "purchase.refunded", **{"order": order} | values | body)


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


async def test_a_registration_makes_a_contact_with_its_consents(door: Door) -> None:
    form = event(
        "1",
        "contact.registered",
        given_name="Ada",
        birth_date="1980-03-15",
        consents=[{"purpose": "marketing"}, {"purpose": "surveys", "channel": "sms"}],
    )
    (outcome,) = await door.accept(form)
    assert (outcome.status, outcome.event_id) == ("accepted", door.published[0].id)
    assert door.events() == ["contact-registered", "consent-changed", "consent-changed"]
    assert '"birth_date":"1980-03-15"' in door.published[0].body
    (contact,) = await door.rows("contact")
    assert (contact["id"], contact["provisional"], contact["version"]) == (ADA, False, 1)
    assert await door.rows("consent", "purpose, channel, granted") == [
        {"purpose": "marketing", "channel": "email", "granted": True},
        {"purpose": "surveys", "channel": "sms", "granted": True},
    ]


async def test_a_purchase_of_a_stranger_makes_a_provisional_contact_completed_later(
    door: Door,
) -> None:
    await door.accept(purchase("1"))
    assert door.events() == ["contact-registered", "purchase-recorded"]
    assert '"provisional":true' in door.published[0].body
    await door.accept(event("2", "contact.registered", given_name="Ada"))
    assert door.events()[2:] == ["contact-updated"]
    assert '"changed":["given_name","provisional"]' in door.published[2].body
    assert '"references":[{"system":"cdnow","number":"7"}]' in door.published[2].body
    await door.accept(event("3", "contact.registered", given_name="Ada"))
    assert len(door.published) == 3, "a third form without news changes nothing"


async def test_an_update_changes_only_what_it_names(door: Door) -> None:
    await door.accept(
        event("1", "contact.registered", given_name="Ada", email="a@x.example"),
        event("2", "contact.updated", email="b@x.example", given_name=None),
        event("3", "contact.updated", email="b@x.example"),
    )
    (contact,) = await door.rows("contact")
    assert (contact["given_name"], contact["email"]) == ("Ada", "b@x.example")
    assert contact["version"] == 2
    assert door.events() == ["contact-registered", "contact-updated"]


async def test_tills_of_one_system_know_the_same_customer(door: Door) -> None:
    await door.accept(purchase("1", source="till-1"), purchase("1", source="till-2"))
    assert len(await door.rows("contact")) == 1
    assert len(await door.rows("purchase")) == 2, "orders belong to their source"


async def test_the_same_event_again_is_a_duplicate_also_within_a_batch(door: Door) -> None:
    first, second = await door.accept(purchase("1"), purchase("1"))
    (third,) = await door.accept(purchase("1"))
    assert statuses([first, second, third]) == ["accepted", "duplicate", "duplicate"]
    assert {first.event_id, second.event_id, third.event_id} == {door.published[1].id}
    assert len(door.published) == 2


async def test_the_same_id_with_another_body_is_refused(door: Door) -> None:
    outcomes = await door.accept(purchase("1"), purchase("1", net=999))
    outcomes += await door.accept(purchase("1", net=999))
    assert [(o.reason, o.field) for o in outcomes[1:]] == [("id_reused", "id")] * 2


async def test_the_same_order_again(door: Door) -> None:
    outcomes = await door.accept(purchase("1"), purchase("2"), purchase("3", net=999))
    outcomes += await door.accept(purchase("4"), purchase("5", customer="8"))
    assert statuses(outcomes) == ["accepted", "duplicate", "rejected", "duplicate", "rejected"]
    assert outcomes[1].event_id == outcomes[0].event_id
    assert (outcomes[2].reason, outcomes[2].field) == ("order_conflict", "order")
    assert door.events() == ["contact-registered", "purchase-recorded"]
    assert len(await door.rows("rapport.inbox")) == 3
    assert len(await door.rows("reference")) == 1, "a refused event leaves no reference"


async def test_a_rejected_event_can_be_corrected_under_its_id(door: Door) -> None:
    (outcome,) = await door.accept(purchase("1", currency="dollars"))
    assert (outcome.status, outcome.field) == ("rejected", "currency")
    assert statuses(await door.accept(purchase("1"))) == ["accepted"]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (purchase("1", source="nobody"), "source"),
        (event("1", "no.such_type"), "type"),
        (purchase("1", lines=[]), "lines"),
        (purchase("1", occurred_at="0001-01-01T00:00:00+14:00"), "occurred_at"),
        (event("1", "contact.updated", zone="Europe/Brno"), "zone"),
        (event("1", "contact.updated", given_name="A\0da"), "given_name"),
        (event("1", "consent.given", purpose="spam", channel="email"), "purpose"),
        (External("cdnow", "1", "contact.updated", None, {}), "customer"),
    ],
)
async def test_bad_events_are_rejected_naming_the_field_and_leave_nothing(
    door: Door, bad: External, field: str
) -> None:
    refused, accepted = await door.accept(bad, purchase("2", customer="8"))
    assert (refused.status, refused.field) == ("rejected", field)
    assert refused.reason is not None
    assert refused.reason.startswith(f"{field}: ")
    assert accepted.status == "accepted", "what is behind it flows"
    assert len(await door.rows("contact")) == len(await door.rows("rapport.inbox")) == 1


async def test_refunds_take_what_is_left(door: Door) -> None:
    outcomes = await door.accept(
        purchase("1"), refund("2", net=400), refund("3", net=601), refund("4"), refund("5")
    )
    assert statuses(outcomes) == ["accepted", "accepted", "rejected", "accepted", "duplicate"]
    assert outcomes[2].field == "lines[0].net_minor"
    lines = await door.rows("refund_line", "net_minor")
    assert sorted(line["net_minor"] for line in lines) == [400, 600]
    assert door.events().count("purchase-refunded") == 2
    assert statuses(await door.accept(refund("6"))) == ["duplicate"]


async def test_a_refund_by_another_customer_is_refused(door: Door) -> None:
    outcomes = await door.accept(purchase("1"), refund("2", customer="8"))
    assert (outcomes[1].status, outcomes[1].field) == ("rejected", "customer")
    assert len(await door.rows("contact")) == 1


async def test_a_refund_waits_for_its_purchase(door: Door) -> None:
    early = await door.accept(refund("r1", net=300), refund("r2", net=800))
    assert statuses(early) == ["accepted", "accepted"]
    assert door.events() == ["contact-registered"]
    await door.accept(purchase("p"))
    assert door.events() == ["contact-registered", "purchase-recorded", "purchase-refunded"]
    assert door.published[2].id == early[0].event_id, "the id that was promised"
    waited = await door.rows("waiting_refund", "external_id, outcome, field")
    assert [(w["external_id"], w["outcome"]) for w in waited] == [
        ("r1", "applied"),
        ("r2", "lines[0].net_minor: is more than what is left"),
    ]
    assert waited[1]["field"] == "lines[0].net_minor"


async def test_consent_is_a_list_of_decisions(door: Door) -> None:
    yes = event("1", "consent.given", purpose="marketing", channel="email", wording_version="v2")
    no = event("2", "consent.withdrawn", purpose="marketing", channel="email")
    await door.accept(yes, no)
    assert door.events() == ["contact-registered", "consent-changed", "consent-changed"]
    rows = await door.connection.fetch(
        "select granted, wording_version from consent order by number"
    )
    assert [tuple(row) for row in rows] == [(True, "v2"), (False, "1")]


async def test_a_time_in_the_future_is_not_believed(door: Door) -> None:
    late = External("cdnow", "1", "contact.registered", door.now + timedelta(9), {"customer": "7"})
    early = External("cdnow", "2", "contact.registered", door.now - timedelta(9), {"customer": "8"})
    await door.accept(late, early)
    times = {row["registered_at"] for row in await door.rows("contact")}
    assert times == {door.now, door.now - timedelta(9)}


async def test_published_events_continue_the_external_trace(door: Door) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    body = purchase("1").body
    await door.accept(External("cdnow", "1", "purchase.recorded", None, body, trace))
    assert {p.cause.trace for p in door.published} == {trace}


# Timers


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


# Any cut, any repetition


def drawn_event(draw: st.DrawFn, n: int) -> External:
    """Draw an event that gets into others' way: few customers, orders and ids."""
    who = {
        "source": draw(st.sampled_from(["till-1", "till-2"])),
        "customer": draw(st.sampled_from(["1", "2"])),
    }
    id_ = str(draw(st.sampled_from([n, n, n, 0])))
    order = draw(st.sampled_from(["o1", "o2"]))
    net = draw(st.sampled_from([0, 100, 200]))
    match draw(
        st.sampled_from(["buy", "buy", "back", "back", "form", "edit", "given", "withdrawn"])
    ):
        case "buy":
            return purchase(id_, order, net, **who)
        case "back":
            return refund(id_, order, net or None, **who)
        case "form":
            consents = [{"purpose": "surveys"}] * (net > 100)
            return event(id_, "contact.registered", consents=consents, **who)
        case "edit":
            return event(id_, "contact.updated", phone=str(net), **who)
        case decision:
            choice = {"purpose": "marketing", "channel": "email"}
            return event(id_, f"consent.{decision}", **choice, **who)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[External], list[list[External]]]:
    """Draw events, and calls that hold them in their order, repetitions among them."""
    made = [drawn_event(draw, n) for n in range(draw(st.integers(1, 12)))]
    calls: list[list[External]] = [[]]
    for n, item in enumerate(made):
        if draw(st.booleans()):
            calls.append([])
        calls[-1].append(item)
        calls[-1].extend(made[i] for i in draw(st.lists(st.integers(0, n), max_size=2)))
    return made, calls


@pytest.fixture(scope="session")
async def session_connection(template: str) -> AsyncIterator[Connection]:
    opened = await database.connect(template)
    yield opened
    await opened.close()


async def effects(
    connection: Connection, calls: list[list[External]]
) -> tuple[dict[str, Any], dict[Any, Any]]:
    """Return all rows, and what was published per contact in its order."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        door = Door(connection)
        for call in calls:
            await door.accept(*call)
        rows = {table: await door.rows(table, columns) for table, columns in TABLES.items()}
    finally:
        await transaction.rollback()
    published = defaultdict(list)
    for item in door.published:
        published[item.key].append((item.id, item.type, item.body))
    return rows, dict(published)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=cuts())
async def test_any_cut_and_any_repetition_gives_the_same_rows_and_events(
    drawn: tuple[list[External], list[list[External]]], session_connection: Connection
) -> None:
    made, calls = drawn
    one_by_one = await effects(session_connection, [[item] for item in made])
    assert await effects(session_connection, calls) == one_by_one
