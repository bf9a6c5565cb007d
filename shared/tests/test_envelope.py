"""Ids, numbers and headers: what the relay writes is what consumers read."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.messaging.envelope import ForeignRecordError, parse
from rapport.messaging.ids import derived_id, drawn_id, key_hash
from rapport.messaging.numbering import Numbering
from rapport.messaging.tick import Snapshot, Tick, ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

STREAM = "contacts.events.v1"
TYPE = "rapport.contacts.purchase-recorded.v1"
PARTITIONS = 6


def tick(before: tuple[int, ...] = (0,) * PARTITIONS) -> Tick:
    return Tick(4, Snapshot(100, ()), "1", 1, 3, PARTITIONS, before, before)


def row(key: UUID, **more: Any) -> dict[str, Any]:  # noqa: ANN401  columns of the outbox
    return {
        "event_id": derived_id("event", key),
        "key": key,
        "hash": key_hash(key),
        "contacts": None,
        "type": TYPE,
        "occurred_at": datetime(2026, 3, 2, 10, tzinfo=UTC),
        "body": "{}",
        "trace": None,
        "cause_id": None,
        "cause_hash": None,
        "causal": "",
        **more,
    }


def contact_in(partition: int) -> UUID:
    return next(c for n in range(10_000) if key_hash(c := UUID(int=n)) % PARTITIONS == partition)


def consumed(headers: Sequence[tuple[str, bytes | None]], topic: str = STREAM) -> Any:  # noqa: ANN401
    return SimpleNamespace(
        topic=topic, partition=2, offset=7, timestamp=0, key=b"", value=b"{}", headers=headers
    )


def written(**more: Any) -> list[tuple[str, bytes]]:  # noqa: ANN401  columns of the outbox
    return Numbering(STREAM, tick()).record(row(contact_in(2), **more)).headers


def test_what_is_written_is_read() -> None:
    key, other, cause = contact_in(2), contact_in(5), UUID(int=99)
    numbering = Numbering(STREAM, tick((0, 0, 8, 0, 0, 4)))
    entry = "loyalty.events.v1:2:1:17"
    made = numbering.record(row(key, contacts=[key, other], cause_id=cause, causal=entry))
    assert (made.partition, made.number, made.key) == (2, 9, str(key).encode())
    envelope = parse(consumed(made.headers))
    assert (envelope.epoch, envelope.number, envelope.key) == (3, 9, key)
    assert envelope.contacts[0] == key
    assert set(envelope.contacts) == {key, other}
    assert envelope.cause_id == cause
    assert envelope.entries == [("loyalty.events.v1", 2, 1, 17), (STREAM, 5, 3, 4)]
    assert envelope.entry == f"{STREAM}:2:3:9"


def test_own_entries_name_what_was_numbered_before() -> None:
    """For the cause's key and the contact set; never for the event's own partition."""
    numbering = Numbering(STREAM, tick())
    numbering.take(row(contact_in(4)))
    numbering.take(row(contact_in(4)))
    made = numbering.record(row(contact_in(2), cause_hash=key_hash(contact_in(4))))
    assert parse(consumed(made.headers)).entries == [(STREAM, 4, 3, 2)]
    nothing_there = numbering.record(row(contact_in(2), cause_hash=key_hash(contact_in(0))))
    assert parse(consumed(nothing_there.headers)).entries == []
    own = numbering.record(row(contact_in(2), cause_hash=key_hash(contact_in(2))))
    assert parse(consumed(own.headers)).entries == []


@given(st.lists(st.integers(0, PARTITIONS - 1), max_size=40))
def test_numbers_are_contiguous_per_partition(partitions: list[int]) -> None:
    before = (5, 0, 3, 0, 0, 9)
    numbering = Numbering(STREAM, tick(before))
    reached = list(before)
    for partition in partitions:
        reached[partition] += 1
        assert numbering.take(row(contact_in(partition))) == (partition, reached[partition])
    assert numbering.last == reached


@pytest.mark.parametrize(
    "header", ["ce_sequence", "ce_epoch", "ce_id", "ce_subject", "ce_time", "ce_type"]
)
def test_a_missing_header_is_named(header: str) -> None:
    headers = [pair for pair in written() if pair[0] != header]
    with pytest.raises(ForeignRecordError) as caught:
        parse(consumed(headers))
    assert (caught.value.field, caught.value.reason) == (header, "the header is missing")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ce_sequence", b"ten"),
        ("ce_epoch", b""),
        ("ce_id", b"not-a-uuid"),
        ("ce_subject", b"customer 7"),
        ("ce_contacts", b"a,b"),
        ("ce_causationid", b"x"),
        ("ce_causal", b"contacts.events.v1:1"),
        ("ce_causal", b"contacts.events.v1:1:one:2"),
        ("ce_time", b"yesterday"),
        ("ce_type", b"purchase"),
        ("ce_source", b"/rapport/loyalty"),
        ("ce_type", b"\xff\xfe"),
        ("x-anything", b"\xff\xfe"),
    ],
)
def test_a_wrong_header_is_named(header: str, value: bytes) -> None:
    headers = [pair for pair in written() if pair[0] != header]
    with pytest.raises(ForeignRecordError) as caught:
        parse(consumed([*headers, (header, value)]))
    assert caught.value.field == header
    assert "customer 7" not in caught.value.reason


def test_a_record_without_headers_is_foreign() -> None:
    with pytest.raises(ForeignRecordError):
        parse(consumed([]))
    with pytest.raises(ForeignRecordError):
        parse(consumed([("ce_sequence", None)]))


def test_derived_ids_are_version_8_and_say_what_they_come_from() -> None:
    made = derived_id("purchase", "till", "4711")
    assert made == derived_id("purchase", "till", "4711")
    assert made != derived_id("purchase", "till4711")
    assert made != derived_id("purchase", "til", "l4711")
    assert (UUID(str(made)).version, UUID(str(made)).variant) == (8, RFC_4122)


def test_drawn_ids_are_version_7_and_rise() -> None:
    drawn = [UUID(str(drawn_id())) for _ in range(500)]
    assert {(d.version, d.variant) for d in drawn} == {(7, RFC_4122)}
    assert len(set(drawn)) == 500
    times = [d.int >> 80 for d in drawn]
    assert times == sorted(times)


@given(st.uuids())
def test_the_hash_is_the_published_one(key: UUID) -> None:
    """63 bits of BLAKE2b of the lower-case text, for publishers in other languages too."""
    from hashlib import blake2b  # noqa: PLC0415  the formula of the documentation, spelled out

    digest = blake2b(str(key).lower().encode(), digest_size=8).digest()
    assert key_hash(key) == int.from_bytes(digest, "big") >> 1 < 1 << 63


def test_a_tick_takes_what_finished_between_two_snapshots() -> None:
    """From the old xmax to the new one without what still runs, and what ran before."""
    previous, current = Snapshot.parse("90:100:90,95"), Snapshot.parse("95:120:95,110")
    assert previous == Snapshot(100, (90, 95))
    assert ranges(previous, current) == ("100", "120", ["95", "110"], ["90"])
