"""Versions of categories; the highest one is in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from notifications.domain.category import Category, Rules, parse_category

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rapport.messaging.transaction import Tx


async def list_categories(tx: Tx, codes: Sequence[str] | None = None) -> dict[str, Category]:
    """Return the categories in force, by code; all of them unless some are named."""
    rows = await tx.fetch(
        """
        select distinct on (code) code, version, rules::text from category
        where $1::text[] is null or code = any($1)
        order by code, version desc
        """,
        codes,
    )
    return {row["code"]: parse_category(*row) for row in rows}


async def add_category_version(tx: Tx, code: str, version: int, rules: Rules) -> bool:
    """Add a version; False when it is there already, or the one before it is not in force."""
    added = await tx.fetchval(
        """
        insert into category (code, version, rules)
        select $1, $2, $3::text::jsonb
        where (select max(version) from category where code = $1) = $2 - 1
        on conflict do nothing returning version
        """,
        code,
        version,
        rules.model_dump_json(),
    )
    return added is not None
