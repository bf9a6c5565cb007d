"""One leader per service: a row with a fencing token and a time-out on the candidate's clock."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import structlog

if TYPE_CHECKING:
    from rapport.pgtypes import Connection

log = structlog.get_logger()

NAME = "leader"
FIND = "select holder, token, beat, instance from rapport.lease where name = $1"
CREATE = """
insert into rapport.lease (name, holder, instance) values ($1, $2, $3)
on conflict do nothing returning token
"""
TAKE = """
update rapport.lease set holder = $2, instance = $3, token = token + 1, beat = 0
where name = $1 and token = $4 and beat = $5 returning token
"""
RENEW = """
update rapport.lease set beat = beat + 1
where name = $1 and holder = $2 and token = $3 returning token
"""
CHECK = "select 1 from rapport.lease where name = $1 and holder = $2 and token = $3 for update"
RELEASE = "update rapport.lease set beat = -1 where name = $1 and holder = $2 and token = $3"
RELEASED = -1


class LeaseLostError(Exception):
    """Another process took the lease; what this one still does is harmless but pointless."""


class Lease:
    """A candidate and, once `acquire` returned, the holder of the service's lease.

    A lease is taken over when its row has not changed for `seconds` of this process's monotonic
    clock, at once when its holder released it or was this very instance before a restart.
    """

    def __init__(self, instance: str | None, seconds: float) -> None:
        self.holder: UUID = uuid4()
        self.instance = instance or str(self.holder)
        self.seconds = seconds
        self.token = 0

    async def acquire(self, connection: Connection) -> None:
        """Wait until this process holds the lease."""
        seen: tuple[UUID, int, int] | None = None
        since = time.monotonic()
        while True:
            row = await connection.fetchrow(FIND, NAME)
            if row is None:
                token = await connection.fetchval(CREATE, NAME, self.holder, self.instance)
            else:
                state = (row["holder"], row["token"], row["beat"])
                if state != seen:
                    seen, since = state, time.monotonic()
                free = row["beat"] == RELEASED or row["instance"] == self.instance
                token = None
                if free or time.monotonic() - since >= self.seconds:
                    token = await self._take(connection, row["token"], row["beat"])
            if token is not None:
                self.token = token
                log.info("lease_acquired", token=token, instance=self.instance)
                return
            await asyncio.sleep(min(0.5, self.seconds / 10))

    async def _take(self, connection: Connection, token: int, beat: int) -> int | None:
        taken: int | None = await connection.fetchval(
            TAKE, NAME, self.holder, self.instance, token, beat
        )
        return taken

    async def keep(self, connection: Connection) -> None:
        """Renew until the lease is lost; raises LeaseLostError, or what the connection raises."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self.seconds / 4)
            token = await connection.fetchval(RENEW, NAME, self.holder, self.token)
            if token is None or time.monotonic() - renewed > 2 * self.seconds:
                msg = f"the lease was taken over from token {self.token}"
                raise LeaseLostError(msg)
            renewed = time.monotonic()

    async def check(self, connection: Connection) -> None:
        """Lock the row inside the caller's transaction; raises LeaseLostError."""
        if await connection.fetchval(CHECK, NAME, self.holder, self.token) is None:
            msg = f"token {self.token} is no longer valid"
            raise LeaseLostError(msg)

    async def release(self, connection: Connection) -> None:
        """Let another candidate take over at once."""
        await connection.execute(RELEASE, NAME, self.holder, self.token)
