"""Versions of templates; the highest one of each language is in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from notifications.domain.rendering import MessageTemplate

if TYPE_CHECKING:
    from rapport.messaging.transaction import Tx


async def list_templates(tx: Tx, code: str | None = None) -> list[MessageTemplate]:
    """Return the templates in force; all of them unless one is named."""
    rows = await tx.fetch(
        """
        select distinct on (code, language) code, language, version, subject, text, html
        from template where $1::text is null or code = $1
        order by code, language, version desc
        """,
        code,
    )
    return [MessageTemplate(*row) for row in rows]
