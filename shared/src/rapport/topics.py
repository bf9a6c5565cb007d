"""The topics of the suite: what they must be, and how a cluster differs from that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from rapport.contracts.registry import TOPICS

MAX_MESSAGE_BYTES = 1_048_588
RETENTION = timedelta(days=14)
AT_LEAST = {"max.message.bytes", "retention.ms"}
"""Settings of which a cluster may have more than we ask for."""
UNLIMITED = "-1"
LED_SECONDS = 30.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class TopicPlan:
    """What every topic of the suite has."""

    partitions: int = 6
    replication_factor: int = 1
    retention: timedelta = RETENTION

    @property
    def settings(self) -> dict[str, str]:
        """Topic settings by name; event times lie in the past, so Kafka's own time counts."""
        return {
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention // timedelta(milliseconds=1)),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
        }


@dataclass(frozen=True)
class Drift:
    """One difference between a topic and its plan."""

    topic: str
    what: str
    wanted: str
    found: str


async def apply_topics(bootstrap: str, plan: TopicPlan) -> tuple[list[str], list[Drift]]:
    """Create the missing topics; return their names, and how the others differ from the plan.

    Existing topics are never changed: a partition count is a decision with a procedure of its own.
    """
    async with _admin(bootstrap) as admin:
        missing = await _list_missing(admin)
        created = [topic for topic in missing if await _create(admin, topic, plan)]
        await _wait_led(admin, created, plan.partitions)
        return created, await _drift(admin, [t for t in TOPICS if t not in created], plan)


async def check_topics(bootstrap: str, plan: TopicPlan) -> list[Drift]:
    """Return every difference between the cluster's topics and the plan."""
    async with _admin(bootstrap) as admin:
        missing = await _list_missing(admin)
        absent = [Drift(topic, "topic", "present", "missing") for topic in missing]
        return absent + await _drift(admin, [t for t in TOPICS if t not in missing], plan)


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _list_missing(admin: AIOKafkaAdminClient) -> list[str]:
    known = set(await admin.list_topics())
    return [topic for topic in TOPICS if topic not in known]


async def _create(admin: AIOKafkaAdminClient, topic: str, plan: TopicPlan) -> bool:
    new = NewTopic(topic, plan.partitions, plan.replication_factor, topic_configs=plan.settings)
    response = await admin.create_topics([new])
    for _, code, message in response.topic_errors:
        kind = for_code(code)
        if kind is TopicAlreadyExistsError:
            return False
        if code:
            raise kind(f"{topic}: {message or kind.description}")
    return True


async def _wait_led(admin: AIOKafkaAdminClient, topics: list[str], partitions: int) -> None:
    """Wait until every partition has a leader: a new topic is known a moment later."""
    async with asyncio.timeout(LED_SECONDS):
        while topics:
            described = await admin.describe_topics(topics)
            led = [p for topic in described for p in topic["partitions"] if p["leader"] >= 0]
            if len(led) == partitions * len(topics):
                return
            await asyncio.sleep(POLL_SECONDS)


async def _drift(admin: AIOKafkaAdminClient, topics: list[str], plan: TopicPlan) -> list[Drift]:
    if not topics:
        return []
    found: list[Drift] = []
    for description in await admin.describe_topics(topics):
        found += _shape_drift(description, plan)
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    for response in await admin.describe_configs(resources):
        for _, _, _, topic, entries in response.resources:
            found += _settings_drift(topic, {entry[0]: entry[1] for entry in entries}, plan)
    return sorted(found, key=lambda drift: TOPICS.index(drift.topic))


def _shape_drift(description: Mapping[str, Any], plan: TopicPlan) -> list[Drift]:
    topic, partitions = description["topic"], description["partitions"]
    replicas = {len(partition["replicas"]) for partition in partitions}
    pairs = [
        ("partitions", str(plan.partitions), str(len(partitions))),
        ("replication factor", str(plan.replication_factor), ", ".join(map(str, sorted(replicas)))),
    ]
    return [Drift(topic, what, wanted, found) for what, wanted, found in pairs if wanted != found]


def _settings_drift(topic: str, settings: Mapping[str, str], plan: TopicPlan) -> list[Drift]:
    return [
        Drift(topic, name, wanted, settings.get(name, ""))
        for name, wanted in plan.settings.items()
        if not _satisfies(name, settings.get(name, ""), wanted)
    ]


def _satisfies(name: str, value: str, wanted: str) -> bool:
    if name not in AT_LEAST:
        return value == wanted
    return value == UNLIMITED or (value.isdigit() and int(value) >= int(wanted))
