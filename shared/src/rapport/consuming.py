"""The consuming half of a service: one subscriber and one runner per upstream stream."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import structlog

from rapport.contracts.registry import INBOUND
from rapport.messaging.batch import Decoders
from rapport.messaging.ends import LogEnds
from rapport.messaging.inbound import InboundRunner
from rapport.messaging.runner import Runner, RunnerSettings
from rapport.messaging.subscriber import build_broker, group_of, subscribe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faststream.kafka import KafkaBroker

    from rapport.messaging.gate import Reached
    from rapport.service import Service

log = structlog.get_logger()

RETRY_SECONDS = 0.5
START_SECONDS = 60.0
STOP_SECONDS = 10.0


class Consuming:
    """Starts while Kafka is still down; runners go on through every outage."""

    def __init__(self, service: Service, streams: Sequence[str] | None = None) -> None:
        definition, settings = service.definition, service.settings
        self.service = service
        self.decoders = Decoders(definition.handlers)
        self.reached: Reached = {}
        worker = f"{settings.instance or socket.gethostname()}/{os.getpid()}"
        runner_settings = RunnerSettings(
            definition.name,
            settings.database_dsn,
            settings.partitions,
            settings.batch_size,
            settings.queue_size,
            worker,
        )
        clock = service.database.clock
        self.runners = {
            stream: Runner(stream, runner_settings, self.decoders, clock, self.reached)
            for stream in (definition.upstreams if streams is None else streams)
        }
        for runner in self.runners.values():
            runner.on_published = service.committed
        self.inbound: InboundRunner | None = None
        if definition.accept is not None:
            self.inbound = InboundRunner(
                service.database,
                definition.accept,
                batch_size=settings.batch_size,
                queue_size=settings.queue_size,
            )
        self.broker: KafkaBroker | None = None
        self.ends = LogEnds(settings.kafka_bootstrap)

    @property
    def all_runners(self) -> dict[str, Any]:
        """Runners of streams and, where there is one, of the inbound topic."""
        inbound = {INBOUND: self.inbound} if self.inbound is not None else {}
        return {**self.runners, **inbound}

    def is_ready(self) -> bool:
        """Tell whether every subscriber has joined its group and knows its positions."""
        return all(
            runner.consumer is not None and runner.is_located()
            for runner in self.all_runners.values()
        )

    def idle_seconds(self) -> float:
        """Return how long ago the slowest runner's loop went round."""
        now = time.monotonic()
        return max((now - r.last_loop for r in self.all_runners.values()), default=0.0)

    async def run(self) -> None:
        """Run the runners, and the broker as soon as Kafka answers."""
        async with asyncio.TaskGroup() as group:
            for stream, runner in self.all_runners.items():
                group.create_task(runner.run(), name=f"runner {stream}")
            group.create_task(self._start_broker(), name="broker")

    async def _start_broker(self) -> None:
        while not self.service.stopping.is_set():
            broker = self._build_broker()
            try:
                async with asyncio.timeout(START_SECONDS):
                    await broker.start()
            except Exception as error:  # noqa: BLE001  Kafka is not there yet
                log.warning("kafka_unreachable", error=repr(error)[:300])
                await _stop_quietly(broker)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.broker = broker
                return

    def _build_broker(self) -> KafkaBroker:
        settings = self.service.settings
        name = self.service.definition.name
        broker = build_broker(settings.kafka_bootstrap, f"rapport-{name}")
        for topic, runner in self.all_runners.items():
            subscribe(broker, topic, group_of(name, topic), runner, settings.instance)
        return broker

    async def stop(self) -> None:
        """Finish running transactions, tell Kafka the offsets, leave the groups."""
        for runner in self.all_runners.values():
            await runner.stop()
        await self.ends.stop()
        if self.broker is not None:
            await _stop_quietly(self.broker)


async def _stop_quietly(broker: KafkaBroker) -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await broker.stop()
    except Exception as error:  # noqa: BLE001  it ends anyway
        log.info("broker_stop_failed", error=repr(error)[:300])
