"""One consumer transaction: BEGIN, lock, handlers, finish, COMMIT, in five round trips."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from rapport import telemetry
from rapport.contracts.registry import EVENT_TYPES
from rapport.messaging import alias, outbox, parking, wave
from rapport.messaging.delivery import Delivery
from rapport.messaging.failure import DecodingError
from rapport.messaging.handler import finder_of, takes_several
from rapport.messaging.parking import CAUSE_PARKED, CONTACT_PARKED, FAILED, Parked
from rapport.messaging.subscriber import group_of
from rapport.messaging.transaction import ADD_KEYS, StartAgainError, Tx
from rapport.pgtypes import required

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    import asyncpg

    from rapport.clock import Clock
    from rapport.contracts.base import Event
    from rapport.messaging.backlog import Segment
    from rapport.messaging.envelope import Envelope
    from rapport.messaging.handler import Handler, Handlers
    from rapport.pgtypes import Connection

LOCK = """
with positions as materialized (
    select partition, epoch, number, stopped from rapport.position
    where stream = $1 and partition = any($2::int[]) order by partition for no key update
), keys as materialized (
    select id, survivor, parked from rapport.key
    where id = any($3::uuid[]) and (select count(*) from positions) > 0
    order by id for no key update
)
select
    (select array_agg(number order by partition) from positions) as numbers,
    (select array_agg(epoch order by partition) from positions) as epochs,
    (select count(*) from keys) as locked,
    (select array_agg(id) from keys where parked) as parked,
    (select array_agg(id) from keys where survivor is not null) as losers,
    (select array_agg(survivor) from keys where survivor is not null) as survivors,
    array(select id from rapport.key where parked and id = any($4::uuid[])) as ignored_parked,
    array(select event_id from rapport.parked_event where event_id = any($5::uuid[])) as causes,
    (select now from rapport.clock) as now
"""
MOVE = """
moved as (
    update rapport.position p set epoch = u.epoch, number = u.number,
        kafka_offset = u.kafka_offset, stopped = u.stopped, resume = false
    from unnest(%s::int[], %s::int[], %s::bigint[], %s::bigint[], %s::text[])
        u(partition, epoch, number, kafka_offset, stopped)
    where p.stream = $1 and p.partition = u.partition
), logged as (
    insert into rapport.batch_log (stream, partition, epoch, first_number, last_number, applied,
        skipped, parked, attempts, worker, started_at)
    select $1, u.partition, u.epoch, u.first_number, u.number, u.applied, u.skipped, u.parked,
        u.attempts, u.worker, u.started_at
    from unnest(%s::int[], %s::int[], %s::bigint[], %s::bigint[], %s::int[], %s::int[], %s::int[],
        %s::int[], %s::text[], %s::timestamptz[])
        u(partition, epoch, first_number, number, applied, skipped, parked, attempts, worker,
            started_at)
    where u.first_number <= u.number
)
"""
MOVE_ARRAYS = 15
FINISH = "with " + MOVE % tuple(f"${n}" for n in range(2, 2 + MOVE_ARRAYS)) + " select 1"
FINISH_AND_PUBLISH = (
    "with "
    + MOVE % tuple(f"${n}" for n in range(16, 16 + MOVE_ARRAYS))
    + ", "
    + outbox.ENTRIES
    + outbox.INSERT
)


class PositionMovedError(Exception):
    """Another replica has moved the position: read it again."""


@dataclass(slots=True, eq=False)
class Item:
    """An event in its transaction, with its canonical contacts and decoded body."""

    envelope: Envelope
    kind: str
    canonical: tuple[UUID, ...] = ()
    delivery: Delivery[Any] | None = None


@dataclass(slots=True, eq=False)
class Condemned:
    """An event that failed alone three times and is parked instead of applied."""

    error: str
    attempts: int
    first_failed: datetime


@dataclass(slots=True, eq=False)
class Outcome:
    """What a committed transaction did."""

    published: int
    parked: dict[int, int] = field(default_factory=dict)
    stopped: dict[int, str] = field(default_factory=dict)
    waves: int = 0


class Decoders:
    """Typed decoders of the events that a service handles."""

    def __init__(self, handlers: Handlers) -> None:
        self.handlers: dict[str, Handler] = {event.type: h for event, h in handlers.items()}
        self.several = {kind for kind, h in self.handlers.items() if takes_several(h)}
        self._decoders: dict[str, msgspec.json.Decoder[Event]] = {
            kind: msgspec.json.Decoder(EVENT_TYPES[kind]) for kind in self.handlers
        }

    def decode(self, item: Item) -> Delivery[Any]:
        """Return what the handler gets; raises DecodingError."""
        envelope = item.envelope
        try:
            event = self._decoders[item.kind].decode(envelope.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            msg = f"{item.kind}: {error}"
            raise DecodingError(msg) from error
        return Delivery(
            envelope.id,
            item.kind,
            item.canonical[0],
            envelope.key,
            envelope.occurred_at,
            event,
            envelope.entry,
            envelope.trace,
        )


@dataclass(eq=False)
class Batch:
    """The segments of one transaction and everything it needs to be carried out."""

    stream: str
    segments: Sequence[Segment]
    decoders: Decoders
    clock: Clock
    partitions: int
    worker: str
    service: str
    condemned: Mapping[UUID, Condemned] = field(default_factory=dict)
    attempts: Mapping[int, int] = field(default_factory=dict)
    extra: set[UUID] = field(default_factory=set)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    span: telemetry.Batch = field(init=False)
    handled: set[int] = field(default_factory=set)

    async def execute(self, connection: Connection) -> Outcome:
        """Apply and commit, starting again while keys are missing.

        Raises PositionMovedError, and whatever handlers and Postgres raise; then nothing
        happened.
        """
        events = [e for segment in self.segments for e in segment.events]
        links = [e.trace for e in events] if telemetry.enabled() else []
        group = group_of(self.service, self.stream)
        with telemetry.batch_span(self.stream, group, len(events), links) as span:
            while True:
                try:
                    return await self._once(connection, span)
                except StartAgainError as again:
                    self.extra |= again.ids

    async def _once(self, connection: Connection, span: telemetry.Batch) -> Outcome:
        self.started = datetime.now(UTC)
        self.span = span
        items = [Item(e, e.type) for segment in self.segments for e in segment.events]
        await connection.execute("begin")
        try:
            outcome = await self._apply(connection, items)
            await connection.execute("commit")
        except BaseException:
            if not connection.is_closed():
                await connection.execute("rollback")
            raise
        return outcome

    async def _apply(self, connection: Connection, items: list[Item]) -> Outcome:
        tx = Tx(connection, self.started)
        found = await self._find_further(items, tx)
        ids = {c for i in items if self._locks(i) for c in i.envelope.contacts}
        row = await self._lock(connection, ids | found | self.extra, items)
        tx.now = self.clock.seen(row["now"])
        survivors = dict(zip(row["losers"] or (), row["survivors"] or (), strict=True))
        locked = ids | found | self.extra
        if further := set(survivors.values()) - locked:
            raise StartAgainError(further)
        tx.locked = {key: survivors.get(key, key) for key in locked}
        for item in items:
            contacts = item.envelope.contacts
            item.canonical = tuple(tx.locked.get(c, c) for c in contacts) if survivors else contacts
        parked, ready = self._sort(items, set(row["parked"] or ()), set(row["causes"]))
        if parked:
            await self._park(connection, parked, set(row["causes"]))
        if found and (further := await self._find_further(ready, tx) - locked):
            raise StartAgainError(further)
        for item in ready:
            if item.kind == alias.MERGED:
                await alias.follow(item.envelope, tx)
        waves = await self._handle(ready, tx)
        return await self._finish(connection, tx, parked, waves)

    def _locks(self, item: Item) -> bool:
        kind = item.kind
        known = kind in self.decoders.handlers or kind == alias.MERGED
        return known or item.envelope.id in self.condemned

    async def _find_further(self, items: Iterable[Item], tx: Tx) -> set[UUID]:
        found: set[UUID] = set()
        by_kind: dict[str, list[Delivery[Any]]] = {}
        for item in items:
            handler = self.decoders.handlers.get(item.kind)
            if item.envelope.id in self.condemned or handler is None:
                continue
            if finder_of(handler) is not None:
                item.canonical = item.canonical or item.envelope.contacts
                by_kind.setdefault(item.kind, []).append(self.decoders.decode(item))
        for kind, deliveries in by_kind.items():
            finder = finder_of(self.decoders.handlers[kind])
            if finder is not None:
                found |= await finder(deliveries, tx)
        return found

    async def _lock(
        self, connection: Connection, ids: set[UUID], items: list[Item]
    ) -> asyncpg.Record:
        ignored = [i for i in items if not self._locks(i)]
        causes = {i.envelope.cause_id for i in items if i.envelope.cause_id is not None}
        found = await connection.fetchrow(
            LOCK,
            self.stream,
            sorted(s.partition for s in self.segments),
            list(ids),
            list({c for i in ignored for c in i.envelope.contacts}),
            list(causes),
        )
        row = required(found)
        segments = sorted(self.segments, key=lambda s: s.partition)
        expected = [(s.position.epoch, s.position.number) for s in segments]
        numbers, epochs = row["numbers"] or (), row["epochs"] or ()
        if list(zip(epochs, numbers, strict=True)) != expected:
            raise PositionMovedError(self.stream)
        if row["locked"] < len(ids):
            await connection.execute("rollback")
            await connection.execute(ADD_KEYS, sorted(ids))
            await connection.execute("begin")
            raise StartAgainError(set())
        self._promote(ignored, set(row["ignored_parked"]), set(row["causes"]))
        return row

    def _promote(self, ignored: list[Item], parked: set[UUID], causes: set[UUID]) -> None:
        """An event of an ignored type that has to be parked needs its keys locked as well."""
        further = {
            contact
            for i in ignored
            if i.envelope.cause_id in causes or not parked.isdisjoint(i.envelope.contacts)
            for contact in i.envelope.contacts
        }
        if further - self.extra:
            raise StartAgainError(further)

    def _sort(
        self, items: list[Item], keys: set[UUID], causes: set[UUID]
    ) -> tuple[list[Parked], list[Item]]:
        parked: list[Parked] = []
        ready: list[Item] = []
        for item in items:
            condemned = self.condemned.get(item.envelope.id)
            reason = error = None
            attempts, since = 0, self.started
            if condemned is not None:
                reason, error = FAILED, condemned.error
                attempts, since = condemned.attempts, condemned.first_failed
            elif not keys.isdisjoint(item.canonical) or not keys.isdisjoint(item.envelope.contacts):
                reason = CONTACT_PARKED
            elif item.envelope.cause_id in causes:
                reason = CAUSE_PARKED
            if reason is None:
                ready.append(item)
                continue
            contacts = tuple(dict.fromkeys((*item.canonical, *item.envelope.contacts)))
            parked.append(Parked(item.envelope, contacts, reason, error, attempts, since))
            keys.update(contacts)
            causes.add(item.envelope.id)
        return parked, ready

    async def _park(self, connection: Connection, parked: list[Parked], before: set[UUID]) -> None:
        """Check again, under a lock, that the causes are still parked: a redrive may be on it."""
        here = {p.event.id for p in parked}
        causes = {p.event.cause_id for p in parked if p.reason == CAUSE_PARKED} - here
        needed = [c for c in causes if c is not None and c in before]
        if needed:
            rows = await connection.fetch(parking.CAUSES_FOR_SHARE, needed)
            if {r["event_id"] for r in rows} != set(needed):
                raise StartAgainError(set())
        await parking.park(connection, self.stream, parked)

    async def _handle(self, items: list[Item], tx: Tx) -> int:
        handled = [i for i in items if i.kind in self.decoders.handlers]
        self.handled = {i.envelope.partition for i in handled}
        for item in handled:
            item.delivery = self.decoders.decode(item)
            if self.span.span is not None:
                item.delivery.trace = self.span.process(item.envelope)
        waves = wave.cut(handled, self.decoders.several.__contains__)
        for cut in waves:
            for kind, members in cut.by_kind.items():
                deliveries = [m.delivery for m in members if m.delivery is not None]
                await self.decoders.handlers[kind](deliveries, tx)
        return len(waves)

    async def _finish(
        self, connection: Connection, tx: Tx, parked: list[Parked], waves: int
    ) -> Outcome:
        outcome = Outcome(len(tx.published), waves=waves)
        for p in parked:
            outcome.parked[p.event.partition] = outcome.parked.get(p.event.partition, 0) + 1
            if p.reason == FAILED and await parking.trips_breaker(
                connection, self.stream, p.event.partition
            ):
                outcome.stopped[p.event.partition] = p.error or FAILED
        foreign = [f for s in self.segments for f in s.foreign]
        await parking.reject(connection, parking.rejected_foreign(foreign))
        moves = self._moves(outcome)
        if tx.published:
            fresh = {
                s.partition: f"{self.stream}:{s.partition}:{s.position.epoch}:{s.number}"
                for s in self.segments
            }
            arrays = outbox.columns(tx.published, self.partitions, fresh)
            await connection.execute(
                FINISH_AND_PUBLISH, self.stream, self.partitions, list(fresh), *arrays, *moves
            )
        else:
            await connection.execute(FINISH, self.stream, *moves)
        return outcome

    def _moves(self, outcome: Outcome) -> list[list[Any]]:
        rows = []
        for s in self.segments:
            parked = outcome.parked.get(s.partition, 0)
            stopped = outcome.stopped.get(s.partition)
            if stopped is None and s.partition not in self.handled:
                stopped = s.position.stopped
                outcome.stopped.update({s.partition: stopped} if stopped else {})
            move = (s.partition, s.position.epoch, s.number, s.offset, stopped)
            log = (
                s.partition,
                s.position.epoch,
                s.position.number + 1,
                s.number,
                len(s.events) - parked,
                s.skipped,
                parked,
                self.attempts.get(s.partition, 0) + 1,
                self.worker,
                self.started,
            )
            rows.append((*move, *log))
        return [list(column) for column in zip(*rows, strict=True)]
