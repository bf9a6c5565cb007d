"""Follows an event through all services: where it was written, who applied it, what it caused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from rapport.contracts.base import owner_of, stream_of
from rapport.opsclient import OpsClient

Row = dict[str, Any]
MAX_HOPS = 200


@dataclass
class Hop:
    """One event of a journey.

    `written` is the owner's account of it, `accepted` the external event that it came by, `applied`
    each consumer's transactions over it, `parked` where it waits; `caused` what came of it.
    """

    id: str
    service: str | None = None
    written: Row | None = None
    accepted: Row | None = None
    applied: dict[str, list[Row]] = field(default_factory=dict)
    parked: dict[str, list[Row]] = field(default_factory=dict)
    caused: list[Hop] = field(default_factory=list)

    @property
    def type(self) -> str:
        """The event's type, or what else the id names."""
        return str(self.written["type"]) if self.written else "external event, command or timer"

    @property
    def written_at(self) -> datetime | None:
        """When the owner wrote it."""
        return moment(self.written.get("written_at")) if self.written else None

    def walk(self) -> Iterator[Hop]:
        """Yield this hop and everything behind it, depth first."""
        yield self
        for hop in self.caused:
            yield from hop.walk()

    def known(self) -> bool:
        """Tell whether any service has heard of it."""
        return bool(self.written or self.accepted or self.parked or self.caused)


def moment(value: object) -> datetime | None:
    """Read a time as the ops ports write it."""
    if isinstance(value, str):
        return msgspec.convert(value, datetime)
    return value if isinstance(value, datetime) else None


async def follow(client: OpsClient, event_id: str, most: int = MAX_HOPS) -> Hop:
    """Return the journey that begins with an event, command or timer; at most `most` hops."""
    seen = {event_id}
    first = Hop(event_id)
    waiting = [first]
    while waiting:
        reached = await asyncio.gather(*(_look(client, hop) for hop in waiting))
        ahead = []
        for hop, caused in zip(waiting, reached, strict=True):
            new = [child for child in caused if child not in seen][: most - len(seen)]
            seen.update(new)
            hop.caused = [Hop(child) for child in new]
            ahead += hop.caused
        waiting = ahead
    return first


async def _look(client: OpsClient, hop: Hop) -> list[str]:
    answers = await client.get_all(f"/ops/events/{hop.id}")
    caused: list[str] = []
    for service, answer in answers.items():
        if answer.get("published"):
            hop.service, hop.written = service, answer["published"]
        if answer.get("inbox"):
            hop.accepted = answer["inbox"]
        if answer.get("parked"):
            hop.parked[service] = answer["parked"]
        caused += [_id_of(item) for item in answer.get("caused") or ()]
    await _look_at_consumers(client, hop)
    return caused


def _id_of(item: object) -> str:
    return str(item["event_id"] if isinstance(item, dict) else item)


async def _look_at_consumers(client: OpsClient, hop: Hop) -> None:
    """Ask where the event has a place: consumers remember ranges of numbers, not ids."""
    place = hop.written or {}
    if place.get("number") is None:
        return
    consumers = [service for service in client.services if service != hop.service]
    params = {
        "stream": stream_of(owner_of(hop.type)),
        "partition": str(place["partition"]),
        "number": str(place["number"]),
    }
    found = await asyncio.gather(*(client.get(s, "/ops/applied", **params) for s in consumers))
    for service, response in zip(consumers, found, strict=True):
        hop.applied[service] = msgspec.json.decode(response.content)


def as_json(hop: Hop) -> Row:
    """Return a journey as plain values."""
    return {
        "id": hop.id,
        "type": hop.type,
        "service": hop.service,
        "written": hop.written,
        "accepted": hop.accepted,
        "applied": hop.applied,
        "parked": hop.parked,
        "caused": [as_json(child) for child in hop.caused],
    }
