"""Parking: an event that cannot be applied waits with every later event of its contacts."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rapport.messaging.failure import storable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from rapport.messaging.backlog import Foreign
    from rapport.messaging.envelope import Envelope
    from rapport.pgtypes import Connection

BREAKER_CONTACTS = 6
BREAKER_SECONDS = 60

FAILED = "failed"
CONTACT_PARKED = "contact_parked"
CAUSE_PARKED = "cause_parked"

PARK = """
with parked as (
    insert into rapport.parked_event (stream, partition, epoch, number, kafka_offset, event_id,
        type, contacts, cause_id, headers, value, reason, error, attempts, trace, first_failed_at)
    select $1, u.partition, u.epoch, u.number, u.kafka_offset, u.event_id, u.type,
        u.contacts::uuid[], u.cause_id, u.headers::jsonb, u.value, u.reason, u.error, u.attempts,
        u.trace, u.first_failed_at
    from unnest($2::int[], $3::int[], $4::bigint[], $5::bigint[], $6::uuid[], $7::text[],
        $8::text[], $9::uuid[], $10::text[], $11::bytea[], $12::text[], $13::text[], $14::int[],
        $15::text[], $16::timestamptz[]) with ordinality
        u(partition, epoch, number, kafka_offset, event_id, type, contacts, cause_id, headers,
            value, reason, error, attempts, trace, first_failed_at, place)
    order by u.place
)
update rapport.key set parked = true where id = any($17::uuid[]) and not parked
"""
RECENTLY_FAILED = """
select count(distinct contacts[1]) from rapport.parked_event
where stream = $1 and partition = $2 and reason = 'failed'
    and parked_at > clock_timestamp() - make_interval(secs => $3)
"""
CAUSES_FOR_SHARE = """
select event_id from rapport.parked_event where event_id = any($1::uuid[]) for share
"""
REJECT = """
insert into rapport.rejected_record
    (topic, partition, kafka_offset, key, value, headers, reason, field, source, source_id)
select u.topic, u.partition, u.kafka_offset, u.key, u.value, u.headers::jsonb, u.reason, u.field,
    u.source, u.source_id
from unnest($1::text[], $2::int[], $3::bigint[], $4::bytea[], $5::bytea[], $6::text[], $7::text[],
    $8::text[], $9::text[], $10::text[])
    u(topic, partition, kafka_offset, key, value, headers, reason, field, source, source_id)
on conflict (topic, partition, kafka_offset) do nothing
"""


class Parked(NamedTuple):
    """An event that this transaction parks, and why."""

    event: Envelope
    contacts: tuple[UUID, ...]
    reason: str
    error: str | None
    attempts: int
    first_failed: datetime


class Rejected(NamedTuple):
    """A record that is written to `rejected_record`."""

    record: Any
    reason: str
    field: str | None
    source: str | None = None
    source_id: str | None = None


def encode_headers(headers: Sequence[tuple[str, bytes | None]]) -> str:
    """Return headers as JSON, `[[name, base64], …]`: whatever their bytes are."""
    pairs = [
        (storable(name), None if raw is None else base64.b64encode(raw).decode())
        for name, raw in headers
    ]
    return msgspec.json.encode(pairs).decode()


def decode_headers(pairs: Sequence[Sequence[str | None]]) -> list[tuple[str, bytes]]:
    """Undo `encode_headers`, from the decoded JSON."""
    return [(name or "", base64.b64decode(raw) if raw is not None else b"") for name, raw in pairs]


async def park(connection: Connection, stream: str, parked: Sequence[Parked]) -> None:
    """Write the events in arrival order and mark their contacts, whose keys are locked."""
    rows = [
        (
            p.event.partition,
            p.event.epoch,
            p.event.number,
            p.event.offset,
            p.event.id,
            p.event.type,
            "{" + ",".join(map(str, p.contacts)) + "}",
            p.event.cause_id,
            encode_headers(p.event.headers),
            p.event.value,
            p.reason,
            p.error,
            p.attempts,
            p.event.trace,
            p.first_failed,
        )
        for p in parked
    ]
    contacts = sorted({contact for p in parked for contact in p.contacts})
    arrays = [list(column) for column in zip(*rows, strict=True)]
    await connection.execute(PARK, stream, *arrays, contacts)


async def trips_breaker(connection: Connection, stream: str, partition: int) -> bool:
    """Tell whether so many contacts failed lately that the handler must be at fault."""
    contacts: int = await connection.fetchval(RECENTLY_FAILED, stream, partition, BREAKER_SECONDS)
    return contacts >= BREAKER_CONTACTS


async def reject(connection: Connection, rejected: Sequence[Rejected]) -> None:
    """Write records that are not ours or not valid; reading them again writes nothing new."""
    rows = [
        (
            r.record.topic,
            r.record.partition,
            r.record.offset,
            r.record.key,
            r.record.value,
            encode_headers(r.record.headers),
            storable(r.reason),
            None if r.field is None else storable(r.field),
            r.source,
            r.source_id,
        )
        for r in rejected
    ]
    if rows:
        await connection.execute(REJECT, *[list(c) for c in zip(*rows, strict=True)])


def rejected_foreign(foreign: Sequence[Foreign]) -> list[Rejected]:
    """Return foreign records of an internal stream as rejections."""
    return [Rejected(f.record, f"{f.field}: {f.reason}", f.field) for f in foreign]
