"""Customers' numbers in other systems."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from rapport.messaging.transaction import Tx

Reference = tuple[str, str]

FIND = """
select r.system, r.number, r.contact_id
from unnest($1::text[], $2::text[]) as k (system, number)
join reference r on r.system = k.system and r.number = k.number
"""
ADD = """
insert into reference (system, number, contact_id)
select * from unnest($1::text[], $2::text[], $3::uuid[]) order by 1, 2
on conflict do nothing returning system, number, contact_id
"""
DELETE = """
delete from reference r using unnest($1::text[], $2::text[]) as k (system, number)
where r.system = k.system and r.number = k.number
"""


async def find_contacts(tx: Tx, references: Collection[Reference]) -> dict[Reference, UUID]:
    """Return the contact id of each known reference, as it was first given."""
    rows = await tx.fetch(FIND, *_columns(references))
    return {(row["system"], row["number"]): row["contact_id"] for row in rows}


async def add_references(tx: Tx, contacts: Mapping[Reference, UUID]) -> dict[Reference, UUID]:
    """Add references in their order, before any key is locked; return those that were new.

    Waits for another transaction that adds one of them; what it committed is found afterwards.
    """
    rows = await tx.fetch(ADD, *_columns(contacts), list(contacts.values()))
    return {(row["system"], row["number"]): row["contact_id"] for row in rows}


async def delete_references(tx: Tx, references: Collection[Reference]) -> None:
    """Take back references that this transaction added for events that it refused."""
    await tx.execute(DELETE, *_columns(references))


def _columns(references: Collection[Reference]) -> tuple[list[str], list[str]]:
    return [system for system, _ in references], [number for _, number in references]
