"""A service inside the test's own event loop: real Postgres, real Kafka, no process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, TypeVar

from rapport.clock import Clock
from rapport.database import Database
from rapport.service import Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rapport.service import Definition

T = TypeVar("T")
POLL_SECONDS = 0.02


async def until(ask: Callable[[], Awaitable[T]], what: str, seconds: float = 20.0) -> T:
    """Poll until `ask` gives something true, and return it; raises AssertionError naming `what`."""
    deadline = time.monotonic() + seconds
    while True:
        found = await ask()
        if found:
            return found
        if time.monotonic() > deadline:
            msg = f"not within {seconds} s: {what} (last: {found!r})"
            raise AssertionError(msg)
        await asyncio.sleep(POLL_SECONDS)


class InProcess:
    """Runs a definition until `stop`; `abort` ends it without any courtesy."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.service: Service | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> Service:
        """The running service."""
        if self.service is None:
            raise RuntimeError("the service was not started")
        return self.service

    async def start(self) -> InProcess:
        """Open the pool and start everything; `ready` waits for the assignment."""
        settings = self.definition.settings
        clock = Clock(simulated=settings.clock == "simulated")
        database = await Database.open(
            settings.database_dsn, clock, partitions=settings.partitions, size=settings.pool_size
        )
        self.service = Service(self.definition, database)
        self._task = asyncio.create_task(self.service.run(), name=self.definition.name)
        return self

    async def ready(self, seconds: float = 30.0) -> None:
        """Wait until every partition is assigned and the relay's position is known."""
        service = self.running

        async def is_ready() -> bool:
            return service.consuming.is_ready() and service.leading.is_leader

        await until(is_ready, f"{self.definition.name} ready", seconds)

    async def stop(self) -> None:
        """End as SIGTERM does."""
        if self.service is not None and self._task is not None:
            self.service.stopping.set()
            with contextlib.suppress(asyncio.CancelledError, BaseExceptionGroup):
                await asyncio.wait_for(self._task, 30)
            await self.service.database.close()
            self.service = None

    async def abort(self) -> None:
        """Cancel everything at once: no transaction is finished, no lease released.

        Only the members of Kafka's groups leave: in this process they would live on.
        """
        if self.service is not None and self._task is not None:
            self.service.leading.lease.token = -1
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, BaseExceptionGroup):
                await self._task
            if self.service.consuming.broker is not None:
                await self.service.consuming.broker.stop()
            self.service.database.pool.terminate()
            self.service = None
