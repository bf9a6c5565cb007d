"""A relay with a lease of its own, to be frozen, taken over and watched."""

from __future__ import annotations

import asyncio
import contextlib

from rapport.database import connect
from rapport.messaging.lease import Lease
from rapport.messaging.relay import Relay
from rapport.testing.inprocess import until
from tests.flows.lab import CONTACTS
from tests.flows.toys import PARTITIONS


class Leader:
    """A relay with a lease of its own that nothing renews: it may be taken over at any time."""

    def __init__(self, dsn: str, bootstrap: str) -> None:
        self.dsn = dsn
        self.relay = Relay(dsn, bootstrap, CONTACTS, PARTITIONS)
        self.lease = Lease(None, 0.3)
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> Leader:
        """Wait for the lease, then lead."""
        connection = await connect(self.dsn)
        await self.lease.acquire(connection)
        await connection.close()
        self.task = asyncio.create_task(self.relay.lead(self.lease))
        return self

    async def sent(self, events: int) -> None:
        """Wait until Kafka acknowledged so many events."""

        async def acknowledged() -> bool:
            return sum(self.relay.acknowledged) >= events

        await until(acknowledged, f"{events} events acknowledged")

    async def ended(self) -> BaseException | None:
        """Wait until it leads no more; return why."""
        assert self.task is not None
        done, _ = await asyncio.wait([self.task], timeout=20)
        assert done, "the relay still leads"
        return self.task.exception()

    async def stop(self) -> None:
        """End it as SIGTERM does."""
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self.task
