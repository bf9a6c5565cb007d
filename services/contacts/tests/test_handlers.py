"""External events on a real Postgres."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rapport.messaging.ids import derived_id
from rapport.messaging.inbox import External, Outcome
from services.contacts.tests.door import Door
from services.contacts.tests.events import event, purchase, refund

ADA = derived_id("contact", "cdnow", "7")


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


async def test_a_free_purchase_is_refunded_once(door: Door) -> None:
    await door.accept(purchase("1", net=0))
    assert statuses(await door.accept(refund("2"), refund("3"))) == ["accepted", "duplicate"]
    assert statuses(await door.accept(refund("4"))) == ["duplicate"], "also when it is read again"
    assert door.events().count("purchase-refunded") == 1
    assert [dict(r) for r in await door.rows("refund_line", "net_minor")] == [{"net_minor": 0}]


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
