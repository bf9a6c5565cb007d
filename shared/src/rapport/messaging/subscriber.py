"""FastStream's part: join the group, read batches, hand raw records to the runner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from aiokafka import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaMessage

from rapport.messaging import lenient

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aiokafka import AIOKafkaConsumer, TopicPartition
    from faststream.kafka.subscriber.usecase import BatchSubscriber

lenient.install()

BATCH_TIMEOUT_MS = 10
MAX_RECORDS = 500
PARTITION_FETCH_BYTES = 256 * 1024
"""Compressed: thousands of events. Three streams of six partitions are fetched at once."""
RETRY_BACKOFF_MS = 500
SESSION_TIMEOUT_MS = 10_000
REBALANCE_TIMEOUT_MS = 60_000


class Reader(Protocol):
    """What a subscriber feeds: a stream's runner, or the inbound one."""

    def enqueue(self, records: Iterable[Any]) -> None:
        """Queue raw records."""

    async def revoke(self, partitions: Sequence[int]) -> None:
        """Forget partitions after the running transaction."""

    def assign(self, consumer: AIOKafkaConsumer, partitions: Sequence[int]) -> None:
        """Take over partitions."""


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Passes assignments on; no I/O here, a listener that fails is only logged by aiokafka."""

    def __init__(self, runner: Reader) -> None:
        self.runner = runner
        self.subscriber: BatchSubscriber | None = None

    @property
    def consumer(self) -> AIOKafkaConsumer:
        """The subscriber's consumer, which exists when partitions are assigned."""
        if self.subscriber is None or self.subscriber.consumer is None:
            msg = "partitions were assigned before the consumer started"
            raise RuntimeError(msg)
        return self.subscriber.consumer

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Wait for the running transaction, then drop the queues."""
        await self.runner.revoke([place.partition for place in revoked])

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Hand the partitions to the runner, which seeks."""
        self.runner.assign(self.consumer, [place.partition for place in assigned])


async def raw_parser(message: Any) -> KafkaMessage:  # noqa: ANN401  a tuple of records
    """Wrap raw records without touching their headers: one bad one would lose the batch."""
    return KafkaMessage(
        body=b"",
        raw_message=message,
        headers={},
        message_id="batch",
        content_type=None,
        consumer=None,  # type: ignore[arg-type]  # never acknowledged through the message
    )


async def raw_decoder(message: KafkaMessage) -> Any:  # noqa: ANN401  a tuple of records
    """Give the handler the raw records."""
    return message.raw_message


def group_of(service: str, topic: str) -> str:
    """Return the consumer group by which a service reads a topic."""
    return f"rapport-{service}-{topic}"


def build_broker(bootstrap: str, client_id: str) -> KafkaBroker:
    """Return a broker that only consumes; producing is the relay's."""
    return KafkaBroker(
        bootstrap,
        client_id=client_id,
        consumer_only=True,
        retry_backoff_ms=RETRY_BACKOFF_MS,
        allow_auto_create_topics=False,
        logger=None,
    )


def subscribe(
    broker: KafkaBroker, topic: str, group: str, runner: Reader, instance: str | None
) -> BatchSubscriber:
    """Register a batch subscriber whose handler only queues records."""
    listener = Listener(runner)
    subscriber: BatchSubscriber = broker.subscriber(
        topic,
        batch=True,
        group_id=group,
        group_instance_id=f"{instance}-{topic}" if instance else None,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.MANUAL,
        partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        session_timeout_ms=SESSION_TIMEOUT_MS,
        rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
        batch_timeout_ms=BATCH_TIMEOUT_MS,
        max_records=MAX_RECORDS,
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        listener=listener,
        parser=raw_parser,
        decoder=raw_decoder,
        no_reply=True,
    )
    listener.subscriber = subscriber

    async def queue(records: Any) -> None:  # noqa: ANN401  FastStream inspects annotations
        runner.enqueue(records)

    subscriber(queue)
    return subscriber
