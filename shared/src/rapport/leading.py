"""What only the lease holder does: relay, timers, partitions of the outbox, leader workers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from rapport.database import connect
from rapport.messaging import retention
from rapport.messaging.lease import Lease
from rapport.messaging.relay import Relay
from rapport.messaging.timer import Timers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rapport.service import Service

log = structlog.get_logger()

RETRY_SECONDS = 0.5
FORKED_SECONDS = 10.0
RETENTION_SECONDS = 3600.0


class Leading:
    """Competes for the lease and leads while it holds it."""

    def __init__(self, service: Service) -> None:
        definition, settings = service.definition, service.settings
        self.service = service
        self.lease = Lease(settings.instance, settings.lease_seconds)
        self.relay = Relay(
            settings.database_dsn, settings.kafka_bootstrap, definition.stream, settings.partitions
        )
        self.timers = Timers(service.database, definition.timers)
        self.listeners: list[asyncio.Event] = []
        self.is_leader = False

    def wake(self) -> None:
        """Something was committed here: the relay and the leader's workers look at once."""
        self.relay.wake.set()
        for listener in self.listeners:
            listener.set()

    def clock_moved(self) -> None:
        """The clock was moved here: timers may be due."""
        self.timers.wake.set()
        self.wake()

    async def run(self) -> None:
        """Lead whenever this process can, until cancelled or stopping: a group may eat either."""
        while not self.service.stopping.is_set():
            try:
                await self._lead()
            except asyncio.CancelledError:
                raise
            except BaseExceptionGroup as group:
                log.warning("leadership_lost", errors=[repr(e)[:300] for e in group.exceptions])
            except Exception as error:  # noqa: BLE001  the database is away: try again
                log.warning("leadership_lost", errors=[repr(error)[:300]])
            await asyncio.sleep(FORKED_SECONDS if self.relay.fork else RETRY_SECONDS)

    async def _lead(self) -> None:
        connection = await connect(self.service.settings.database_dsn, "rapport-lease")
        try:
            await self.lease.acquire(connection)
            self.is_leader = True
            async with asyncio.TaskGroup() as group:
                group.create_task(self.lease.keep(connection), name="lease")
                group.create_task(self.relay.lead(self.lease), name="relay")
                group.create_task(self.timers.lead(), name="timers")
                group.create_task(self._retain(), name="retention")
                for worker in self.service.definition.leader_workers:
                    group.create_task(self._work(worker), name="leader-worker")
        finally:
            self.is_leader = False
            with contextlib.suppress(Exception):
                async with asyncio.timeout(2):
                    await self.lease.release(connection)
            connection.terminate()

    async def _work(self, worker: Callable[[Service], Awaitable[None]]) -> None:
        """Run a leader worker for ever: its failure is logged, and it starts again."""
        while True:
            try:
                await worker(self.service)
            except Exception as error:  # noqa: BLE001  one worker must not end the leadership
                log.warning("leader_worker_failed", error=repr(error)[:300])
            await asyncio.sleep(RETRY_SECONDS)

    async def _retain(self) -> None:
        """Keep partitions ahead and drop those whose time is over."""
        settings = self.service.settings
        while True:
            try:
                await retention.run(settings.database_dsn, settings.retention_days)
            except Exception as error:  # noqa: BLE001  it is tried again
                log.warning("retention_failed", error=repr(error)[:300])
            await asyncio.sleep(RETENTION_SECONDS)
