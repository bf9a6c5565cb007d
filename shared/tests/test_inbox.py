"""Validation against the contract, and the hash that tells a repetition from a reused id."""

from __future__ import annotations

from typing import Any

import pytest

from rapport.contracts import inbound
from rapport.messaging.inbox import External, Rejection, body_hash, validate


def event(type_: str = "contact.updated", **body: Any) -> External:  # noqa: ANN401  any data
    return External("till", "1", type_, None, {"customer": "7"} | body)


def test_valid_data_become_the_contracts_object() -> None:
    fact = validate(event(given_name=" Ada ", unknown={"x": [1]}))
    assert isinstance(fact, inbound.ContactUpdated)
    assert (fact.customer, fact.given_name) == ("7", "Ada")


LINE = {"sku": "cd", "quantity": 1, "net_minor": 1}
SALE = {"order": "o", "occurred_at": "1997-01-01T00:00:00Z", "currency": "USD", "lines": [LINE]}


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (event("no.such"), "type"),
        (event(customer=""), "customer"),
        (event(email="nobody"), "email"),
        (event(given_name="a\0b"), "given_name"),
        (event(extra=[{"deep": ["x", "\0"]}]), "extra[0].deep[1]"),
        (External("till", "1", "contact.updated", None, {"\0": 1}), "data"),
        (event("purchase.recorded", **SALE | {"lines": [LINE, LINE]}), "lines"),
        (
            event("purchase.recorded", **SALE | {"lines": [LINE | {"net_minor": 1.5}]}),
            "lines[0].net_minor",
        ),
        (
            event("purchase.recorded", **SALE | {"lines": [LINE | {"net_minor": True}]}),
            "lines[0].net_minor",
        ),
        (
            event("purchase.recorded", **SALE | {"occurred_at": "1997-01-01T00:00:00"}),
            "occurred_at",
        ),
    ],
)
def test_the_first_complaint_names_its_field(bad: External, field: str) -> None:
    rejection = validate(bad)
    assert isinstance(rejection, Rejection)
    assert rejection.field == field
    assert rejection.reason.startswith(f"{field}: ")
    assert (rejection.source, rejection.id) == ("till", "1")


def test_a_complaint_repeats_no_value() -> None:
    rejection = validate(event(email="ada lovelace", phone="1" * 50))
    assert isinstance(rejection, Rejection)
    assert "ada" not in rejection.reason
    assert "1111" not in rejection.reason


def test_an_escaped_backslash_is_no_nul() -> None:
    assert isinstance(validate(event(given_name="\\u0000")), inbound.ContactUpdated)


def test_the_hash_is_about_content() -> None:
    one = event(a=1, b=2)
    other = External("x", "y", one.type, None, {"b": 2, "a": 1, "customer": "7"}, "trace")
    assert body_hash(one) == body_hash(other)
    assert body_hash(one) != body_hash(event(a=1, b=3))
    assert body_hash(one) != body_hash(event("contact.registered", a=1, b=2))
