"""Builds a process: public API, ops endpoints, consumers, relay and timers in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from rapport import logs, telemetry
from rapport.clock import Clock
from rapport.consuming import Consuming
from rapport.contracts.registry import INBOUND, STREAMS
from rapport.database import Database, connect
from rapport.leading import Leading
from rapport.messaging.journey import nothing_later
from rapport.messaging.position import init_positions
from rapport.migrate import migrate
from rapport.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from fastapi import APIRouter

    from rapport.messaging.handler import Handlers, TimerHandlers
    from rapport.messaging.journey import Later
    from rapport.messaging.transaction import Tx
    from rapport.settings import ServiceSettings

log = structlog.get_logger()

START_RETRY_SECONDS = 0.5
STOP_SECONDS = 20.0
M_MMAP_THRESHOLD = -3
MMAP_THRESHOLD_BYTES = 128 * 1024


@dataclass(frozen=True)
class Definition:
    """What a service is: its handlers and what it adds to the common process.

    `pending` counts open work that settling has to wait for (name → how many now).
    `next_due` tells the next instant at which something other than a timer becomes due.
    `workers` are coroutines that run on every replica until cancelled; `leader_workers` on the
    lease holder only. Each gets the running service.
    `declared_tables` are those whose row changes a redrive's dry run shows.
    `accept` takes external events; only the service that has it reads `inbound.events.v1`.
    `later` names the commands and timers that an own event leads to, for its journey.
    """

    name: str
    settings: ServiceSettings
    handlers: Handlers
    router: APIRouter
    timers: TimerHandlers = field(default_factory=dict)
    pending: Callable[[Tx], Awaitable[Mapping[str, int]]] | None = None
    next_due: Callable[[Tx], Awaitable[Any]] | None = None
    workers: Sequence[Callable[[Service], Awaitable[None]]] = ()
    leader_workers: Sequence[Callable[[Service], Awaitable[None]]] = ()
    declared_tables: Sequence[str] = ()
    accept: Any = None
    later: Later = nothing_later

    @property
    def stream(self) -> str:
        """The service's own stream."""
        return f"{self.name}.events.v1"

    @property
    def upstreams(self) -> list[str]:
        """Streams it reads: every other service's."""
        return [stream for stream in STREAMS if stream != self.stream]


class Service:
    """A running service; routers reach it as `request.app.state.service`."""

    def __init__(self, definition: Definition, database: Database) -> None:
        self.definition = definition
        self.settings = definition.settings
        self.database = database
        self.leading = Leading(self)
        self.consuming = Consuming(self)
        self.serving = Serving(self)
        self.stopping = asyncio.Event()

    async def run(self, *, api: bool = True) -> None:
        """Serve until `stopping` is set, then stop: consumers first, the lease last."""
        self.database.on_commit = self.committed
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.serving.run(public=api), name="http"),
                group.create_task(self.consuming.run(), name="consuming"),
                group.create_task(self.leading.run(), name="leading"),
            ]
            tasks += [
                group.create_task(self._work(worker), name="worker")
                for worker in self.definition.workers
            ]
            log.info("service_started", service=self.definition.name)
            await self.stopping.wait()
            await self.consuming.stop()
            for task in reversed(tasks):
                task.cancel()

    async def _work(self, worker: Callable[[Service], Awaitable[None]]) -> None:
        await worker(self)

    def committed(self) -> None:
        """Wake the relay and the leader's workers: something was written."""
        self.leading.wake()


def run_main(define: Callable[[], Definition]) -> None:
    """Entry point of a service's process: `serve`, `worker` (no public API) or `migrate`."""
    command = sys.argv[1] if len(sys.argv) > 1 else "serve"
    if command not in {"serve", "worker", "migrate"}:
        sys.exit(f"{sys.argv[0]}: {command!r} is not one of serve, worker, migrate")
    definition = define()
    logs.configure(definition.name, definition.settings.log_level)
    if command == "migrate":
        asyncio.run(_migrate(definition))
        return
    telemetry.configure(definition.name)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    _return_large_buffers()
    try:
        uvloop.run(_serve(definition, api=command == "serve"))
    finally:
        telemetry.shutdown()


def _return_large_buffers() -> None:
    """Let glibc give buffers of fetches back at once: its own threshold grows with the first."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def _give_up(service: str) -> None:
    """End the process when stopping takes too long; the database needs no goodbye."""
    log.error("stopping_took_too_long", service=service, seconds=STOP_SECONDS)
    os._exit(1)


async def _migrate(definition: Definition) -> None:
    """Apply migrations, then create the positions of the streams that every service reads."""
    settings = definition.settings
    await migrate(settings.database_dsn, definition.name)
    connection = await connect(settings.database_dsn, "rapport-migrate")
    try:
        streams = definition.upstreams + ([INBOUND] if definition.accept else [])
        await init_positions(connection, streams, settings.partitions)
    finally:
        await connection.close()


async def _serve(definition: Definition, *, api: bool) -> None:
    settings = definition.settings
    clock = Clock(simulated=settings.clock == "simulated")
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    database = await _open(settings, clock, stopping)
    if database is None:
        return
    service = Service(definition, database)
    service.stopping = stopping
    guard = asyncio.create_task(_guard(stopping, definition.name))
    try:
        await service.run(api=api)
    finally:
        guard.cancel()
        await database.close()
        log.info("service_stopped", service=definition.name)


async def _guard(stopping: asyncio.Event, service: str) -> None:
    await stopping.wait()
    await asyncio.sleep(STOP_SECONDS)
    _give_up(service)


async def _open(
    settings: ServiceSettings, clock: Clock, stopping: asyncio.Event
) -> Database | None:
    """Open the pool, waiting for Postgres as long as it takes; None when told to stop."""
    while not stopping.is_set():
        try:
            return await Database.open(
                settings.database_dsn,
                clock,
                partitions=settings.partitions,
                size=settings.pool_size,
            )
        except Exception as error:  # noqa: BLE001  Postgres is not there yet
            log.warning("database_unreachable", error=repr(error)[:300])
            await asyncio.sleep(START_RETRY_SECONDS)
    return None
