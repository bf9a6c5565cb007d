"""CloudEvents 1.0 as other systems send them: JSON format, HTTP binding, Kafka binding.

https://github.com/cloudevents/spec/tree/v1.0.2/cloudevents: formats/json-format.md,
bindings/http-protocol-binding.md, bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote_to_bytes

import orjson

from rapport.messaging.inbox import (
    DATA_TOO_LARGE,
    MAX_ATTRIBUTE_LENGTH,
    MAX_DATA_BYTES,
    External,
    Rejection,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Mode = Literal["binary", "structured", "batch"]

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
JSON_TYPE = re.compile(r"[\w.+-]+/(?:json|[\w.+-]+\+json)", re.ASCII | re.IGNORECASE)


class RefusedError(Exception):
    """Inside this module: the event is refused because of one field."""

    def __init__(self, field: str, complaint: str) -> None:
        """Name the field and what is wrong with it."""
        super().__init__(f"{field}: {complaint}")
        self.field = field
        self.reason = complaint if complaint == DATA_TOO_LARGE else str(self)


def mode_of(content_type: str | None) -> Mode:
    """Tell the content mode by the media type; whatever is not a CloudEvents format is binary."""
    media_type = _media_type(content_type)
    if media_type == BATCH:
        return "batch"
    return "structured" if media_type == STRUCTURED else "binary"


def from_kafka(
    headers: Iterable[tuple[str, bytes | None]], value: bytes | None
) -> External | Rejection:
    """Read a record of `inbound.events.v1`, binary or structured."""
    attributes: dict[str, Any] = {}
    try:
        for name, raw in headers:
            attributes[name.lower().removeprefix("ce_")] = _text(name, raw or b"")
        content_type = attributes.pop("content-type", None)
        if _media_type(content_type) == STRUCTURED:
            return _structured(_decode(value), attributes.get("traceparent"))
        return _binary(attributes, content_type, value)
    except RefusedError as error:
        return _rejection(error, attributes)


def from_http(
    headers: Iterable[tuple[bytes, bytes]], body: bytes, trace: str | None = None
) -> External | Rejection:
    """Read a request in binary mode: attributes in `ce-*` headers, percent-encoded.

    `trace` is the request's traceparent; an event that carries one of its own keeps it.
    """
    attributes: dict[str, Any] = {"traceparent": trace}
    try:
        content_type = None
        for raw_name, raw in headers:
            name = raw_name.decode("latin-1").lower()
            if name == "content-type":
                content_type = _text(name, raw)
            elif name.startswith("ce-"):
                attributes[name.removeprefix("ce-")] = _text(name, unquote_to_bytes(raw))
        return _binary(attributes, content_type, body)
    except RefusedError as error:
        return _rejection(error, attributes)


def from_structured(body: bytes, trace: str | None = None) -> External | Rejection:
    """Read one event of media type application/cloudevents+json."""
    try:
        document = _decode(body)
    except RefusedError as error:
        return _rejection(error, {})
    return _from_document(document, trace)


def from_batch(body: bytes, trace: str | None = None) -> list[External | Rejection] | Rejection:
    """Read a list of events; the list itself is refused as a whole, an event alone."""
    try:
        documents = _decode(body)
    except RefusedError as error:
        return _rejection(error, {})
    if not isinstance(documents, list):
        return Rejection.of("data", "a batch is a list of events")
    return [_from_document(document, trace) for document in documents]


def _from_document(document: object, trace: str | None) -> External | Rejection:
    try:
        return _structured(document, trace)
    except RefusedError as error:
        return _rejection(error, document if isinstance(document, dict) else {})


def _structured(document: object, trace: str | None) -> External:
    if not isinstance(document, dict):
        raise RefusedError("data", "an event is a JSON object")
    content_type = document.get("datacontenttype")
    if content_type is not None and not isinstance(content_type, str):
        raise RefusedError("datacontenttype", "must be a text")
    _require_json("datacontenttype", content_type)
    if "data_base64" in document:
        body = _decode(_from_base64(document["data_base64"]))
    else:
        body = document.get("data")
    return _external({"traceparent": trace} | document, body)


def _binary(
    attributes: Mapping[str, Any], content_type: str | None, value: bytes | None
) -> External:
    if value is not None and len(value) > MAX_DATA_BYTES:
        raise RefusedError("data", DATA_TOO_LARGE)
    _require_json("content-type", content_type)
    return _external(attributes, _decode(value) if value else None)


def _external(attributes: Mapping[str, Any], body: object) -> External:
    if _attribute(attributes, "specversion") != "1.0":
        raise RefusedError("specversion", "must be 1.0")
    source, id_, type_ = (_attribute(attributes, name) for name in ("source", "id", "type"))
    time = _time(attributes.get("time"))
    if body is None:
        raise RefusedError("data", "is missing")
    if not isinstance(body, dict):
        raise RefusedError("data", "must be a JSON object")
    if _size(body) > MAX_DATA_BYTES:
        raise RefusedError("data", DATA_TOO_LARGE)
    trace = attributes.get("traceparent")
    known = isinstance(trace, str) and TRACEPARENT.fullmatch(trace)
    return External(source, id_, type_, time, body, trace if known else None)


def _attribute(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes.get(name)
    if value is None:
        raise RefusedError(name, "is missing")
    if not isinstance(value, str) or not value or "\0" in value:
        raise RefusedError(name, "must be a text that is not empty")
    if len(value) > MAX_ATTRIBUTE_LENGTH:
        raise RefusedError(name, f"is longer than {MAX_ATTRIBUTE_LENGTH} characters")
    return value


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
        if time is not None and time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise RefusedError("time", "must be an RFC 3339 time with offset")


def _decode(value: bytes | None) -> Any:  # noqa: ANN401  any JSON
    if value is None:
        raise RefusedError("data", "is missing")
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise RefusedError("data", "is not JSON in UTF-8") from None


def _size(body: dict[str, Any]) -> int:
    try:
        return len(orjson.dumps(body))
    except orjson.JSONEncodeError:
        raise RefusedError("data", "is nested too deeply") from None


def _from_base64(value: object) -> bytes:
    try:
        if isinstance(value, str):
            return b64decode(value, validate=True)
    except Base64Error:
        pass
    raise RefusedError("data_base64", "is not base64")


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise RefusedError(name, "is not UTF-8") from None


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _require_json(field: str, content_type: str | None) -> None:
    if content_type and not JSON_TYPE.fullmatch(_media_type(content_type)):
        raise RefusedError(field, "must be application/json")


def _rejection(error: RefusedError, attributes: Mapping[str, Any]) -> Rejection:
    source, id_ = (attributes.get(name) for name in ("source", "id"))
    return Rejection(
        error.reason,
        error.field,
        _storable(source),
        _storable(id_),
    )


def _storable(value: object) -> str | None:
    return value[:MAX_ATTRIBUTE_LENGTH].replace("\0", "") if isinstance(value, str) else None
