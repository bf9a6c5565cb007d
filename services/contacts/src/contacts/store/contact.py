"""Contact records."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from contacts.domain.contact import Contact
from rapport.messaging.transaction import Tx

SELECT = """
select c.id, c.registered_at, c.provisional, c.given_name, c.family_name, c.email, c.phone,
    c.birth_date, c.language, c.zone, c.version,
    coalesce((select jsonb_agg(jsonb_build_array(r.system, r.number) order by r.system, r.number)
        from reference r where r.contact_id = c.id), '[]') as refs
from contact c
"""
FIND_ALL = f"{SELECT} where c.id = any($1::uuid[])"
FIND = f"""{SELECT}
where c.id = coalesce((select survivor from rapport.key where id = $1), $1)
"""  # noqa: S608  constants only
LIST = f"""{SELECT}
where c.id > $1
    and ($3::text is null or lower(c.email) = lower($3))
    and ($4::text is null or c.id in (
        select r.contact_id from reference r where r.system = $4 and r.number = $5))
order by c.id limit $2
"""  # noqa: S608  constants only
SAVE = """
insert into contact (id, registered_at, provisional, given_name, family_name, email, phone,
    birth_date, language, zone, version, updated_at)
select *, $12 from unnest($1::uuid[], $2::timestamptz[], $3::boolean[], $4::text[], $5::text[],
    $6::text[], $7::text[], $8::date[], $9::text[], $10::text[], $11::integer[])
order by 1
on conflict (id) do update set provisional = excluded.provisional,
    given_name = excluded.given_name, family_name = excluded.family_name, email = excluded.email,
    phone = excluded.phone, birth_date = excluded.birth_date, language = excluded.language,
    zone = excluded.zone, version = excluded.version, updated_at = excluded.updated_at
"""
FIND_ZONES = "select id, zone from contact where id = any($1::uuid[]) and zone is not null"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which contacts to list: all unless one of these is given."""

    email: str | None = None
    system: str | None = None
    number: str | None = None


async def find_contacts(tx: Tx, ids: Collection[UUID]) -> dict[UUID, Contact]:
    """Return the records with these canonical ids."""
    rows = await tx.fetch(FIND_ALL, list(ids))
    return {row["id"]: _contact(row) for row in rows}


async def find_contact(tx: Tx, contact_id: UUID) -> Contact | None:
    """Return one record, the survivor's when the id is another name of it."""
    row = await tx.fetchrow(FIND, contact_id)
    return _contact(row) if row else None


async def list_contacts(tx: Tx, after: UUID, limit: int, wanted: Filter) -> list[Contact]:
    """Return records in the order of their ids."""
    rows = await tx.fetch(LIST, after, limit, wanted.email, wanted.system, wanted.number)
    return [_contact(row) for row in rows]


async def save_contacts(tx: Tx, contacts: Sequence[Contact]) -> None:
    """Add or replace records whose keys are locked."""
    rows = [
        (
            c.id,
            c.registered_at,
            c.provisional,
            c.given_name,
            c.family_name,
            c.email,
            c.phone,
            c.birth_date,
            c.language,
            c.zone,
            c.version,
        )
        for c in contacts
    ]
    await tx.execute(SAVE, *zip(*rows, strict=True), tx.now)


async def find_zones(tx: Tx, ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the zones of those contacts that have one."""
    rows = await tx.fetch(FIND_ZONES, list(ids))
    return {row["id"]: row["zone"] for row in rows}


def _contact(row: asyncpg.Record) -> Contact:
    fields = dict(row)
    references = tuple((system, number) for system, number in fields.pop("refs"))
    return Contact(**fields, references=references)
