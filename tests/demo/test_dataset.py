"""What the demo publishes, and when."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from rapport.contracts.inbound import EXTERNAL_TYPES
from rapport_local.demo.calendar import (
    CHECKED_ON,
    DAY,
    END,
    FIRST_DAY,
    bulk,
    midnight,
    published_by,
    steps,
)
from rapport_local.demo.dataset import (
    External,
    Purchase,
    is_chosen,
    read_purchases,
    registered,
    registrations,
    sales,
)
from rapport_local.demo.publish import (
    binary_headers,
    goes_through_kafka,
    in_batches,
    structured,
)


def purchase(row: int, on: date = date(1998, 1, 10), customer: int = 2) -> Purchase:
    return Purchase(row, customer, on, 1, 1_000)


@pytest.fixture(scope="module")
def purchases() -> list[Purchase]:
    return read_purchases(scale=20)


def test_the_whole_file_is_read() -> None:
    everything = read_purchases()

    assert len(everything) == 69_659
    assert len({p.customer for p in everything}) == 23_570
    assert sum(p.net_minor for p in everything) == 250_031_563
    assert [p.row for p in everything] == list(range(1, 69_660))


def test_a_twentieth_has_customers_with_and_without_consent_on_both_channels() -> None:
    chosen = [number for number in range(1, 23_571) if is_chosen(number, 20)]

    kinds = {(number % 2, goes_through_kafka(number)) for number in chosen}
    assert len(chosen) == 1_178
    assert len(kinds) == 4


def test_half_of_the_customers_go_through_kafka() -> None:
    through_kafka = sum(goes_through_kafka(number) for number in range(1, 23_571))
    assert abs(through_kafka - 23_570 / 2) <= 1


def test_sales_are_in_order_of_time_with_early_refunds_before_their_purchase() -> None:
    old, late, early = purchase(50, date(1998, 1, 1)), purchase(499), purchase(500)

    ids = [event.id for event in sales([old, late, early])]

    assert ids == ["purchase-50", "purchase-499", "refund-500", "purchase-500", "refund-50"]


def test_refunds_are_dated_twenty_days_or_an_hour_later() -> None:
    later, soon = purchase(50).refunded(), purchase(500).refunded()

    assert later
    assert soon
    assert later.at - purchase(50).at == timedelta(days=20)
    assert soon.at - purchase(500).at == timedelta(hours=1)
    assert purchase(51).refunded() is None


def test_every_event_is_what_the_contract_asks_for(purchases: list[Purchase]) -> None:
    events = [*registrations(purchases, midnight(FIRST_DAY)), *sales(purchases)]

    for event in events:
        EXTERNAL_TYPES[event.type].model_validate(event.data)
    assert len({event.id for event in events}) == len(events)


def test_bulk_and_steps_hold_every_event_once(purchases: list[Purchase]) -> None:
    events = sales(purchases)

    plan = list(steps(events))

    published = [*bulk(events), *(event for step in plan for event in step.events)]
    assert published == events
    assert len(plan) == 90 + 18
    assert {date(1998, 4, 1), date(1998, 4, 8), CHECKED_ON + DAY, END} <= {
        s.midnight.date() for s in plan
    }
    assert plan[-1].midnight == midnight(END)


def test_a_shorter_life_holds_everything_up_to_its_last_day(purchases: list[Purchase]) -> None:
    events, until = sales(purchases), date(1998, 1, 31)

    plan = list(steps(events, until))

    published = [*bulk(events), *(event for step in plan for event in step.events)]
    assert plan[-1].last_day == until
    assert published == published_by(events, until)
    assert {event.published_at.date() <= until for event in published} == {True}


def test_a_step_publishes_what_has_happened_before_its_end(purchases: list[Purchase]) -> None:
    for step in steps(sales(purchases)):
        for event in step.events:
            assert event.published_at < step.midnight <= event.published_at + timedelta(days=7)


def test_both_bindings_say_the_same() -> None:
    event = registered(2, midnight(FIRST_DAY))

    envelope = structured(event)
    headers = dict(binary_headers(event))

    for name in ("specversion", "id", "type", "source", "time"):
        assert headers[f"ce_{name}"].decode() == envelope[name]
    assert envelope["data"] == event.data


def test_batches_hold_at_most_a_thousand_events() -> None:
    events: list[External] = [registered(n, midnight(FIRST_DAY)) for n in range(2_001)]

    assert [len(batch) for batch in in_batches(events)] == [1_000, 1_000, 1]
