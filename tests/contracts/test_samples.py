"""What was once published decodes for ever, and loses nothing on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from rapport.contracts.catalogue import collect
from rapport.contracts.inbound import EXTERNAL_TYPES
from rapport.contracts.registry import EVENT_TYPES

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.json"))
SCHEMAS = {entry.type: collect().schema_of(entry) for entry in collect().entries}


def _name(path: Path) -> str:
    return path.name.removesuffix(".json")


def _round_trip(event_type: str, body: bytes) -> Any:  # noqa: ANN401  JSON
    if event_type in EXTERNAL_TYPES:
        model = EXTERNAL_TYPES[event_type].model_validate_json(body)
        return json.loads(model.model_dump_json())
    event = msgspec.json.decode(body, type=EVENT_TYPES[event_type])
    return msgspec.json.decode(msgspec.json.encode(event))


def _lost(before: Any, after: Any, path: str = "") -> list[str]:  # noqa: ANN401  JSON
    """Name what of `before` is not in `after`; more in `after` is fine."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            name
            for key, value in before.items()
            for name in _lost(value, after.get(key), f"{path}.{key}")
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [name for n, (old, new) in pairs for name in _lost(old, new, f"{path}[{n}]")]
    return [] if before == after else [f"{path}: {before!r} became {after!r}"]


def test_every_type_has_a_sample_and_every_sample_a_type() -> None:
    """A type that is gone cannot read what is stored: it needs an upcaster, not a deletion."""
    assert {_name(path) for path in SAMPLES} == EVENT_TYPES.keys() | EXTERNAL_TYPES.keys()


@pytest.mark.parametrize("path", SAMPLES, ids=_name)
def test_a_sample_decodes_and_loses_nothing(path: Path) -> None:
    body = path.read_bytes()
    assert _lost(json.loads(body), _round_trip(_name(path), body)) == []


@pytest.mark.parametrize("path", SAMPLES, ids=_name)
def test_a_sample_fits_its_json_schema(path: Path) -> None:
    schema = SCHEMAS[_name(path)]
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    assert list(validator.iter_errors(json.loads(path.read_bytes()))) == []


@pytest.mark.parametrize("path", SAMPLES, ids=_name)
def test_unknown_fields_are_ignored(path: Path) -> None:
    """A newer producer may add some within a version."""
    body = json.loads(path.read_bytes())
    newer = json.dumps(body | {"added_in_a_later_release": {"a": 1}}).encode()
    assert _lost(body, _round_trip(_name(path), newer)) == []


def test_losses_are_found() -> None:
    assert _lost({"a": 1, "b": [{"c": 2}]}, {"b": [{"c": 3}], "d": 4}) == [
        ".a: 1 became None",
        ".b[0].c: 2 became 3",
    ]
