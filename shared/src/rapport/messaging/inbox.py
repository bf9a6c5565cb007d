"""External events: what other systems send, whether it may enter, what was accepted."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import asyncpg
import orjson
from pydantic import ValidationError

from rapport.contracts.inbound import EXTERNAL_TYPES, ExternalEvent

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from rapport.messaging.transaction import Tx

MAX_DATA_BYTES = 256 * 1024
MAX_ATTRIBUTE_LENGTH = 256

# Reasons that callers tell apart; every other reason is a sentence that begins with the field.
DATA_TOO_LARGE = "data_too_large"
ID_REUSED = "id_reused"

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class External:
    """A well-formed CloudEvent of another system; `body` is its decoded `data`."""

    source: str
    id: str
    type: str
    time: datetime | None
    body: dict[str, Any]
    trace: str | None = None

    @property
    def key(self) -> Key:
        """What makes the event one and the same for ever."""
        return self.source, self.id


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an event may not enter: `reason` names the field, `field` is its path alone.

    `source` and `id` are the event's, as far as they could be read.
    """

    reason: str
    field: str | None
    source: str | None = None
    id: str | None = None

    @classmethod
    def of(cls, field: str, complaint: str, event: External | None = None) -> Rejection:
        """Return a rejection whose reason is `field: complaint`."""
        key = event.key if event else (None, None)
        return cls(f"{field}: {complaint}", field, *key)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one external event.

    `event_id` is our own event that it became; None when it was rejected or changed nothing.
    """

    status: Literal["accepted", "duplicate", "rejected"]
    event_id: UUID | None = None
    reason: str | None = None
    field: str | None = None

    @classmethod
    def rejected(cls, rejection: Rejection) -> Outcome:
        """Return the outcome of a rejection."""
        return cls("rejected", None, rejection.reason, rejection.field)


def validate(event: External) -> ExternalEvent | Rejection:
    """Check type and data against the contract; the first complaint counts.

    Complaints never repeat a value: reasons go to logs and tables.
    """
    model = EXTERNAL_TYPES.get(event.type)
    if model is None:
        return Rejection.of("type", "unknown type", event)
    nul = _path_of_nul(event.body) if b"\\u0000" in _canonical(event) else None
    if nul is not None:
        return Rejection.of(nul, "holds a NUL character", event)
    try:
        return model.model_validate(event.body)
    except ValidationError as error:
        return _first_complaint(error, event)


def _first_complaint(error: ValidationError, event: External) -> Rejection:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["loc"]:
        return Rejection.of(path_of(first["loc"]), message, event)
    field, _, complaint = message.partition(": ")
    return Rejection.of(field, complaint, event)


def path_of(location: Sequence[int | str]) -> str:
    """Name a field of the data, as in `lines[0].net_minor`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _path_of_nul(value: object, path: tuple[int | str, ...] = ()) -> str | None:
    """Return the path of the first text that Postgres cannot hold, names of fields included."""
    if isinstance(value, str):
        return path_of(path) if "\0" in value else None
    items: Any = value.items() if isinstance(value, dict) else ()
    for name, item in enumerate(value) if isinstance(value, list) else items:
        if "\0" in str(name):
            return path_of(path) or "data"
        found = _path_of_nul(item, (*path, name))
        if found is not None:
            return found
    return None


def _canonical(event: External) -> bytes:
    return orjson.dumps([event.type, event.body], option=orjson.OPT_SORT_KEYS)


def body_hash(event: External) -> bytes:
    """BLAKE2b of the canonical JSON of type and data: spaces and order of fields do not count."""
    return blake2b(_canonical(event), digest_size=16).digest()


class Entry(NamedTuple):
    """An accepted event: the hash of its body, and our own event's id."""

    body_hash: bytes
    event_id: UUID


FIND = """
select i.source, i.id, i.body_hash, i.event_id
from unnest($1::text[], $2::text[]) as k (source, id)
join rapport.inbox i on i.source = k.source and i.id = k.id
"""
ADD = """
insert into rapport.inbox (source, id, body_hash, event_id)
select * from unnest($1::text[], $2::text[], $3::bytea[], $4::uuid[]) order by 1, 2
on conflict do nothing
"""


async def find_entries(tx: Tx, keys: Collection[Key]) -> dict[Key, Entry]:
    """Return what was accepted before under these (source, id)."""
    rows = await tx.fetch(FIND, [source for source, _ in keys], [id_ for _, id_ in keys])
    return {(row["source"], row["id"]): Entry(row["body_hash"], row["event_id"]) for row in rows}


async def add_entries(tx: Tx, entries: Sequence[tuple[Key, Entry]]) -> None:
    """Record accepted events, for ever.

    Raises SerializationError when another transaction has just accepted one of them, for example
    with another customer's number: run again, it is found then.
    """
    tag = await tx.execute(
        ADD,
        [source for (source, _), _ in entries],
        [id_ for (_, id_), _ in entries],
        [entry.body_hash for _, entry in entries],
        [entry.event_id for _, entry in entries],
    )
    if int(tag.rsplit(" ", 1)[1]) < len(entries):
        raise asyncpg.SerializationError("an external event was accepted at the same time")
