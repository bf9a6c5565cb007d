"""Redrive and discard: a contact's closure of parked events is applied in arrival order, once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.pgproto import pgproto

from rapport import metrics, telemetry
from rapport.messaging import outbox, wave
from rapport.messaging.batch import Decoders, Item
from rapport.messaging.envelope import Envelope
from rapport.messaging.parking import decode_headers
from rapport.messaging.transaction import LOCK_KEYS, Tx

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from rapport.database import Database

BATCH = 500

# Contacts joined by a parked event's contact set, or by a parked event that caused another.
CLOSURE = """
with recursive closure(contact) as (
    select $1::uuid
    union
    select other.contact from closure c
        join rapport.parked_event e on e.contacts @> array[c.contact]
        cross join lateral (
            select unnest(e.contacts) as contact
            union
            select unnest(d.contacts) from rapport.parked_event d
            where d.cause_id = e.event_id or d.event_id = e.cause_id
        ) other
)
select array_agg(distinct contact) from closure
"""
LIST = """
select * from rapport.parked_event where contacts && $1::uuid[] order by id limit $2
"""
LIST_IDS = "select id from rapport.parked_event where contacts && $1::uuid[] order by id"
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


@dataclass(eq=False)
class Redrive:
    """Applies parked events through the service's own handlers."""

    database: Database
    decoders: Decoders
    tables: Sequence[str]

    async def run(self, contact: UUID, actor: str) -> Redriven:
        """Apply the contact's closure, 500 events a transaction, keeping event ids; audited.

        Raises NothingParkedError and RedriveFailedError.
        """
        done = Redriven()
        try:
            while await self._batch(contact, done, dry=False):
                pass
        except Exception as error:
            await self._audit(actor, "redrive", contact, "failed", {"error": repr(error)[:500]})
            if isinstance(error, NothingParkedError):
                raise
            msg = f"{type(error).__name__}: {error}"
            raise RedriveFailedError(msg[:500]) from error
        metrics.count_redriven("applied", len(done.events))
        details = {"events": len(done.events), "contacts": done.contacts}
        await self._audit(actor, "redrive", contact, "applied", details)
        self.database.on_commit()
        return done

    async def dry_run(self, contact: UUID) -> Redriven:
        """Show the closure, the row changes and the events, in a transaction that is rolled back.

        Raises NothingParkedError and whatever an event raises.
        """
        done = Redriven()
        try:
            await self._batch(contact, done, dry=True)
        except _RolledBackError:
            return done
        return done

    async def discard(self, contact: UUID, actor: str, reason: str) -> Redriven:
        """Delete the parked events of the contact's closure without applying them; audited."""
        done = Redriven()

        async def body(tx: Tx) -> None:
            done.events.clear()
            closure = await self._lock(tx, contact)
            rows = await tx.fetch(LIST, closure, 1_000_000)
            if not rows:
                raise NothingParkedError(str(contact))
            await tx.execute(DELETE, [row["id"] for row in rows])
            await tx.execute(UNPARK, closure)
            done.contacts = [str(c) for c in closure]
            done.events.extend(_summary(row) for row in rows)

        await self.database.transact(body)
        details = {"reason": reason, "events": done.events, "contacts": done.contacts}
        await self._audit(actor, "discard", contact, "discarded", details)
        return done

    async def _lock(self, tx: Tx, contact: UUID) -> list[UUID]:
        """Lock the closure's keys and read it again until it stands still."""
        closure: list[UUID] = sorted(await tx.fetchval(CLOSURE, contact))
        while True:
            rows = await tx.fetch(LOCK_KEYS, closure)
            tx.locked.update({row["id"]: row["survivor"] or row["id"] for row in rows})
            again: list[UUID] = sorted(await tx.fetchval(CLOSURE, contact))
            if set(again) <= set(closure):
                return closure
            closure = sorted(set(closure) | set(again))

    async def _batch(self, contact: UUID, done: Redriven, *, dry: bool) -> bool:
        async with self.database.pool.acquire() as connection, connection.transaction():
            tx = Tx(connection, await self.database.clock.now(connection))
            closure = await self._lock(tx, contact)
            rows = await tx.fetch(LIST, closure, BATCH if not dry else 10 * BATCH)
            if not rows:
                if done.events:
                    return False
                raise NothingParkedError(str(contact))
            before = await self._snapshot(tx, closure) if dry else {}
            await tx.execute(DELETE, [row["id"] for row in rows])
            await self._apply(tx, rows)
            await tx.execute(UNPARK, closure)
            done.contacts = [str(c) for c in closure]
            done.events.extend(_summary(row) for row in rows)
            done.published.extend(
                {"id": str(e.id), "type": e.type, "key": str(e.key)} for e in tx.published
            )
            if dry:
                done.changes = _differences(before, await self._snapshot(tx, closure))
                raise _RolledBackError
            await outbox.write(tx, self.database.partitions)
            remaining = await tx.fetchval(f"select exists ({LIST_IDS})", closure)
        self.database.on_commit()
        return bool(remaining)

    async def _apply(self, tx: Tx, rows: Sequence[asyncpg.Record]) -> None:
        items = []
        for row in rows:
            if row["type"] in self.decoders.handlers:
                envelope = _envelope(row)
                canonical = tuple(tx.locked.get(c, c) for c in envelope.contacts)
                items.append(Item(envelope, envelope.type, canonical))
        links = [item.envelope.trace for item in items]
        with telemetry.batch_span("parked", "redrive", len(items), links) as span:
            for item in items:
                item.delivery = self.decoders.decode(item)
                item.delivery.trace = span.process(item.envelope, root=True)
            await self._handle(items, tx)

    async def _handle(self, items: Sequence[Item], tx: Tx) -> None:
        for cut in wave.cut(items, self.decoders.several.__contains__):
            for kind, members in cut.by_kind.items():
                deliveries = [m.delivery for m in members if m.delivery is not None]
                await self.decoders.handlers[kind](deliveries, tx)

    async def _snapshot(self, tx: Tx, contacts: Sequence[UUID]) -> dict[str, dict[str, Any]]:
        """Read the declared tables' rows of these contacts, by their text."""
        found: dict[str, dict[str, Any]] = {}
        for table in self.tables:
            sql = f"select ctid::text, to_jsonb(t) from {table} t where contact_id = any($1)"  # noqa: S608
            found[table] = {row[0]: row[1] for row in await tx.fetch(sql, list(contacts))}
        return found

    async def _audit(
        self, actor: str, action: str, contact: UUID, outcome: str, details: dict[str, Any]
    ) -> None:
        async with self.database.pool.acquire() as connection:
            await connection.execute(AUDIT, actor, action, str(contact), outcome, details)


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


def _differences(
    before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Compare two snapshots; a changed row shows as one gone and one come."""
    changes = []
    for table, rows in after.items():
        old = list(before[table].values())
        new = list(rows.values())
        gone = [row for row in old if row not in new]
        come = [row for row in new if row not in old]
        if gone or come:
            changes.append({"table": table, "before": gone, "after": come})
    return changes
