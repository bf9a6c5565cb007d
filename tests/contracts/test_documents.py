"""Catalogue, JSON Schemas and AsyncAPI say what the classes say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rapport.contracts import generate
from rapport.contracts.asyncapi import document
from rapport.contracts.catalogue import collect
from rapport.contracts.registry import EVENT_TYPES, TOPICS

ROOT = Path(__file__).parents[2]
ASYNCAPI = json.loads((Path(__file__).parent / "asyncapi-3.0.0.schema.json").read_bytes())


def _errors(made: dict[str, Any]) -> list[str]:
    return [e.message for e in jsonschema.Draft7Validator(ASYNCAPI).iter_errors(made)]


def test_the_committed_documents_are_fresh() -> None:
    assert generate.stale(ROOT) == []


def test_the_asyncapi_document_is_valid() -> None:
    made = document(collect())
    assert _errors(made) == []
    assert set(made["channels"]) == set(TOPICS)


def test_the_validator_finds_faults() -> None:
    made = document(collect())
    del made["info"]["version"]
    made["operations"]["contacts-sends"]["action"] = "shout"
    assert len(_errors(made)) == 2


def test_every_reference_leads_somewhere() -> None:
    made = document(collect())
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(made))
    assert len(references) > len(EVENT_TYPES)
    for reference in references:
        place = made
        for step in reference.split("/"):
            place = place[step]


def test_every_event_says_what_it_is() -> None:
    texts = [entry.text for entry in collect().entries]
    assert all(text.endswith(".") for text in texts)
    assert len(set(texts)) == len(texts)


def test_times_are_said_to_be_times() -> None:
    """Also within nested objects and where they may be missing."""
    recorded = EVENT_TYPES["rapport.contacts.purchase-recorded.v1"].__name__
    properties = collect().components[recorded]["properties"]
    assert properties["occurred_at"]["format"] == "date-time"
    assert "format" not in properties["order"]


def test_stale_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--root", str(tmp_path)]) == 0
    assert generate.main(["--root", str(tmp_path), "--check"]) == 0
    (tmp_path / generate.REFERENCE / "events.md").write_text("edited", encoding="utf-8")
    (tmp_path / generate.SCHEMAS / "contact.forgotten.json").write_text("{}", encoding="utf-8")
    next((tmp_path / generate.SAMPLES).iterdir()).unlink()
    assert generate.main(["--root", str(tmp_path), "--check"]) == 1
    said = capsys.readouterr().err
    assert "events.md is not what the classes say" in said
    assert "contact.forgotten.json belongs to no class" in said
    assert "has no sample of" in said
    assert generate.main(["--root", str(tmp_path)]) == 0
    assert generate.stale(tmp_path) == []


def test_a_stored_sample_is_never_rewritten(tmp_path: Path) -> None:
    generate.write(tmp_path)
    sample = next((tmp_path / generate.SAMPLES).iterdir())
    sample.write_text('{"stored": "long ago"}', encoding="utf-8")
    generate.write(tmp_path)
    assert sample.read_text(encoding="utf-8") == '{"stored": "long ago"}'
