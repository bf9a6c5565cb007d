"""The AsyncAPI 3.0 document of all streams, from the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rapport.contracts.base import stream_of
from rapport.contracts.catalogue import REFERENCE
from rapport.contracts.registry import INBOUND, SERVICES, STREAMS

if TYPE_CHECKING:
    from rapport.contracts.catalogue import Catalogue, Entry

COMPONENTS = "#/components/schemas/"
DATA = "The body is the event's data alone; its attributes are headers (CloudEvents, binary mode)."
UUID_TEXT = {"type": "string", "format": "uuid"}

EVENT_HEADERS: dict[str, Any] = {
    "type": "object",
    "description": "CloudEvents attributes of a numbered event.",
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {**UUID_TEXT, "description": "The event's id; a repetition has the same."},
        "ce_type": {"type": "string", "pattern": r"^rapport\.[a-z]+\.[a-z-]+\.v[0-9]+$"},
        "ce_source": {"type": "string", "description": "`/rapport/<owner>`"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_subject": {**UUID_TEXT, "description": "The record's key."},
        "ce_dataschema": {"type": "string"},
        "ce_sequence": {
            "type": "string",
            "pattern": "^[0-9]{20}$",
            "description": "Number within the partition, without holes.",
        },
        "ce_epoch": {"type": "string", "description": "Raised when numbering begins anew."},
        "ce_causationid": {**UUID_TEXT, "description": "Event, command or timer it comes from."},
        "ce_contacts": {
            "type": "string",
            "description": "Contacts concerned, comma-separated, if more than the key.",
        },
        "ce_causal": {
            "type": "string",
            "description": "`stream:partition:epoch:number`, comma-separated: what came before.",
        },
        "traceparent": {"type": "string", "description": "W3C trace context of the creation."},
        "content-type": {"type": "string", "const": "application/json"},
    },
    "required": [
        *("ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject"),
        *("ce_sequence", "ce_epoch"),
    ],
}
EXTERNAL_HEADERS: dict[str, Any] = {
    "type": "object",
    "description": "CloudEvents attributes in binary mode; structured mode has them in the body.",
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {"type": "string", "description": "With `ce_source` unique for ever."},
        "ce_type": {"type": "string"},
        "ce_source": {"type": "string", "description": "A registered source."},
        "ce_time": {"type": "string", "format": "date-time"},
        "traceparent": {"type": "string", "description": "Continued by all that follows."},
    },
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_source"],
}


def document(catalogue: Catalogue) -> dict[str, Any]:
    """Return the document."""
    schemas = {name: _moved(schema) for name, schema in sorted(catalogue.components.items())}
    schemas |= {"EventHeaders": EVENT_HEADERS, "ExternalEventHeaders": EXTERNAL_HEADERS}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Rapport",
            "version": "1",
            "description": "Events of the four services, and those that other systems send them.",
        },
        "defaultContentType": "application/json",
        "channels": {stream: _channel(stream, catalogue) for stream in (*STREAMS, INBOUND)},
        "operations": _operations(),
        "components": {
            "messages": {entry.type: _message(entry) for entry in catalogue.entries},
            "schemas": schemas,
        },
    }


def _channel(stream: str, catalogue: Catalogue) -> dict[str, Any]:
    types = [entry.type for entry in catalogue.entries if entry.stream == stream]
    return {
        "address": stream,
        "description": f"{_description(stream)} {DATA}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in types},
        "bindings": {"kafka": {"topic": stream, "bindingVersion": "0.5.0"}},
    }


def _description(stream: str) -> str:
    if stream == INBOUND:
        return "External events; ordered per customer, de-duplicated by source and id."
    owner = stream.partition(".")[0]
    return f"Everything that {owner} says, ordered and numbered per partition by contact."


def _operations() -> dict[str, Any]:
    """Return who sends and receives what, seen from the services."""
    operations = {
        "contacts-receives-inbound": _operation("receive", INBOUND, "contacts takes them in.")
    }
    for owner in SERVICES:
        stream = stream_of(owner)
        operations[f"{owner}-sends"] = _operation("send", stream, f"Only {owner} writes here.")
        for reader in SERVICES:
            if reader != owner:
                summary = f"{reader} applies what it knows and skips the rest."
                name = f"{reader}-receives-{owner}"
                operations[name] = _operation("receive", stream, summary)
    return operations


def _operation(action: str, stream: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{stream}"}, "summary": summary}


def _message(entry: Entry) -> dict[str, Any]:
    internal = entry.type.startswith("rapport.")
    headers = "EventHeaders" if internal else "ExternalEventHeaders"
    key = {**UUID_TEXT, "description": entry.key} if internal else {"type": "string"}
    return {
        "name": entry.type,
        "title": entry.type,
        "summary": entry.text.partition("\n")[0],
        "contentType": "application/json",
        "headers": {"$ref": COMPONENTS + headers},
        "payload": {"$ref": COMPONENTS + entry.component},
        "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
        "examples": [{"payload": entry.example}],
    }


def _moved(schema: Any) -> Any:  # noqa: ANN401  JSON
    """Return a schema whose references lead to where this document keeps its schemas."""
    if isinstance(schema, dict):
        return {
            key: value.replace(REFERENCE, COMPONENTS) if key == "$ref" else _moved(value)
            for key, value in schema.items()
        }
    return [_moved(item) for item in schema] if isinstance(schema, list) else schema
