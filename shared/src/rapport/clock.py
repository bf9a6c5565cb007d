"""Time as the business sees it: real, or a row in the database that tests and demo move."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rapport.pgtypes import Connection

NOW_SQL = "select now from rapport.clock"
FIRE_UNTIL_SQL = "select fire_until from rapport.clock"


class Clock:
    """`simulated` reads the row `rapport.clock`; otherwise the system's clock counts."""

    def __init__(self, *, simulated: bool) -> None:
        self.simulated = simulated

    async def now(self, connection: Connection) -> datetime:
        """Return the present instant, with offset UTC."""
        return await self._read(connection, NOW_SQL)

    async def fire_until(self, connection: Connection) -> datetime:
        """Return the instant up to which timers may fire."""
        return await self._read(connection, FIRE_UNTIL_SQL)

    async def _read(self, connection: Connection, sql: str) -> datetime:
        if self.simulated:
            value: datetime | None = await connection.fetchval(sql)
            if value is not None:
                return value
        return datetime.now(UTC)

    def seen(self, row_now: datetime | None) -> datetime:
        """Return `row_now`, read with other things, or the system's time when it does not count."""
        return row_now if self.simulated and row_now is not None else datetime.now(UTC)
