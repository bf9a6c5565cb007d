"""Writes what a transaction published into its outbox, with the causal entries read there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rapport import telemetry
from rapport.contracts.base import owner_of, stream_of
from rapport.messaging.ids import key_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rapport.messaging.transaction import Published, Tx

# The entries are read in this statement, after the one that locked the keys. $1 is the consumed
# stream ('' outside consumers): there the cause's own number counts, and for the other partitions
# of this transaction ($3) what it has just reached, both given with the event.
ENTRIES = """
reached as materialized (
    select stream, partition, stream || ':' || partition || ':' || epoch || ':' || number as entry
    from rapport.position where number > 0 and not (stream = $1 and partition = any($3::int[]))
), by_partition as materialized (
    select array_agg(entries order by p) as entries from (
        select p, coalesce(string_agg(entry, ',' order by stream), '') as entries
        from generate_series(0, $2::int - 1) p
            left join reached on partition = p and stream <> $1
        group by p) per_partition
)
"""
INSERT = """
insert into rapport.outbox
    (event_id, key, hash, contacts, type, occurred_at, body, trace, cause_id, cause_hash, causal)
select u.event_id, u.key, u.hash, u.contacts::uuid[], u.type, u.occurred_at, u.body, u.trace,
    u.cause_id, u.cause_hash,
    concat_ws(',', nullif(u.entry, ''), nullif(
        case when u.several is null then by_partition.entries[(u.hash % $2) + 1]
        else (select string_agg(distinct entry, ',') from reached
              where partition = any(u.several::int[])) end, ''))
from by_partition, unnest($4::uuid[], $5::uuid[], $6::bigint[], $7::text[], $8::text[],
    $9::timestamptz[], $10::text[], $11::text[], $12::uuid[], $13::bigint[], $14::text[],
    $15::text[])
    with ordinality as u(event_id, key, hash, contacts, type, occurred_at, body, trace, cause_id,
        cause_hash, entry, several, place)
order by u.place
"""
WRITE = f"with {ENTRIES} {INSERT}"


async def write(tx: Tx, partitions: int) -> None:
    """Write `tx.published` in its order; outside consumers (API, timers, external events)."""
    if tx.published:
        arrays = columns(tx.published, partitions, {})
        await tx.connection.execute(WRITE, "", partitions, [], *arrays)


def columns(
    published: Sequence[Published], partitions: int, fresh: Mapping[int, str]
) -> list[list[Any]]:
    """Return the statement's arrays, one item an event.

    `fresh` gives the entry of each partition of the consumed stream that the transaction moves.
    """
    rows = [_row(event, partitions, fresh) for event in published]
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 12


def _row(event: Published, partitions: int, fresh: Mapping[int, str]) -> tuple[Any, ...]:
    cause = event.cause
    entry = cause.causal_entry or ""
    hashed = key_hash(event.key)
    cause_hash = hashed
    if cause.cause_key is not None and cause.cause_key != event.key:
        cause_hash = key_hash(cause.cause_key)
    places = {hashed % partitions}
    contacts = several = None
    if event.contacts and set(event.contacts) != {event.key}:
        contacts = "{" + ",".join(map(str, event.contacts)) + "}"
        places.update(key_hash(contact) % partitions for contact in event.contacts)
    home = cause_hash % partitions
    if entry and places != {home}:
        several = "{" + ",".join(map(str, sorted(places))) + "}"
        entry = ",".join([entry, *(fresh[p] for p in sorted(places - {home}) if p in fresh)])
    elif len(places) > 1:
        several = "{" + ",".join(map(str, sorted(places))) + "}"
    return (
        event.id,
        event.key,
        hashed,
        contacts,
        event.type,
        event.occurred_at,
        event.body,
        _trace(event),
        cause.cause_id,
        cause_hash if cause.cause_key is not None else None,
        entry,
        several,
    )


def _trace(event: Published) -> str | None:
    """Return the creation context to be stored with the row; what it continues, when tracing."""
    trace = event.cause.trace
    if not telemetry.enabled():
        return trace
    return telemetry.create_span(stream_of(owner_of(event.type)), event.type, event.id, trace)
