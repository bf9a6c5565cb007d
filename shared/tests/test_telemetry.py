"""Spans as a collector sees them, and silence without one."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from fastapi import APIRouter, FastAPI
from httpx import ASGITransport, AsyncClient
from opentelemetry import trace

from rapport import problem, telemetry, traceparent
from rapport import telemetry_names as names
from rapport.telemetry_http import TraceMiddleware
from rapport.testing.otlp import OtlpReceiver, Span

STREAM = "contacts.events.v1"
TYPE = "rapport.contacts.purchase-recorded.v1"
SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = SAMPLED[:-2] + "00"
EVENT = UUID(int=7)
PLANTED = ("Zebulon Quickwater", "zebulon@quickwater.example", "+420 777 123 456")


@dataclass(frozen=True)
class Record:
    """What a consumer knows of a record."""

    trace: str | None
    id: UUID = EVENT
    type: str = TYPE
    partition: int = 3
    offset: int = 41


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)
    yield
    telemetry.shutdown(0.1)


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OtlpReceiver]:
    async with OtlpReceiver() as receiving:
        for name, value in receiving.environment.items():
            monkeypatch.setenv(name, value)
        telemetry.configure("loyalty")
        yield receiving
        telemetry.shutdown()


async def _spans(receiver: OtlpReceiver, count: int) -> dict[str, Span]:
    await receiver.wait_for(lambda spans: len(spans) >= count)
    telemetry.shutdown()
    assert len(receiver.spans) == count
    return {span.name: span for span in receiver.spans}


def test_without_a_collector_traces_are_passed_through() -> None:
    telemetry.configure("loyalty")
    assert not telemetry.enabled()
    assert telemetry.create_span(STREAM, TYPE, uuid4(), SAMPLED) == SAMPLED
    assert telemetry.create_span(STREAM, TYPE, uuid4(), None) is None
    with (
        telemetry.send_span(STREAM, [SAMPLED]),
        telemetry.poll_span(STREAM, [SAMPLED]),
        telemetry.batch_span(STREAM, "loyalty", 1, [SAMPLED]) as batch,
    ):
        assert batch.process(Record(SAMPLED)) == SAMPLED
        with telemetry.commit_span(STREAM, batch):
            assert telemetry.current_traceparent() is None


@pytest.mark.parametrize(
    ("variables", "on"),
    [
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}, False),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
            False,
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "always_off"}, False),
        ({}, False),
    ],
)
def test_the_standard_variables_decide(
    variables: dict[str, str], *, on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    telemetry.configure("loyalty")
    assert telemetry.enabled() is on


async def test_one_event_is_one_waterfall_across_services(receiver: OtlpReceiver) -> None:
    created = telemetry.create_span(STREAM, TYPE, UUID(int=7), None)
    assert traceparent.is_sampled(created)
    with telemetry.send_span(STREAM, [created, None, UNSAMPLED], partition=3, count=3):
        pass
    with telemetry.poll_span(STREAM, [created], count=1):
        pass
    with telemetry.batch_span(STREAM, "loyalty", 2, [created, UNSAMPLED]) as batch:
        effect = batch.process(Record(created))
        caused = telemetry.create_span("loyalty.events.v1", TYPE, uuid4(), effect)
        with telemetry.commit_span(STREAM, batch):
            pass
    assert caused

    await receiver.wait_for(lambda spans: len(spans) >= 7)
    telemetry.shutdown()
    create, send, poll = (_one(receiver, f"{op} {STREAM}") for op in ("create", "send", "poll"))
    commit, caused_span = (
        _one(receiver, f"commit {STREAM}"),
        _one(receiver, "create loyalty.events.v1"),
    )
    effect_span, batch_span = sorted(
        (s for s in receiver.spans if s.name == f"process {STREAM}"), key=lambda s: not s.parent_id
    )
    here = (create.trace_id, create.span_id)

    assert len(receiver.spans) == 7
    assert [s.kind for s in (create, send, poll, effect_span, batch_span, commit)] == [
        *("PRODUCER", "CLIENT", "CLIENT", "CONSUMER", "CONSUMER", "CLIENT")
    ]
    assert not create.parent_id
    assert receiver.children_of(create) == [effect_span]
    assert receiver.children_of(effect_span) == [caused_span]
    assert receiver.children_of(batch_span) == [commit]
    assert send.links == poll.links == batch_span.links == (here,)
    assert effect_span.links == ((batch_span.trace_id, batch_span.span_id),)
    assert len({s.trace_id for s in (create, send, poll, batch_span)}) == 4
    assert {s.schema_url for s in receiver.spans} == {names.SCHEMA_URL}
    assert {s.service for s in receiver.spans} == {"loyalty"}
    assert effect_span.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": STREAM,
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "loyalty",
        "messaging.kafka.offset": 41,
        "messaging.message.id": str(UUID(int=7)),
        "cloudevents.event_type": TYPE,
    }
    assert batch_span.attributes["messaging.batch.message_count"] == 2
    assert "messaging.message.id" not in batch_span.attributes


def _one(receiver: OtlpReceiver, name: str) -> Span:
    (span,) = (s for s in receiver.spans if s.name == name)
    return span


async def test_events_that_are_not_sampled_cost_no_span(receiver: OtlpReceiver) -> None:
    assert telemetry.create_span(STREAM, TYPE, uuid4(), UNSAMPLED) == UNSAMPLED
    with telemetry.batch_span(STREAM, "loyalty", 2, [UNSAMPLED, None]) as batch:
        assert batch.process(Record(UNSAMPLED)) == UNSAMPLED
        assert batch.process(Record(None)) is None
    telemetry.create_span(STREAM, TYPE, uuid4(), SAMPLED)
    spans = await _spans(receiver, 1)
    assert spans[f"create {STREAM}"].parent_id == SAMPLED.split("-")[2]


async def test_a_sampled_cause_is_followed_whatever_the_sampler_says(
    monkeypatch: pytest.MonkeyPatch, receiver: OtlpReceiver
) -> None:
    telemetry.shutdown()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    telemetry.configure("loyalty")
    begun = telemetry.create_span(STREAM, TYPE, uuid4(), None)
    assert begun is not None
    assert not traceparent.is_sampled(begun)
    assert traceparent.is_sampled(telemetry.create_span(STREAM, TYPE, uuid4(), SAMPLED))
    with telemetry.batch_span(STREAM, "loyalty", 1, [SAMPLED]):
        pass
    assert set(await _spans(receiver, 2)) == {f"create {STREAM}", f"process {STREAM}"}


async def test_a_redriven_event_begins_a_linked_trace(receiver: OtlpReceiver) -> None:
    with telemetry.batch_span(STREAM, "loyalty", 1, []) as batch:
        redriven = batch.process(Record(SAMPLED), root=True)
        external = batch.process(Record(None), root=True)
    assert redriven
    assert external
    await receiver.wait_for(lambda spans: len(spans) == 3)
    first, second, joint = receiver.spans
    here = (joint.trace_id, joint.span_id)
    assert not first.parent_id
    assert first.trace_id == redriven.split("-")[1] != SAMPLED.split("-")[1]
    assert first.links == ((SAMPLED.split("-")[1], SAMPLED.split("-")[2]), here)
    assert (second.parent_id, second.links) == ("", (here,))
    assert (joint.parent_id, joint.links) == ("", ())
    assert joint.attributes["messaging.batch.message_count"] == 1


@pytest.mark.parametrize(("events", "spans"), [(1, 2), (2, 1)])
async def test_a_failed_batch_is_an_error_of_an_event_only_if_that_is_alone(
    receiver: OtlpReceiver, events: int, spans: int
) -> None:
    def run() -> None:
        with telemetry.batch_span(STREAM, "loyalty", events, [SAMPLED]) as batch:
            for _ in range(events):
                batch.process(Record(SAMPLED))
            raise ValueError(PLANTED[0])

    with pytest.raises(ValueError, match=PLANTED[0]):
        run()
    await receiver.wait_for(lambda seen: len(seen) >= spans)
    telemetry.shutdown()
    assert [s.error for s in receiver.spans] == [True] * spans
    assert {s.attributes["error.type"] for s in receiver.spans} == {"ValueError"}
    assert _planted_in(receiver) == []


async def test_a_batch_of_many_keeps_every_link(receiver: OtlpReceiver) -> None:
    links = [telemetry.create_span(STREAM, TYPE, uuid4(), None) for _ in range(500)]
    with telemetry.batch_span(STREAM, "loyalty", 500, links):
        pass
    await receiver.wait_for(lambda spans: len(spans) == 501)
    assert len(_one(receiver, f"process {STREAM}").links) == 500


async def test_personal_data_never_leaves_in_a_span(receiver: OtlpReceiver) -> None:
    """Whoever adds an attribute that is not registered, or records an exception."""
    tracer = telemetry.server_tracer()
    assert tracer is not None
    name, email, phone = PLANTED
    with tracer.start_as_current_span(f"GET /{email}") as span:
        span.set_attribute("customer.name", name)
        span.set_attribute("enduser.id", email)
        span.record_exception(ValueError(f"no such address {email}, call {phone}"))
        span.add_event(f"mail to {email}", {"name": name, "exception.message": f"to {phone}"})
        span.set_status(trace.Status(trace.StatusCode.ERROR, f"bounced: {email}"))
    await receiver.wait_for(bool)
    assert _planted_in(receiver) == []
    (sent,) = receiver.spans
    assert sent.attributes == {}
    assert sent.events[0]["exception.message"] == "no such address [redacted], call [redacted]"


def _planted_in(receiver: OtlpReceiver) -> list[str]:
    return [planted for planted in PLANTED if any(planted.encode() in b for b in receiver.bodies)]


def _app() -> FastAPI:
    app = FastAPI()
    contacts = APIRouter(prefix="/contacts")

    @contacts.get("/{contact_id}")
    async def read(contact_id: str) -> dict[str, str | None]:
        return {"id": contact_id, "trace": telemetry.current_traceparent()}

    @app.get("/v1/broken")
    async def broken() -> None:
        raise ValueError(PLANTED[1])

    version = APIRouter(prefix="/v1")
    version.include_router(contacts)
    app.include_router(version)
    problem.install(app)
    return app


def _client() -> AsyncClient:
    transport = ASGITransport(TraceMiddleware(_app()), raise_app_exceptions=False)
    return AsyncClient(transport=transport, base_url="http://service")


async def test_a_request_continues_the_callers_trace(receiver: OtlpReceiver) -> None:
    async with _client() as client:
        path = f"/v1/contacts/{PLANTED[1]}?email={PLANTED[1]}"
        answer = await client.get(path, headers={"traceparent": SAMPLED})
        broken = await client.get("/v1/broken")
        await client.get("/nowhere")
    created = telemetry.create_span(STREAM, TYPE, uuid4(), answer.json()["trace"])
    assert created
    spans = await _spans(receiver, 4)
    served = spans["GET /v1/contacts/{contact_id}"]
    assert served.kind == "SERVER"
    assert served.trace_id == SAMPLED.split("-")[1]
    assert served.parent_id == SAMPLED.split("-")[2]
    assert receiver.children_of(served) == [spans[f"create {STREAM}"]]
    assert served.attributes == {
        "http.request.method": "GET",
        "http.route": "/v1/contacts/{contact_id}",
        "http.response.status_code": 200,
        "url.scheme": "http",
    }
    failed = spans["GET /v1/broken"]
    assert failed.error
    assert failed.attributes["http.response.status_code"] == 500
    assert broken.json()["detail"] == f"Trace {failed.trace_id}"
    assert spans["GET"].attributes["http.response.status_code"] == 404
    assert _planted_in(receiver) == []


async def test_without_a_collector_a_request_still_carries_its_trace_on() -> None:
    async with _client() as client:
        given = await client.get("/v1/contacts/1", headers={"traceparent": SAMPLED})
        none = await client.get("/v1/contacts/1")
    assert given.json()["trace"] == SAMPLED
    assert none.json()["trace"] is None


@pytest.mark.parametrize("listening", [True, False])
def test_a_dead_collector_neither_breaks_nor_slows(
    monkeypatch: pytest.MonkeyPatch, *, listening: bool
) -> None:
    """One that refuses connections, and one that accepts them and never answers.

    Waiting for either would take the exporter's time-out, 10 s; the bound leaves room for a busy
    machine.
    """
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listening:
            server.listen()
        monkeypatch.setenv(
            "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}"
        )
        telemetry.configure("loyalty")
        begun = time.monotonic()
        for _ in range(5_000):
            telemetry.create_span(STREAM, TYPE, uuid4(), None)
        assert time.monotonic() - begun < 8
        begun = time.monotonic()
        telemetry.shutdown(0.5)
        assert time.monotonic() - begun < 8
