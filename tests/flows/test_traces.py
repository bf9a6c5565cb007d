"""One purchase seen from outside: a collector's spans, the services' tables, and no personal data.

The suite runs as four processes; the collector is a receiver in this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rapport import telemetry_names as names
from rapport.contracts.registry import INBOUND, SERVICES
from rapport.settling import advance_clock, set_clock
from rapport.testing.otlp import OtlpReceiver, Span
from rapport_local.settings import LocalSettings
from rapport_local.supervisor import Runtime
from tests.flows.traced import (
    CALLER,
    NOW,
    PERSON,
    PLANTED,
    Traced,
    contact_of,
    edges,
    purchase,
    registration,
    short,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from uuid import UUID

BY_KAFKA, BY_HTTP, PARKED = "1001", "1002", "1003"
PURCHASES = {BY_KAFKA: purchase(BY_KAFKA), BY_HTTP: purchase(BY_HTTP)}
REFUSE = "alter table recipient add constraint refused check (contact_id <> '{}') not valid"
LATER = NOW + timedelta(days=15)
STREAM = "contacts.events.v1"
KINDS = {
    "create": "PRODUCER",
    "send": "CLIENT",
    "poll": "CLIENT",
    "process": "CONSUMER",
    "commit": "CLIENT",
}
# What one purchase leads to: the span, and the span that it is a child of.
BEHIND_THE_PURCHASE = {
    ("contacts create purchase-recorded", "loyalty process purchase-recorded"),
    ("contacts create purchase-recorded", "notifications process purchase-recorded"),
    ("contacts create purchase-recorded", "analytics process purchase-recorded"),
    ("loyalty process purchase-recorded", "loyalty create points-pending"),
    ("loyalty create points-pending", "contacts process points-pending"),
    ("loyalty create points-pending", "analytics process points-pending"),
    ("notifications process purchase-recorded", "notifications create message-queued"),
    ("notifications process purchase-recorded", "notifications create message-sent"),
    ("notifications create message-queued", "contacts process message-queued"),
    ("notifications create message-sent", "contacts process message-sent"),
    ("notifications create message-sent", "analytics process message-sent"),
    ("analytics process purchase-recorded", "analytics create profile-updated"),
    ("analytics process purchase-recorded", "analytics create segment-entered"),
    ("analytics create profile-updated", "contacts process profile-updated"),
    ("analytics create segment-entered", "contacts process segment-entered"),
}
STARTS = {
    BY_KAFKA: {("contacts process purchase.recorded", "contacts create purchase-recorded")},
    BY_HTTP: {("contacts POST /v1/events", "contacts create purchase-recorded")},
}
FIRST = {BY_KAFKA: "contacts process purchase.recorded", BY_HTTP: "contacts POST /v1/events"}
FROM_TABLES = [
    ("till", "contacts.purchase-recorded"),
    ("contacts.purchase-recorded", "loyalty.points-pending"),
    ("contacts.purchase-recorded", "notifications.message-queued"),
    ("contacts.purchase-recorded", "analytics.profile-updated"),
    ("contacts.purchase-recorded", "analytics.segment-entered"),
    ("notifications.message-queued", "notifications.message-sent"),
]


@pytest.fixture(scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    """Run the suite and let everything happen that the tests look at."""
    folder: Path = tmp_path_factory.mktemp("traced") / ".rapport"
    async with OtlpReceiver() as receiver:
        runtime = Runtime(
            "traced",
            settings=LocalSettings(folder=folder),
            extra_env=receiver.environment,
            clock="simulated",
        )
        try:
            await asyncio.to_thread(runtime.start)
            suite = Traced(runtime, receiver)
            await _live(suite)
            yield suite
        finally:
            await asyncio.to_thread(runtime.stop)
            await asyncio.to_thread(runtime.remove)


async def _live(suite: Traced) -> None:
    await set_clock(suite.ops_urls, NOW)
    await suite.register_source()
    await suite.sql("notifications", REFUSE.format(contact_of(PARKED)))
    await suite.send_by_kafka(registration(BY_KAFKA), registration(PARKED))
    await suite.send_by_kafka(registration("1004", email=PERSON["phone"]))
    assert await suite.send_by_http(registration(BY_HTTP)) == 202
    assert await suite.send_by_http(registration("1005", given_name=[PERSON["email"]])) == 422
    await suite.enter_by_hand()
    await suite.settle()
    await suite.send_by_kafka(PURCHASES[BY_KAFKA])
    await suite.settle()
    assert await suite.send_by_http(PURCHASES[BY_HTTP], CALLER) == 202
    await suite.settle()
    for path in ("/ops/parked", "/ops/rejected"):
        found = await suite.read_ops(path)
        suite.listed.update({service + path: body for service, body in found.items()})


async def _trace_of(suite: Traced, customer: str) -> dict[str, Span]:
    """Wait for a purchase's trace; return its spans by id."""
    expected = BEHIND_THE_PURCHASE | STARTS[customer]

    def trace() -> dict[str, Span]:
        spans = list(suite.receiver.spans)
        sent = PURCHASES[customer].id
        ids = {s.trace_id for s in spans if s.attributes.get(names.MESSAGE_ID) == sent}
        wanted = {CALLER.split("-")[1]} if customer == BY_HTTP else ids
        return {s.span_id: s for s in spans if s.trace_id in wanted}

    with contextlib.suppress(TimeoutError):
        await suite.receiver.wait_for(lambda _: _edges(trace()) >= expected)
    return trace()


def _label(span: Span) -> str:
    operation = span.attributes.get(names.OPERATION_NAME)
    event_type = span.attributes.get(names.EVENT_TYPE)
    if operation is None or event_type is None:
        return f"{span.service} {span.name}"
    ours = event_type.startswith("rapport.")
    return f"{span.service} {operation} {short(event_type).split('.')[1] if ours else event_type}"


def _edges(trace: dict[str, Span]) -> set[tuple[str, str]]:
    return {
        (_label(trace[span.parent_id]), _label(span))
        for span in trace.values()
        if span.parent_id in trace
    }


@pytest.mark.parametrize("customer", [BY_KAFKA, BY_HTTP])
async def test_a_purchase_is_one_trace_through_all_services(traced: Traced, customer: str) -> None:
    """From the till's event to points, mail and figure; nothing else belongs to it."""
    trace = await _trace_of(traced, customer)
    assert _edges(trace) == BEHIND_THE_PURCHASE | STARTS[customer]
    (first,) = [span for span in trace.values() if span.parent_id not in trace]
    assert _label(first) == FIRST[customer]
    assert first.parent_id == (CALLER.split("-")[2] if customer == BY_HTTP else "")
    assert len(trace) == len(BEHIND_THE_PURCHASE) + 2  # each happened once
    assert not any(span.error for span in trace.values())


@pytest.mark.parametrize("customer", [BY_KAFKA, BY_HTTP])
async def test_batches_and_their_messages_are_linked(traced: Traced, customer: str) -> None:
    trace = await _trace_of(traced, customer)
    spans = {span.span_id: span for span in list(traced.receiver.spans)}
    for span in trace.values():
        operation = span.attributes.get(names.OPERATION_NAME)
        here = (span.trace_id, span.span_id)
        stream = span.attributes.get(names.DESTINATION)
        linking = {(s.service, s.name) for s in spans.values() if here in s.links}
        if operation == names.CREATE:
            readers = {s.service for s in traced.receiver.children_of(span)}
            assert (span.service, f"send {stream}") in linking
            assert {(reader, f"poll {stream}") for reader in readers} <= linking
        elif operation == names.PROCESS:
            ((_, batch_id),) = span.links
            batch = spans[batch_id]
            assert (batch.service, batch.name, batch.kind) == (span.service, span.name, "CONSUMER")
            assert not batch.parent_id
            assert batch.trace_id != span.trace_id
            assert batch.attributes[names.BATCH_COUNT] >= 1
            if stream != INBOUND:
                assert (span.trace_id, span.parent_id) in batch.links


async def test_offset_commits_belong_to_batches(traced: Traced) -> None:
    spans = {span.span_id: span for span in list(traced.receiver.spans)}
    commits = [s for s in spans.values() if s.attributes.get(names.OPERATION_NAME) == names.COMMIT]
    assert {s.service for s in commits} == set(SERVICES)
    for commit in commits:
        batch = spans[commit.parent_id]
        assert batch.name == commit.name.replace(names.COMMIT, names.PROCESS)
        assert names.BATCH_COUNT in batch.attributes


async def test_names_and_attributes_are_registered(traced: Traced) -> None:
    await _trace_of(traced, BY_HTTP)
    spans = list(traced.receiver.spans)
    known = set(names.OPERATION_TYPES)
    assert {s.schema_url for s in spans} == {names.SCHEMA_URL}
    for span in spans:
        assert names.SPAN_ATTRIBUTES.issuperset(span.attributes), span
        operation = span.attributes.get(names.OPERATION_NAME)
        if operation is None:
            assert span.kind == "SERVER"
            continue
        known.discard(operation)
        stream = span.attributes[names.DESTINATION]
        assert span.name == f"{operation} {stream}"
        assert span.attributes[names.OPERATION_TYPE] == names.OPERATION_TYPES[operation]
        assert span.kind == KINDS[operation]
        if names.CONSUMER_GROUP in span.attributes and stream not in {"parked", "timers"}:
            assert span.attributes[names.CONSUMER_GROUP] == f"rapport-{span.service}-{stream}"
    assert not known, f"no span of {known}"
    registered = {metric.name: metric.unit for metric in names.METRICS}
    assert traced.receiver.metrics
    assert {m.name: m.unit for m in traced.receiver.metrics}.items() <= registered.items()


@pytest.mark.parametrize("customer", [BY_KAFKA, BY_HTTP])
async def test_tables_tell_the_same_journey(traced: Traced, customer: str) -> None:
    trace = await _trace_of(traced, customer)
    journey = await traced.follow(PURCHASES[customer])
    (recorded,) = journey.caused
    assert recorded.accepted is not None
    assert recorded.accepted["id"] == PURCHASES[customer].id
    assert sorted(edges(journey, "till")) == sorted(FROM_TABLES)
    hops = {hop.id: hop for hop in journey.walk() if hop.written}
    created = {
        span.attributes[names.MESSAGE_ID]: span
        for span in trace.values()
        if span.attributes.get(names.OPERATION_NAME) == names.CREATE
    }
    assert created.keys() == hops.keys()
    for event_id, span in created.items():
        hop = hops[event_id]
        assert hop.written is not None
        assert hop.service == span.service
        assert hop.written["trace"].split("-")[1:3] == [span.trace_id, span.span_id]
        for effect in traced.receiver.children_of(span):
            (applied,) = hop.applied[effect.service]
            assert applied["applied"] >= 1
            assert applied["partition"] == int(effect.attributes[names.PARTITION])


async def test_what_happens_later_begins_a_linked_trace(traced: Traced) -> None:
    """Points that become active two weeks on, and a parked event that is applied at last."""
    trace = await _trace_of(traced, BY_KAFKA)
    (earned,) = [s for s in trace.values() if _label(s) == "loyalty process purchase-recorded"]
    await advance_clock(traced.ops_urls, LATER, deadline_seconds=120)
    fired = await _first(traced, "loyalty", "process timers", earned)
    await traced.receiver.wait_for(lambda _: traced.receiver.children_of(fired))
    (awarded,) = traced.receiver.children_of(fired)
    assert _label(awarded) == "loyalty create points-awarded"
    journey = await traced.follow(PURCHASES[BY_KAFKA])
    assert ("loyalty.points-pending", "loyalty.points-awarded") in set(edges(journey, "till"))

    made = await _registration_of(traced, contact_of(PARKED))
    await traced.sql("notifications", "alter table recipient drop constraint refused")
    await traced.redrive("notifications", contact_of(PARKED))
    lines = (traced.runtime.logs / "notifications-0.log").read_text().splitlines()
    (said,) = [json.loads(line) for line in lines if '"event_parked"' in line]
    assert (said["trace_id"], said["event_id"]) == (
        made.trace_id,
        made.attributes[names.MESSAGE_ID],
    )
    redriven = await _first(traced, "notifications", "process parked", made)
    for span, before in ((fired, earned), (redriven, made)):
        assert not span.parent_id
        assert span.trace_id != before.trace_id
        assert len(span.links) == 2  # where it comes from, and its batch


async def _first(suite: Traced, service: str, name: str, linked: Span) -> Span:
    """Wait for the span of an event's effect that links to another span."""

    def found() -> list[Span]:
        here = (linked.trace_id, linked.span_id)
        named = [s for s in list(suite.receiver.spans) if (s.service, s.name) == (service, name)]
        return [s for s in named if here in s.links and names.MESSAGE_ID in s.attributes]

    await suite.receiver.wait_for(lambda _: found())
    (span,) = found()
    return span


async def _registration_of(suite: Traced, contact_id: UUID) -> Span:
    """Return the span of a contact's registration."""
    hop = await suite.follow(registration(PARKED))
    (made,) = [
        h.id
        for h in hop.caused
        if h.written
        and h.written["key"] == str(contact_id)
        and h.type.endswith("contact-registered.v1")
    ]
    (span,) = [
        s
        for s in suite.receiver.spans
        if s.name == f"create {STREAM}" and s.attributes[names.MESSAGE_ID] == made
    ]
    return span


async def test_personal_data_are_nowhere_they_should_not_be(traced: Traced) -> None:
    """Not in logs, spans, metrics, headers and keys, nor among what is parked or rejected."""
    seen = {
        **traced.listed,
        **{f"log {path.name}": path.read_bytes() for path in traced.runtime.logs.iterdir()},
        "otlp": b"\n".join(traced.receiver.bodies),
        **{f"{service}/metrics": v for service, v in (await traced.read_ops("/metrics")).items()},
        **{f"topic {k}": b"\n".join(v) for k, v in (await traced.read_keys_and_headers()).items()},
    }
    assert str(contact_of(PARKED)).encode() in seen["notifications/ops/parked"]
    assert b"email: " in seen["contacts/ops/rejected"]
    assert b"event_parked" in seen["log notifications-0.log"]
    assert b"refused" in seen["log postgres.log"]
    assert str(contact_of(BY_KAFKA)).encode() in seen[f"topic {STREAM}"]
    leaks = [(place, p) for place, text in seen.items() for p in PLANTED if p in text]
    assert leaks == []


async def test_without_a_collector_a_purchase_flows_as_before(traced: Traced) -> None:
    """Its port is closed, for services that run and for those that start."""
    await advance_clock(traced.ops_urls, LATER, deadline_seconds=120)
    mails = await traced.count_mails()
    await traced.receiver.__aexit__(None, None, None)
    late = [purchase("1006", LATER), purchase("1007", LATER)]
    for event in late:
        await traced.send_by_kafka(registration(event.customer), event)
        await traced.settle()
        await traced.restart_services()
    for event in late:
        assert sorted(edges(await traced.follow(event), "till")) == sorted(FROM_TABLES)
    assert await traced.count_mails() == mails + len(late)
