"""What a transaction changes in declared tables, row by row, before it is rolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from rapport.messaging.transaction import Tx

Rows = dict[str, set[str]]
"""Rows as JSON text, per table."""

WITH_CONTACT = """
select t from unnest($1::text[]) t where exists (
    select 1 from pg_attribute a
    where a.attrelid = to_regclass(t) and a.attname = 'contact_id' and not a.attisdropped)
"""
OF_CONTACTS = "select to_jsonb(t)::text from {table} t where contact_id = any($1::uuid[])"
WRITTEN = "select to_jsonb(t)::text from {table} t where xmin = pg_current_xact_id()::xid"


async def read(tx: Tx, tables: Sequence[str], contacts: Sequence[UUID]) -> Rows:
    """Return the contacts' rows; none for a table without a column `contact_id`."""
    found: Rows = {table: set() for table in tables}
    for (table,) in await tx.fetch(WITH_CONTACT, list(tables)):
        rows = await tx.fetch(OF_CONTACTS.format(table=table), list(contacts))
        found[table] = {row[0] for row in rows}
    return found


async def compare(tx: Tx, before: Rows, contacts: Sequence[UUID]) -> list[dict[str, Any]]:
    """Return `{table, before, after}` for each table with changes.

    `after` are rows that this transaction wrote, whoever they belong to; `before` the contacts'
    rows that are gone or looked different.
    """
    now = await read(tx, list(before), contacts)
    changes = []
    for table, old in before.items():
        written = {row[0] for row in await tx.fetch(WRITTEN.format(table=table))}
        come, gone = written - old, old - now[table]
        if come or gone:
            changes.append({"table": table, "before": _decoded(gone), "after": _decoded(come)})
    return changes


def _decoded(rows: set[str]) -> list[Any]:
    return [msgspec.json.decode(row) for row in sorted(rows)]
