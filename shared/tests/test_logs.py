"""Lines as they are written: JSON, with ids, without personal data."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
import structlog
from opentelemetry import trace
from pydantic import BaseModel, ValidationError

from rapport import logs, redaction, traceparent

SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
EVENT = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
CONTACT = UUID("12345678-1234-8123-8123-123456789012")
NAME, EMAIL, PHONE, STREET = (
    *("Zebulon Quickwater", "zebulon.q@quickwater.example", "+420 777 123 456"),
    "Nowhere Lane 17",
)
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Configure logging into memory; returns what has been written, parsed."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    written = io.StringIO()
    logs.configure("loyalty", "debug", written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers[:], root.level = before[0], before[1]
    structlog.reset_defaults()


def _log() -> Any:  # noqa: ANN401  structlog's own type
    return structlog.get_logger("loyalty.handlers")


def test_a_line_has_ids_of_what_is_worked_on(lines: Lines) -> None:
    with logs.bound(event_id=EVENT, contact_id=CONTACT, traceparent=SAMPLED):
        _log().error("event_parked", stream="contacts.events.v1", partition=3, attempt=2)
    _log().info("relay_started")
    parked, started = lines()
    assert parked.pop("timestamp").endswith("Z")
    assert parked == {
        "event": "event_parked",
        "level": "error",
        "logger": "loyalty.handlers",
        "service": "loyalty",
        "stream": "contacts.events.v1",
        "partition": 3,
        "attempt": 2,
        "event_id": str(EVENT),
        "contact_id": str(CONTACT),
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
    }
    assert not {"event_id", "contact_id", "trace_id"} & started.keys()


def test_a_line_within_a_span_has_its_trace(lines: Lines) -> None:
    span = trace.NonRecordingSpan(traceparent.parsed(SAMPLED) or trace.INVALID_SPAN_CONTEXT)
    with trace.use_span(span):
        _log().info("request_served")
    assert lines()[0]["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize("library", ["uvicorn.error", "faststream", "aiokafka.consumer", "asyncio"])
def test_libraries_write_the_same_lines(lines: Lines, library: str) -> None:
    logging.getLogger(library).warning("lost %s after %d s", "broker 1", 3)
    (line,) = lines()
    assert (line["event"], line["logger"]) == ("lost broker 1 after 3 s", library)
    assert (line["level"], line["service"]) == ("warning", "loyalty")


def test_uvicorns_coloured_copy_is_dropped(lines: Lines) -> None:
    logging.getLogger("uvicorn.error").info("up", extra={"color_message": "\x1b[1mup"})
    assert "color_message" not in lines()[0]


def test_a_logger_set_up_later_is_adopted(lines: Lines) -> None:
    late = logging.getLogger("faststream.access.kafka")
    late.addHandler(logging.StreamHandler(sys.stderr))
    late.propagate = False
    logs.adopt("faststream.access.kafka")
    late.warning("Received")
    assert [line["event"] for line in lines()] == ["Received"]
    assert late.handlers == []


def test_an_access_line_names_neither_client_nor_query(lines: Lines) -> None:
    logging.getLogger("uvicorn.access").info(
        '%s - "%s %s HTTP/%s" %d', "203.0.113.9:5411", "GET", f"/v1/contacts?q={NAME}", "1.1", 200
    )
    (line,) = lines()
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/contacts", 200)
    assert "203.0.113.9" not in json.dumps(line)
    assert NAME not in json.dumps(line)


class Form(BaseModel):
    """Something whose validation fails with the input in the message."""

    given_name: int


def _raise_validation() -> None:
    Form.model_validate({"given_name": NAME})


def _raise_postgres() -> None:
    msg = f"null value in column\nDETAIL:  Failing row contains (1, {NAME}, {STREET}, null)."
    raise ValueError(msg)


def _log_planted(log: Any) -> None:  # noqa: ANN401  structlog's own type
    log.info("contact_registered", given_name=NAME, email=EMAIL, phone=PHONE, address=STREET)
    sentence = f"mail to {EMAIL} failed, call {PHONE}"
    log.info(sentence)
    log.info("contact_changed", contact={"familyName": NAME, "to_address": STREET, "version": 2})
    log.info("contacts_listed", found=[{"name": NAME}, f"mailto:{EMAIL}", (PHONE,)])
    log.info("record_rejected", value=NAME.encode(), headers=[("x", NAME)], error=b"raw " * 3)
    log.info("message_sent", rule="thank-you", smtp=f"250 ok <{EMAIL}>")
    logging.getLogger("aiosmtplib").warning("RCPT TO:<%s> refused", EMAIL)
    logging.getLogger("library").warning("changed", extra={"email": EMAIL, "street": STREET})
    for failing in (_raise_validation, _raise_postgres):
        try:
            failing()
        except (ValidationError, ValueError):
            log.exception("handler_failed")


def test_planted_personal_data_is_in_no_line(lines: Lines) -> None:
    _log_planted(_log())
    written = lines()
    text = json.dumps(written)
    assert len(written) == 10
    assert [planted for planted in (NAME, EMAIL, PHONE, STREET) if planted in text] == []
    assert written[2]["contact"] == {"version": 2}
    assert written[5]["rule"] == "thank-you"
    assert "ValidationError" in written[8]["exception"]
    assert "Input should be a valid integer" in written[8]["exception"]


@pytest.mark.parametrize(
    "text",
    [
        *(EMAIL, "x@y", "ď.ř@přítel.example", f"<{EMAIL}>"),
        *(PHONE, "+420777123456", "00420 777 123 456", "777 123 456", "777-123-456", "777123456"),
        *("(555) 123-4567", "555.123.4567", "+1 (555) 123-4567", "0777/123 456"),
    ],
)
def test_masked(text: str) -> None:
    assert text.strip("<>") not in redaction.text(text)
    masked = redaction.text(f"call {text}, please")
    assert masked.replace("<", "").replace(">", "") == f"call {redaction.MASK}, please"


@pytest.mark.parametrize(
    "text",
    [
        *(str(EVENT), str(CONTACT), SAMPLED, "4bf92f3577b34da6a3ce929d0e0e4736"),
        *("2026-03-02T10:00:00.123456+01:00", "2026-03-02 10:00:00", "1997-01-01"),
        *("127.0.0.1:9092", "0.0.0.0:8001", "contacts.events.v1:3:1:00000000000000000042"),
        *("rapport.contacts.purchase-recorded.v1", "SQLSTATE 40P01", "offset 12345678", "1.45.2"),
        "applied 500 of 2000 in 0.25 s",
    ],
)
def test_ids_times_and_numbers_stay(text: str) -> None:
    assert redaction.text(text) == text


@pytest.mark.parametrize(
    ("key", "personal"),
    [
        *(("email", True), ("customerEmail", True), ("given-name", True), ("birth_date", True)),
        *(("contact_id", False), ("logger", False), ("filename", False), ("stream", False)),
    ],
)
def test_keys(key: str, *, personal: bool) -> None:
    assert redaction.is_personal(key) is personal


@pytest.mark.parametrize(
    "quoting",
    [
        "CheckViolationError: new row violates x\nDETAIL:  Failing row contains (1, a\n{}, null).",
        "new row violates x\nDETAIL:  Failing row contains ({}).\nHINT:  Mend it.",
        "DataError: invalid input for query argument $3: '{}' (expected str, got int)",
        'InvalidTextRepresentationError: invalid input syntax for type uuid: "{}"',
        'DatetimeFieldOverflowError: date/time field value out of range: "{}"',
    ],
)
def test_error_texts_quote_no_values(quoting: str) -> None:
    masked = redaction.text(quoting.format(NAME))
    assert NAME not in masked
    assert redaction.MASK in masked
    assert masked.split()[0] == quoting.split(maxsplit=1)[0]
    assert ("HINT" in masked) == ("HINT" in quoting)
