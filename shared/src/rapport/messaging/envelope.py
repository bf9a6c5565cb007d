"""A numbered event on the wire: binary-mode CloudEvents 1.0 in Kafka headers.

The body is the event's data alone. Headers: `ce_specversion ce_id ce_type ce_source ce_time
ce_subject ce_dataschema ce_sequence ce_epoch ce_causationid ce_contacts ce_causal traceparent`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from asyncpg.pgproto import pgproto

from rapport.contracts.base import owner_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from aiokafka import ConsumerRecord

Headers = list[tuple[str, bytes]]
Entry = tuple[str, int, int, int]
"""Causal entry: stream, partition, epoch, number."""

SEQUENCE_DIGITS = 20
OPENING_TYPE = "rapport.stream.epoch-opened.v1"


class ForeignRecordError(Exception):
    """A record that is not ours: what is missing or wrong, and in which header."""

    def __init__(self, reason: str, field: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.reason = reason
        self.field = field


@dataclass(slots=True, eq=False)
class Envelope:
    """One record of an internal stream, its body still undecoded."""

    stream: str
    partition: int
    offset: int
    timestamp: int
    epoch: int
    number: int
    id: UUID
    type: str
    key: UUID
    contacts: tuple[UUID, ...]
    time: str
    cause_id: UUID | None
    causal: str
    trace: str | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    @property
    def entry(self) -> str:
        """The causal entry that names this event."""
        return f"{self.stream}:{self.partition}:{self.epoch}:{self.number}"

    @property
    def occurred_at(self) -> datetime:
        """`ce_time`, with its offset."""
        return datetime.fromisoformat(self.time)

    @property
    def entries(self) -> list[Entry]:
        """Causal entries: what has to be applied here before this event."""
        return parse_entries(self.causal)


def parse_entries(text: str) -> list[Entry]:
    """Parse `stream:partition:epoch:number` entries; raises ValueError."""
    entries = []
    for part in text.split(",") if text else ():
        stream, partition, epoch, number = part.split(":")
        entries.append((stream, int(partition), int(epoch), int(number)))
    return entries


def parse(record: ConsumerRecord) -> Envelope:
    """Read a record's headers; raises ForeignRecordError naming the header that is wrong."""
    headers = {}
    for name, raw in record.headers:
        try:
            headers[name] = raw.decode() if raw is not None else ""
        except UnicodeDecodeError:
            raise ForeignRecordError("the header is not UTF-8", name) from None
    envelope = _read(record, headers)
    if headers.get("ce_source") != f"/rapport/{record.topic.split('.')[0]}":
        raise ForeignRecordError("not this stream's owner", "ce_source")
    return envelope


def _read(record: ConsumerRecord, headers: dict[str, str]) -> Envelope:
    field = ""
    try:
        field = "ce_sequence"
        number = int(headers[field])
        field = "ce_epoch"
        epoch = int(headers[field])
        field = "ce_id"
        event_id = pgproto.UUID(headers[field])
        field = "ce_subject"
        key = pgproto.UUID(headers[field])
        field = "ce_contacts"
        others = headers.get(field)
        contacts = (key, *map(pgproto.UUID, others.split(","))) if others else (key,)
        field = "ce_causationid"
        cause = headers.get(field)
        cause_id = pgproto.UUID(cause) if cause else None
        field = "ce_causal"
        causal = headers.get(field, "")
        parse_entries(causal)
        field = "ce_time"
        time = headers[field]
        if datetime.fromisoformat(time).tzinfo is None:
            raise ForeignRecordError("the time has no offset", field)
        field = "ce_type"
        event_type = headers[field]
        owner_of(event_type)
    except KeyError:
        raise ForeignRecordError("the header is missing", field) from None
    except (ValueError, IndexError):
        raise ForeignRecordError("the header cannot be read", field) from None
    return Envelope(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        epoch,
        number,
        event_id,
        event_type,
        key,
        contacts,
        time,
        cause_id,
        causal,
        headers.get("traceparent"),
        record.value,
        record.headers,
    )
