"""Differences are found and named."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from io import StringIO
from typing import Any

from rich.console import Console

from rapport.reconciling import Gap, OutboxRows, Statement, compare
from rapport_local.demo.check import (
    EXPECTED,
    check_events,
    check_mails,
    check_totals,
    list_differences,
)
from rapport_local.demo.figures import delays, number_rows, summarise
from rapport_local.demo.report import Reading, Report, print_report

COUNT = {"contacts": 3, "messages_sent": 5, "purchases": 7, "events_contacts": 10}
NOON = datetime(1998, 1, 1, 12, tzinfo=UTC)


def nested(service: str) -> dict[str, Any]:
    """Totals of a service that agree with COUNT."""
    totals: dict[str, Any] = {}
    for path, rule in EXPECTED[service].items():
        *groups, name = path.split(".")
        place = totals
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = rule if isinstance(rule, int) else COUNT.get(rule, 0)
    return totals


def agreeing() -> dict[str, dict[str, Any]]:
    return {service: nested(service) for service in EXPECTED}


def statements() -> tuple[Statement, Statement]:
    contacts = Statement(
        "contacts", "contacts.events.v1", {0: 4, 1: 6}, {0: OutboxRows(4, 4), 1: OutboxRows(6, 6)}
    )
    loyalty = Statement(
        "loyalty", "loyalty.events.v1", positions={"contacts.events.v1": {0: 4, 1: 6}}
    )
    return contacts, loyalty


def test_equal_totals_are_no_differences() -> None:
    checks = check_totals(COUNT, agreeing())

    assert all(check.agrees for check in checks)


def test_a_difference_is_named_with_both_numbers() -> None:
    totals = agreeing()
    totals["analytics"]["facts"]["purchase"] = 8

    lines = [str(check) for check in check_totals(COUNT, totals) if not check.agrees]

    assert lines == ["analytics: facts.purchase is 8 and must be 7"]


def test_a_kind_that_nobody_expects_is_a_difference() -> None:
    totals = agreeing()
    totals["notifications"]["reasons"]["no_address"] = 2

    lines = [str(check) for check in check_totals(COUNT, totals) if not check.agrees]

    assert lines == ["notifications: reasons.no_address is 2 and must be 0"]


def test_a_total_that_is_not_there_is_a_difference() -> None:
    totals = agreeing()
    del totals["contacts"]["purchases"]

    lines = [str(check) for check in check_totals(COUNT, totals) if not check.agrees]

    assert lines == ["contacts: purchases is missing and must be 7"]


def test_mails_must_be_there_once() -> None:
    assert [c.agrees for c in check_mails(COUNT, {"total": 6, "distinct": 5})] == [False, True]


def test_what_reconciles_is_no_difference() -> None:
    reconciliation = compare(statements())

    assert list_differences(check_events(COUNT, reconciliation), reconciliation) == []


def test_an_outbox_row_too_few_is_named() -> None:
    contacts, loyalty = statements()
    contacts.outbox[1].rows = 5
    reconciliation = compare([contacts, loyalty])

    lines = list_differences(check_events(COUNT, reconciliation), reconciliation)

    assert "contacts: outbox rows is 9 and must be 10" in lines
    assert any("partition 1: 1 rows missing for 6 numbers" in line for line in lines)


def test_what_is_in_flight_parked_or_missing_is_named() -> None:
    contacts, loyalty = statements()
    loyalty.positions["contacts.events.v1"][0] = 3
    loyalty.parked = {"contacts.events.v1": {1: 2}}
    loyalty.gaps = [Gap("contacts.events.v1", 1, 4, 5)]
    reconciliation = compare([contacts, loyalty])

    lines = list_differences([], reconciliation)

    line = next(c for c in reconciliation.consumed if c.consumer == "loyalty")
    assert (line.produced, line.applied, line.in_flight, line.parked, line.missing) == (
        *(10, 5, 1),
        *(2, 2),
    )
    assert "loyalty: 1 of contacts.events.v1 in flight" in lines
    assert "loyalty: 2 of contacts.events.v1 parked" in lines
    assert "loyalty: numbers 4 to 5 of contacts.events.v1 partition 1 are missing" in lines


def test_a_position_beyond_what_was_produced_is_named() -> None:
    contacts, loyalty = statements()
    loyalty.positions["contacts.events.v1"][0] = 5

    lines = list_differences([], compare([contacts, loyalty]))

    assert lines == ["loyalty: at 5 of contacts.events.v1 partition 0, where 4 were produced"]


def test_numbers_follow_the_ticks() -> None:
    """The row of a transaction that was still running belongs to a later tick."""
    ticks = [
        {"number": 1, "snapshot": "10:12:11", "before": [0, 5], "partitions": 2},
        {"number": 2, "snapshot": "15:15:", "before": [1, 6], "partitions": 2},
    ]
    rows = [
        {"xid": 11, "hash": 2, "written_at": NOON},
        {"xid": 10, "hash": 4, "written_at": NOON},
        {"xid": 10, "hash": 3, "written_at": NOON},
        {"xid": 13, "hash": 1, "written_at": NOON},
    ]

    written = number_rows(ticks, rows)

    assert [number for number, _ in written[0]] == [1, 2]
    assert [number for number, _ in written[1]] == [6, 7]


def test_an_effect_is_the_first_transaction_that_covers_the_number() -> None:
    written = [(1, NOON), (2, NOON), (3, NOON), (4, NOON)]
    effects = [(2, NOON + timedelta(seconds=1)), (3, NOON + timedelta(seconds=2))]

    assert delays(written, effects) == [1.0, 1.0, 2.0]


def test_percentiles_are_of_the_sorted_figures() -> None:
    latency = summarise([n / 1000 for n in range(100, 0, -1)])

    assert (latency.events, latency.p50, latency.p99) == (100, 51.0, 100.0)


def test_a_report_with_differences_can_be_printed() -> None:
    """Also one whose readings do not name the same totals."""
    totals = agreeing()
    totals["notifications"]["reasons"]["no_address"] = 2
    reconciliation = compare(statements())
    readings = []
    for day, found in ((date(1998, 6, 30), agreeing()), (date(1998, 7, 31), totals)):
        checks = check_totals(COUNT, found)
        lines = list_differences(checks, reconciliation)
        readings.append(Reading(day, found, {}, reconciliation, checks, lines))
    console = Console(record=True, width=140, file=StringIO())

    print_report(Report({}, readings), console)

    text = console.export_text()
    assert "DIFFERENT  1998-07-31: notifications: reasons.no_address is 2 and must be 0" in text
    assert "there are differences" in text


def test_a_forked_stream_is_a_difference() -> None:
    contacts, loyalty = statements()
    contacts.fork = "Kafka is ahead"
    assert compare([contacts, loyalty]).differences == [
        "contacts.events.v1 is stopped: Kafka is ahead"
    ]
