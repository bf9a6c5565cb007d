"""Gives a tick's rows their numbers and turns them into records."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rapport.messaging.envelope import SEQUENCE_DIGITS
from rapport.messaging.ids import key_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rapport.messaging.envelope import Headers
    from rapport.messaging.tick import Tick

SPEC_VERSION = ("ce_specversion", b"1.0")
CONTENT_TYPE = ("content-type", b"application/json")


class Numbered(NamedTuple):
    """A row with its number, ready to be sent."""

    partition: int
    number: int
    key: bytes
    value: bytes
    headers: Headers


class Numbering:
    """Walks through a tick's rows in identity order; `last[p]` is the number reached in p."""

    def __init__(self, stream: str, tick: Tick) -> None:
        self.stream = stream
        self.tick = tick
        self.last = list(tick.before)
        self._source = ("ce_source", f"/rapport/{stream.split('.', maxsplit=1)[0]}".encode())
        self._epoch = ("ce_epoch", str(tick.epoch).encode())

    def take(self, row: Mapping[str, object]) -> tuple[int, int]:
        """Return (partition, number) of the next row, whoever needs the record or not."""
        partition: int = row["hash"] % self.tick.partitions  # type: ignore[operator]  # bigint
        self.last[partition] += 1
        return partition, self.last[partition]

    def record(self, row: Mapping[str, object]) -> Numbered:
        """Return the next row as a record, with the own-stream causal entries filled in."""
        partition, number = self.take(row)
        key = str(row["key"]).encode()
        event_type = str(row["type"])
        headers = [
            SPEC_VERSION,
            ("ce_id", str(row["event_id"]).encode()),
            ("ce_type", event_type.encode()),
            self._source,
            ("ce_time", row["occurred_at"].isoformat().encode()),  # type: ignore[attr-defined]
            ("ce_subject", key),
            ("ce_dataschema", f"urn:rapport:{event_type}".encode()),
            ("ce_sequence", str(number).zfill(SEQUENCE_DIGITS).encode()),
            self._epoch,
            CONTENT_TYPE,
        ]
        if row["cause_id"] is not None:
            headers.append(("ce_causationid", str(row["cause_id"]).encode()))
        if row["contacts"]:
            others = ",".join(map(str, row["contacts"]))  # type: ignore[call-overload]
            headers.append(("ce_contacts", others.encode()))
        if causal := self._causal(row, partition):
            headers.append(("ce_causal", causal.encode()))
        if row["trace"] is not None:
            headers.append(("traceparent", str(row["trace"]).encode()))
        return Numbered(partition, number, key, str(row["body"]).encode(), headers)

    def _causal(self, row: Mapping[str, object], partition: int) -> str:
        causal = str(row["causal"])
        count = self.tick.partitions
        places = {key_hash(contact) % count for contact in row["contacts"] or ()}  # type: ignore[attr-defined]
        if row["cause_hash"] is not None:
            places.add(row["cause_hash"] % count)  # type: ignore[operator]  # bigint
        places.discard(partition)
        if not places:
            return causal
        own = [
            f"{self.stream}:{place}:{self.tick.epoch}:{self.last[place]}"
            for place in sorted(places)
            if self.last[place]
        ]
        return ",".join([causal, *own] if causal else own)
