"""Collects every event type with owner, text, fields, JSON Schema and an example."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic.json_schema import models_json_schema

from rapport.contracts.base import owner_of, stream_of
from rapport.contracts.examples import example_of
from rapport.contracts.inbound import EXTERNAL_TYPES
from rapport.contracts.registry import EVENT_TYPES, INBOUND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Schema = dict[str, Any]

REFERENCE = "#/$defs/"
OTHER_SYSTEMS = "other systems"
_EXTERNAL_PREFIX = "External"


@dataclass(frozen=True)
class Field:
    """One member of an event's data, as the catalogue shows it."""

    name: str
    type: str
    required: bool
    text: str


@dataclass(frozen=True)
class Entry:
    """One event type. `component` names its schema among `Catalogue.components`."""

    type: str
    owner: str
    stream: str
    key: str
    text: str
    component: str
    fields: tuple[Field, ...]
    example: dict[str, Any]


@dataclass(frozen=True)
class Catalogue:
    """All types, ours in the order of the classes and then external ones, and their schemas."""

    entries: tuple[Entry, ...]
    components: Mapping[str, Schema]

    def schema_of(self, entry: Entry) -> Schema:
        """Return a JSON Schema that stands alone: with the components that it needs."""
        needed: dict[str, Schema] = {}
        pending = [entry.component]
        while pending:
            for name in _references(self.components[pending.pop()]):
                if name not in needed:
                    needed[name] = self.components[name]
                    pending.append(name)
        alone = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:rapport:{entry.type}",
            **self.components[entry.component],
            "title": entry.type,
        }
        return alone | ({"$defs": dict(sorted(needed.items()))} if needed else {})


def collect() -> Catalogue:
    """Read the event classes."""
    components = _internal_components() | _external_components()
    internal = (_internal_entry(event_type, components) for event_type in EVENT_TYPES)
    external = (_external_entry(event_type, components) for event_type in EXTERNAL_TYPES)
    return Catalogue((*internal, *external), components)


def _internal_entry(event_type: str, components: Mapping[str, Schema]) -> Entry:
    event = EVENT_TYPES[event_type]
    owner = owner_of(event_type)
    return Entry(
        type=event_type,
        owner=owner,
        stream=stream_of(owner),
        key="contact_id",
        text=inspect.cleandoc(event.__doc__ or ""),
        component=event.__name__,
        fields=tuple(_fields(components[event.__name__], components)),
        example=example_of(components[event.__name__], components),
    )


def _external_entry(event_type: str, components: Mapping[str, Schema]) -> Entry:
    event = EXTERNAL_TYPES[event_type]
    component = _EXTERNAL_PREFIX + event.__name__
    return Entry(
        type=event_type,
        owner=OTHER_SYSTEMS,
        stream=INBOUND,
        key="customer",
        text=inspect.cleandoc(event.__doc__ or ""),
        component=component,
        fields=tuple(_fields(components[component], components)),
        example=example_of(components[component], components),
    )


def _internal_components() -> dict[str, Schema]:
    events = list(EVENT_TYPES.values())
    _, components = msgspec.json.schema_components(events, ref_template=REFERENCE + "{name}")
    for struct in _structs(msgspec.inspect.multi_type_info(events)):
        for field in struct.fields:
            if any(isinstance(part, msgspec.inspect.DateTimeType) for part in _parts(field.type)):
                _mark_time(components[struct.cls.__name__]["properties"][field.encode_name])
    return components


def _structs(types: tuple[msgspec.inspect.Type, ...]) -> Iterator[msgspec.inspect.StructType]:
    for outer in types:
        for part in _parts(outer):
            if isinstance(part, msgspec.inspect.StructType):
                yield part
                yield from _structs(tuple(field.type for field in part.fields))


def _parts(outer: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    """Yield a type and what it is made of, but for the fields of structs."""
    yield outer
    if isinstance(outer, msgspec.inspect.UnionType):
        for inner in outer.types:
            yield from _parts(inner)
    elif isinstance(outer, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
        yield from _parts(outer.item_type)
    elif isinstance(outer, msgspec.inspect.Metadata):
        yield from _parts(outer.type)


def _mark_time(schema: Schema) -> None:
    """Say that a string is a time: msgspec does so only for types that demand an offset."""
    for part in schema.get("anyOf", [schema]):
        if part.get("type") == "string":
            part.setdefault("format", "date-time")


def _external_components() -> dict[str, Schema]:
    models = [(model, "validation") for model in EXTERNAL_TYPES.values()]
    _, made = models_json_schema(
        models,  # type: ignore[arg-type]  # a literal in a comprehension is taken for any str
        ref_template=REFERENCE + _EXTERNAL_PREFIX + "{model}",
    )
    return {_EXTERNAL_PREFIX + name: _untitled(schema) for name, schema in made["$defs"].items()}


def _untitled(schema: Schema) -> Schema:
    """Leave out pydantic's titles of fields, which repeat their names."""
    properties = {
        name: {key: value for key, value in field.items() if key != "title"}
        for name, field in schema.get("properties", {}).items()
    }
    return schema | {"properties": properties}


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref":
                yield str(value).removeprefix(REFERENCE)
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def _fields(schema: Schema, components: Mapping[str, Schema], prefix: str = "") -> Iterator[Field]:
    """Yield the members, those of nested objects after their own as `lines[].net_minor`."""
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        path = prefix + name
        shown, nested = _shown(field)
        text = str(field.get("description", ""))
        if field.get("default") not in (None, [], (), ""):
            text = f"{text}; default `{msgspec.json.encode(field['default']).decode()}`"
        yield Field(path, shown, name in required, text.removeprefix("; "))
        if nested:
            inner = path + ("[]." if "list" in shown else ".")
            yield from _fields(components[nested], components, inner)


def _shown(field: Schema) -> tuple[str, str | None]:
    """Return a field's type in words, and the component that it refers to, if any."""
    if "$ref" in field:
        return "object", field["$ref"].removeprefix(REFERENCE)
    if "anyOf" in field:
        shown = [_shown(part) for part in field["anyOf"]]
        words = " or ".join(word for word, _ in shown)
        return words, next((nested for _, nested in shown if nested), None)
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"]), None
    if field.get("type") == "array":
        word, nested = _shown(field.get("items", {}))
        return f"list of {word}", nested
    return str(field.get("format") or field.get("type", "any")), None
