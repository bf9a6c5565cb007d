"""Redrive and discard: a contact's closure of parked events is applied in arrival order, once."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from asyncpg.pgproto import pgproto

from rapport import metrics, telemetry
from rapport.messaging import alias, preview, wave
from rapport.messaging.batch import Decoders, Item
from rapport.messaging.envelope import Envelope
from rapport.messaging.handler import finder_of
from rapport.messaging.parking import decode_headers
from rapport.messaging.transaction import StartAgainError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    import asyncpg

    from rapport.database import Database
    from rapport.messaging.delivery import Delivery
    from rapport.messaging.transaction import Tx

BATCH = 500
PREVIEWED = 10 * BATCH

# Contacts joined to these by a parked event's contact set, or by a parked event that caused
# another. Whole sets at a time: a contact may have many thousands of parked events.
NEIGHBOURS = """
with mine as materialized (
    select event_id, cause_id, contacts from rapport.parked_event where contacts && $1::uuid[]
), joined as (
    select contacts from mine
    union all
    select contacts from rapport.parked_event where cause_id in (select event_id from mine)
    union all
    select contacts from rapport.parked_event where event_id in (select cause_id from mine)
)
select coalesce(array_agg(distinct contact), '{}') from joined, unnest(contacts) contact
"""
LIST = """
select * from rapport.parked_event where contacts && $1::uuid[] order by id limit $2
"""
DELETE = "delete from rapport.parked_event where id = any($1::bigint[])"
UNPARK = """
update rapport.key k set parked = false
where k.id = any($1::uuid[]) and k.parked
    and not exists (select 1 from rapport.parked_event e where e.contacts @> array[k.id])
"""
AUDIT = """
insert into rapport.audit (actor, action, subject, outcome, details)
values ($1, $2, $3, $4, $5::jsonb)
"""


class NothingParkedError(Exception):
    """The contact has no parked events."""


class RedriveFailedError(Exception):
    """An event failed again; nothing of its transaction was kept."""


class _RolledBackError(Exception):
    """Ends a dry run's transaction."""


@dataclass(slots=True)
class Redriven:
    """What a redrive did, or what a dry run says it would do."""

    contacts: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    published: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class _Round:
    """One transaction's share, and the keys that it turned out to need as well."""

    contact: UUID
    keys: set[UUID] = field(default_factory=set)
    result: Redriven = field(default_factory=Redriven)


@dataclass(eq=False)
class Redrive:
    """Applies parked events through the service's own handlers."""

    database: Database
    decoders: Decoders
    tables: Sequence[str]

    async def run(self, contact: UUID, actor: str) -> Redriven:
        """Apply the contact's closure, 500 events a transaction, keeping event ids.

        Each transaction is audited in itself. Raises NothingParkedError and RedriveFailedError.
        """
        done = Redriven()
        more = True
        while more:
            step = _Round(contact)

            async def body(tx: Tx, step: _Round = step) -> bool:
                return await self._apply(tx, step, actor)

            try:
                more = await self._transact(body, step)
            except NothingParkedError:
                if not done.events:
                    raise
                break
            except Exception as error:
                await self._audit_failure(actor, contact, error)
                msg = f"{type(error).__name__}: {error}"[:500]
                raise RedriveFailedError(f"{len(done.events)} events applied; {msg}") from error
            done.contacts = sorted({*done.contacts, *step.result.contacts})
            done.events += step.result.events
            done.published += step.result.published
        metrics.count_redriven("applied", len(done.events))
        return done

    async def dry_run(self, contact: UUID) -> Redriven:
        """Show the closure, the row changes and the events, in a transaction that is rolled back.

        At most 5,000 events. Raises NothingParkedError and whatever an event raises.
        """
        step = _Round(contact)

        async def body(tx: Tx) -> None:
            closure, rows = await self._take(tx, step, PREVIEWED)
            contacts = sorted({*closure, *step.keys})
            before = await preview.read(tx, self.tables, contacts)
            await self._handle(tx, rows, step)
            step.result.changes = await preview.compare(tx, before, contacts)
            raise _RolledBackError

        with contextlib.suppress(_RolledBackError):
            await self._transact(body, step)
        return step.result

    async def discard(self, contact: UUID, actor: str, reason: str) -> Redriven:
        """Delete the parked events of the contact's closure without applying them; audited.

        Raises NothingParkedError.
        """
        step = _Round(contact)

        async def body(tx: Tx) -> None:
            closure, _ = await self._take(tx, step, None)
            await tx.execute(UNPARK, closure)
            details = {"reason": reason, "events": step.result.events, "contacts": closure}
            await tx.execute(AUDIT, actor, "discard", str(contact), "discarded", details)

        await self._transact(body, step)
        metrics.count_redriven("discarded", len(step.result.events))
        return step.result

    async def _transact(self, body: Callable[[Tx], Awaitable[Any]], step: _Round) -> Any:  # noqa: ANN401
        """Run a body, with further keys locked first whenever it turns out to need them."""
        while True:
            try:
                return await self.database.transact(body)
            except StartAgainError as again:
                step.keys |= again.ids

    async def _apply(self, tx: Tx, step: _Round, actor: str) -> bool:
        """Apply the first events of the closure; tell whether some are left."""
        closure, rows = await self._take(tx, step, BATCH)
        await self._handle(tx, rows, step)
        await tx.execute(UNPARK, closure)
        details = {"events": len(rows), "contacts": closure}
        await tx.execute(AUDIT, actor, "redrive", str(step.contact), "applied", details)
        return bool(await tx.fetch(LIST, closure, 1))

    async def _take(
        self, tx: Tx, step: _Round, limit: int | None
    ) -> tuple[list[UUID], list[asyncpg.Record]]:
        """Lock the closure's keys, read it again, and delete its first events; raises when none."""
        step.result = Redriven()
        closure = await _closure_of(tx, step.contact)
        await tx.lock_keys(closure | step.keys)
        if grown := await _closure_of(tx, step.contact) - closure - step.keys:
            raise StartAgainError(grown)
        ordered = sorted(closure)
        rows = await tx.fetch(LIST, ordered, limit)
        if not rows:
            raise NothingParkedError(str(step.contact))
        await tx.execute(DELETE, [row["id"] for row in rows])
        step.result.contacts = [str(c) for c in ordered]
        step.result.events = [_summary(row) for row in rows]
        return ordered, rows

    async def _handle(self, tx: Tx, rows: Sequence[asyncpg.Record], step: _Round) -> None:
        kinds = self.decoders.handlers.keys() | {alias.MERGED}
        items = [Item(_envelope(row), row["type"]) for row in rows if row["type"] in kinds]
        links = [item.envelope.trace for item in items]
        with telemetry.batch_span("parked", "redrive", len(items), links) as span:
            for run in _runs(items):
                await self._handle_run(tx, run, span)
        step.result.published = [
            {"id": str(e.id), "type": e.type, "key": str(e.key)} for e in tx.published
        ]

    async def _handle_run(self, tx: Tx, run: Sequence[Item], span: telemetry.Batch) -> None:
        for item in run:
            item.canonical = tuple(tx.locked.get(c, c) for c in item.envelope.contacts)
            if item.kind == alias.MERGED:
                await alias.follow(item.envelope, tx)
        handled = [item for item in run if item.kind in self.decoders.handlers]
        for item in handled:
            item.delivery = self.decoders.decode(item)
            item.delivery.trace = span.process(item.envelope, root=True)
        await self._find_further(tx, handled)
        for cut in wave.cut(handled, self.decoders.several.__contains__):
            for kind, members in cut.by_kind.items():
                await self.decoders.handlers[kind](_deliveries(members), tx)

    async def _find_further(self, tx: Tx, items: Sequence[Item]) -> None:
        """Start again with the contacts that the handlers' finders name beyond the locked ones."""
        by_kind: dict[str, list[Item]] = {}
        for item in items:
            by_kind.setdefault(item.kind, []).append(item)
        found: set[UUID] = set()
        for kind, members in by_kind.items():
            finder = finder_of(self.decoders.handlers[kind])
            if finder is not None:
                found |= await finder(_deliveries(members), tx)
        if further := found - tx.locked.keys():
            raise StartAgainError(further)

    async def _audit_failure(self, actor: str, contact: UUID, error: Exception) -> None:
        details = {"error": repr(error)[:500]}
        async with self.database.pool.acquire() as connection:
            await connection.execute(AUDIT, actor, "redrive", str(contact), "failed", details)


async def _closure_of(tx: Tx, contact: UUID) -> set[UUID]:
    """Return the contact and every one joined to it, directly or through others."""
    closure: set[UUID] = set()
    fresh = {contact}
    while fresh:
        closure |= fresh
        fresh = set(await tx.fetchval(NEIGHBOURS, list(fresh))) - closure
    return closure


def _runs(items: Sequence[Item]) -> list[list[Item]]:
    """Cut so that a merge, which changes what the names behind it stand for, is alone."""
    runs: list[list[Item]] = [[]]
    for item in items:
        if item.kind == alias.MERGED or (runs[-1] and runs[-1][0].kind == alias.MERGED):
            runs.append([])
        runs[-1].append(item)
    return runs


def _deliveries(items: Sequence[Item]) -> list[Delivery[Any]]:
    return [item.delivery for item in items if item.delivery is not None]


def _envelope(row: asyncpg.Record) -> Envelope:
    headers = decode_headers(row["headers"])
    text = {name: raw.decode() for name, raw in headers if name.startswith("ce_")}
    others = text.get("ce_contacts")
    key = pgproto.UUID(text["ce_subject"])
    return Envelope(
        stream=row["stream"],
        partition=row["partition"],
        offset=row["kafka_offset"],
        timestamp=int(row["parked_at"].timestamp() * 1000),
        epoch=row["epoch"],
        number=row["number"],
        id=row["event_id"],
        type=row["type"],
        key=key,
        contacts=(key, *map(pgproto.UUID, others.split(","))) if others else (key,),
        time=text["ce_time"],
        cause_id=row["cause_id"],
        causal=text.get("ce_causal", ""),
        trace=row["trace"],
        value=row["value"],
        headers=headers,
    )


def _summary(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "event_id": str(row["event_id"]),
        "type": row["type"],
        "stream": row["stream"],
        "partition": row["partition"],
        "number": row["number"],
        "reason": row["reason"],
        "error": row["error"],
    }
