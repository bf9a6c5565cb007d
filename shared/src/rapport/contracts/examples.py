"""Example data of an event, made from its JSON Schema: every field present, none at its default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rapport.messaging.ids import derived_id

if TYPE_CHECKING:
    from collections.abc import Mapping

VALUES: dict[str, Any] = {
    "birth_date": "1980-03-15",
    "changed": "email",
    "channel": "email",
    "currency": "EUR",
    "customer": "C-1001",
    "email": "jana.novakova@mail.example",
    "family_name": "Nováková",
    "given_name": "Jana",
    "language": "cs",
    "line": "1",
    "net_minor": 100_000,
    "number": "C-1001",
    "order": "O-5001",
    "phone": "+420 601 000 000",
    "points": 1_000,
    "purpose": "marketing",
    "quantity": 2,
    "reason": "consent",
    "recipient": "Rapport Books",
    "rule": "thank-you",
    "segment": "valued",
    "shop": "Prague 1",
    "sku": "BOOK-17",
    "source": "till-7",
    "system": "till",
    "tax_minor": 21_000,
    "wording_version": "2026-01",
    "zone": "Europe/Prague",
}
"""Values by field name; a field that is not here gets one by its type."""

TIME = "2026-03-02T09:00:00Z"
DAY = "2026-03-02"


def example_of(schema: dict[str, Any], components: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return data that satisfies an object's schema; the same schema gives the same data."""
    fields = schema.get("properties", {}).items()
    return {name: _value(name, field, components) for name, field in fields}


def _value(name: str, schema: dict[str, Any], components: Mapping[str, dict[str, Any]]) -> Any:  # noqa: ANN401  JSON
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components)
    if "anyOf" in schema:
        options = [part for part in schema["anyOf"] if part.get("type") != "null"]
        return _value(name, options[0], components)
    if schema.get("type") == "array":
        return [_value(name, schema["items"], components)]
    if schema.get("type") == "object":
        return example_of(schema, components)
    if schema.get("type") == "boolean":
        return not schema.get("default", False)
    return _scalar(name, schema)


def _scalar(name: str, schema: dict[str, Any]) -> str | int | float:
    if "enum" in schema:
        others = [value for value in schema["enum"] if value != schema.get("default")]
        return str(others[0])
    if name in VALUES:
        known: str | int = VALUES[name]
        return known
    if schema.get("type") == "integer":
        return int(schema.get("default") or 0) + 1
    if schema.get("type") == "number":
        return float(schema.get("default") or 0) + 0.5
    formats = {"uuid": str(derived_id("example", name)), "date-time": TIME, "date": DAY}
    return formats.get(schema.get("format", ""), name.replace("_", "-"))
