"""Calls handlers of contacts as the core does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from contacts.handlers.inbound import accept
from rapport.messaging.inbox import External, Outcome
from rapport.messaging.transaction import ADD_KEYS, KeysMissingError, Published, Tx
from rapport.pgtypes import Connection

T = TypeVar("T")

NOW = datetime(1998, 1, 1, 11, tzinfo=UTC)


@dataclass
class Door:
    """Calls handlers as the core does: adds missing keys, then runs the body again."""

    connection: Connection
    now: datetime = NOW
    published: list[Published] = field(default_factory=list)

    async def run(self, body: Callable[[Tx], Awaitable[T]]) -> T:
        """Run a body as a transaction would."""
        while True:
            try:
                async with self.connection.transaction():
                    tx = Tx(self.connection, self.now)
                    result = await body(tx)
            except KeysMissingError as missing:
                await self.connection.execute(ADD_KEYS, missing.ids)
            else:
                self.published += tx.published
                return result

    async def accept(self, *events: External) -> list[Outcome]:
        """Accept events in one transaction."""
        return await self.run(lambda tx: accept(events, tx))

    async def rows(self, table: str, columns: str = "*") -> list[dict[str, Any]]:
        """Return a table, sorted by its text."""
        found = await self.connection.fetch(f"select {columns} from {table}")  # noqa: S608
        return sorted((dict(row) for row in found), key=str)

    def events(self) -> Sequence[str]:
        """Return the types published so far, shortened."""
        return [
            p.type.removeprefix("rapport.contacts.").removesuffix(".v1") for p in self.published
        ]
