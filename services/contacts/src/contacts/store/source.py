"""Registered sources of external events, and the system whose customer numbers they use."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from rapport.messaging.transaction import Tx


@dataclass(frozen=True, slots=True)
class Source:
    """A source and its reference system; several tills can share one system."""

    source: str
    reference_system: str
    registered_at: datetime


FIND_SYSTEMS = "select source, reference_system from source where source = any($1::text[])"
FIND = "select source, reference_system, registered_at from source where source = $1"
LIST = """
select source, reference_system, registered_at from source where source > $1
order by source limit $2
"""
ADD = """
insert into source (source, reference_system, registered_at) values ($1, $2, $3)
on conflict do nothing
"""
FIND_UNKNOWN_SYSTEMS = """
select system from unnest($1::text[]) as wanted (system)
where not exists (select from source where reference_system = system)
"""


async def find_systems(tx: Tx, sources: Collection[str]) -> dict[str, str]:
    """Return the reference system of each registered source."""
    rows = await tx.fetch(FIND_SYSTEMS, list(sources))
    return {row["source"]: row["reference_system"] for row in rows}


async def find_source(tx: Tx, name: str) -> Source | None:
    """Return one source."""
    row = await tx.fetchrow(FIND, name)
    return Source(*row) if row else None


async def list_sources(tx: Tx, after: str, limit: int) -> list[Source]:
    """Return sources by name."""
    return [Source(*row) for row in await tx.fetch(LIST, after, limit)]


async def add_source(tx: Tx, name: str, system: str) -> bool:
    """Register a source; False when it was registered before."""
    return await tx.execute(ADD, name, system, tx.now) == "INSERT 0 1"


async def find_unknown_systems(tx: Tx, systems: Collection[str]) -> set[str]:
    """Return those that no registered source uses."""
    rows = await tx.fetch(FIND_UNKNOWN_SYSTEMS, list(systems))
    return {row["system"] for row in rows}
