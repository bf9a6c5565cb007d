"""One business transaction: locked keys, state, collected events; committed by its owner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from rapport.messaging.ids import derived_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

    import asyncpg

    from rapport.contracts.base import Event
    from rapport.messaging.delivery import Cause
    from rapport.pgtypes import Connection

MAX_BODY_BYTES = 512 * 1024

_encoder = msgspec.json.Encoder()

LOCK_KEYS = """
select id, survivor, parked from rapport.key where id = any($1::uuid[]) order by id
for no key update
"""
ADD_KEYS = """
insert into rapport.key (id) select unnest($1::uuid[]) order by 1 on conflict do nothing
"""


class KeysMissingError(Exception):
    """Rows of `rapport.key` have to be committed first; the owner does it and starts again."""

    def __init__(self, ids: Sequence[UUID]) -> None:
        super().__init__(f"{len(ids)} key rows are missing")
        self.ids = ids


class StartAgainError(Exception):
    """The set of keys was not complete: `ids` are to be locked as well."""

    def __init__(self, ids: set[UUID]) -> None:
        super().__init__("further keys have to be locked")
        self.ids = ids


class KeyNotLockedError(Exception):
    """`publish` was called for a key that this transaction has not locked."""


class EventTooLargeError(Exception):
    """An event's body is above 512 KiB."""


@dataclass(slots=True, eq=False)
class Published:
    """An event collected by a transaction, not yet written."""

    id: UUID
    key: UUID
    contacts: tuple[UUID, ...]
    type: str
    occurred_at: datetime
    body: str
    cause: Cause


class Tx:
    """The caller's transaction. Application code never commits.

    `now` is the injected clock's time, fixed for the whole transaction.
    """

    def __init__(self, connection: Connection, now: datetime) -> None:
        self.connection = connection
        self.now = now
        self.locked: dict[UUID, UUID] = {}
        self.published: list[Published] = []
        self._ordinals: dict[tuple[UUID, str], int] = {}

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Run one statement, return its rows."""
        return await self.connection.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        """Run one statement, return its first row."""
        return await self.connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: object) -> Any:  # noqa: ANN401  a column's value
        """Run one statement, return the first column of its first row."""
        return await self.connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: object) -> str:
        """Run one statement, return its command tag."""
        return await self.connection.execute(sql, *args)

    async def lock_keys(self, ids: Iterable[UUID]) -> dict[UUID, UUID]:
        """Lock the keys in id order, before any other row; return each one's canonical id.

        Raises KeysMissingError for unknown ones, which `Database.transaction` answers by adding
        them in a transaction of their own and running the body again.
        """
        wanted = sorted(set(ids) - self.locked.keys())
        if not wanted:
            return self.locked
        rows = await self.connection.fetch(LOCK_KEYS, wanted)
        if len(rows) < len(wanted):
            raise KeysMissingError(wanted)
        survivors = {row["survivor"] for row in rows if row["survivor"]} - self.locked.keys()
        self.locked.update({row["id"]: row["survivor"] or row["id"] for row in rows})
        if survivors - set(wanted):
            await self.lock_keys(survivors)
        return self.locked

    def publish(
        self,
        event: Event,
        *,
        cause: Cause,
        contacts: tuple[UUID, ...] = (),
        key: UUID | None = None,
    ) -> UUID:
        """Collect an event, written to the outbox when the transaction ends; return its id.

        The key is the event's contact unless given; `contacts` is the whole set where it concerns
        several. Raises KeyNotLockedError and EventTooLargeError.
        """
        key = key or event.contact_id
        for contact in (key, *contacts):
            if contact not in self.locked:
                msg = f"{event.type}: key {contact} is not locked by this transaction"
                raise KeyNotLockedError(msg)
        body = _encoder.encode(event)
        if len(body) > MAX_BODY_BYTES:
            msg = f"{event.type}: body of {len(body)} bytes, at most {MAX_BODY_BYTES}"
            raise EventTooLargeError(msg)
        slot = (cause.cause_id, event.type)
        ordinal = self._ordinals.get(slot, 0)
        self._ordinals[slot] = ordinal + 1
        event_id = derived_id(cause.cause_id, event.type, cause.cause_key, ordinal)
        self.published.append(
            Published(event_id, key, contacts, event.type, self.now, body.decode(), cause)
        )
        return event_id

    async def schedule(self, timers: Sequence[Timer]) -> None:
        """Add timers; one with a known (kind, key) is left as it stands."""
        await self.connection.execute(ADD_TIMERS, *_columns(timers))

    async def cancel(self, kind: str, keys: Sequence[str]) -> None:
        """Remove timers that have not fired."""
        await self.connection.execute(DELETE_TIMERS, kind, keys)


@dataclass(frozen=True, slots=True)
class Timer:
    """A wish to be called at `due_at` on behalf of a contact; (kind, key) is unique.

    `trace` is that of what the wish comes from: the trace that begins when it fires links to it.
    """

    kind: str
    key: str
    contact_id: UUID
    due_at: datetime
    payload: dict[str, Any] = field(default_factory=dict)
    trace: str | None = None


ADD_TIMERS = """
insert into rapport.timer (kind, key, contact_id, due_at, payload, trace)
select * from unnest($1::text[], $2::text[], $3::uuid[], $4::timestamptz[], $5::jsonb[], $6::text[])
order by 1, 2
on conflict (kind, key) do nothing
"""
DELETE_TIMERS = "delete from rapport.timer where kind = $1 and key = any($2::text[])"


def _columns(timers: Sequence[Timer]) -> tuple[list[Any], ...]:
    return (
        [t.kind for t in timers],
        [t.key for t in timers],
        [t.contact_id for t in timers],
        [t.due_at for t in timers],
        [_encoder.encode(t.payload).decode() for t in timers],
        [t.trace for t in timers],
    )
