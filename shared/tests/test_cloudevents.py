"""External events as they come by Kafka and HTTP: read, or refused naming the field."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.messaging.cloudevents import (
    from_batch,
    from_http,
    from_kafka,
    from_structured,
    mode_of,
)
from rapport.messaging.inbox import External, Rejection

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
HEADERS = {
    "ce_specversion": b"1.0",
    "ce_id": b"1",
    "ce_source": b"till",
    "ce_type": b"contact.updated",
    "ce_time": b"2026-03-02T10:00:00+01:00",
    "content-type": b"application/json",
    "traceparent": TRACE.encode(),
}
DOCUMENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "till",
    "type": "contact.updated",
    "time": "2026-03-02T10:00:00+01:00",
    "data": {"customer": "7"},
    "traceparent": TRACE,
}
EXPECTED = External(
    "till",
    "1",
    "contact.updated",
    datetime(2026, 3, 2, 9, tzinfo=UTC),
    {"customer": "7"},
    TRACE,
)
STRUCTURED = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
VALUE = b'{"customer": "7"}'


def binary(value: bytes | None = VALUE, **headers: bytes | None) -> External | Rejection:
    return from_kafka(list((HEADERS | headers).items()), value)


def refused_field(result: External | Rejection) -> str | None:
    assert isinstance(result, Rejection)
    assert result.reason
    return result.field


def test_every_mode_reads_the_same_event() -> None:
    body = orjson.dumps(DOCUMENT)
    http = [(k.replace("ce_", "ce-").encode(), v) for k, v in HEADERS.items()]
    assert binary() == EXPECTED
    assert from_kafka(STRUCTURED, body) == EXPECTED
    assert from_structured(body) == EXPECTED
    assert from_batch(b"[" + body + b"," + body + b"]") == [EXPECTED, EXPECTED]
    assert from_http([(k, v) for k, v in http if k != b"traceparent"], VALUE, TRACE) == EXPECTED
    encoded = base64.b64encode(VALUE).decode()
    based = {k: v for k, v in DOCUMENT.items() if k != "data"} | {"data_base64": encoded}
    assert from_structured(orjson.dumps(based)) == EXPECTED


@pytest.mark.parametrize(
    ("content_type", "mode"),
    [
        ("application/cloudevents+json", "structured"),
        ("Application/CloudEvents+JSON; charset=utf-8", "structured"),
        ("application/cloudevents-batch+json", "batch"),
        ("application/json", "binary"),
        (None, "binary"),
    ],
)
def test_the_media_type_tells_the_mode(content_type: str | None, mode: str) -> None:
    assert mode_of(content_type) == mode


@pytest.mark.parametrize(
    ("result", "field"),
    [
        (binary(None), "data"),
        (binary(b""), "data"),
        (binary(b"\xff\xfe"), "data"),
        (binary(b'"text"'), "data"),
        (binary(b"x" * 1_000_000), "data"),
        (binary(b'{"a": "' + b"x" * 300_000 + b'"}'), "data"),
        (binary(b'{"a":' * 300 + b"1" + b"}" * 300), "data"),
        (binary(ce_id=b"\xff"), "ce_id"),
        (binary(other=b"\xff"), "other"),
        (binary(ce_id=b""), "id"),
        (binary(ce_id=None), "id"),
        (binary(ce_source=b"a\0b"), "source"),
        (binary(ce_type=b"t" * 257), "type"),
        (binary(ce_specversion=b"0.3"), "specversion"),
        (binary(ce_time=b"0001-01-01T00:00:00+14:00"), "time"),
        (binary(ce_time=b"2026-03-02T10:00:00"), "time"),
        (binary(**{"content-type": b"application/xml"}), "content-type"),
        (from_kafka([], VALUE), "specversion"),
        (from_kafka(STRUCTURED, None), "data"),
        (from_kafka(STRUCTURED, b"[]"), "data"),
        (from_structured(orjson.dumps(DOCUMENT | {"id": 1})), "id"),
        (from_structured(orjson.dumps(DOCUMENT | {"data_base64": "%"})), "data_base64"),
        (from_structured(orjson.dumps(DOCUMENT | {"datacontenttype": 1})), "datacontenttype"),
    ],
)
def test_what_is_no_event_is_refused_naming_the_field(
    result: External | Rejection, field: str
) -> None:
    assert refused_field(result) == field


def test_a_rejection_keeps_what_could_be_read_of_the_key() -> None:
    result = binary(b"nonsense")
    assert isinstance(result, Rejection)
    assert (result.source, result.id) == ("till", "1")


def test_a_traceparent_that_is_none_is_ignored() -> None:
    result = binary(traceparent=b"nonsense")
    assert isinstance(result, External)
    assert result.trace is None


def test_one_bad_event_of_a_batch_is_refused_alone() -> None:
    results = from_batch(orjson.dumps([DOCUMENT, 7, DOCUMENT | {"data": None}]))
    assert isinstance(results, list)
    assert results[0] == EXPECTED
    assert [refused_field(r) for r in results[1:]] == ["data", "data"]
    assert refused_field(from_batch(b"{}")) == "data"  # type: ignore[arg-type]  # refused as a whole


@given(
    st.lists(st.tuples(st.text(max_size=9), st.none() | st.binary(max_size=20)), max_size=8),
    st.none() | st.binary(max_size=60),
)
def test_no_bytes_raise(headers: list[tuple[str, bytes | None]], value: bytes | None) -> None:
    assert isinstance(from_kafka([*HEADERS.items(), *headers], value), External | Rejection)
    if value is not None:
        from_structured(value)
        from_batch(value)
        from_http([(k.encode(), v or b"") for k, v in headers], value)
