"""Apache Kafka as a testcontainer: the public image `apache/kafka`, or our stand-in for it.

testcontainers' own `KafkaContainer` speaks the layout of Confluent's image only.

    with KafkaContainer("apache/kafka:4.3.1") as kafka:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
"""

from __future__ import annotations

from typing import Self

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from rapport.testing.ports import Port, place_of

EXTERNAL_PORT = 9092
INTERNAL_PORT = 19092
START = "/tmp/start-kafka"  # noqa: S108  the container's
WAIT_FOR_START = f"while [ ! -s {START} ]; do sleep 0.05; done; exec bash {START}"
START_SECONDS = 90
MEMORY = "768m"
CONFIGURATION = {
    "CLUSTER_ID": "4L6g3nShT-eMCtK--X86sw",
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_LISTENERS": (
        f"CONTROLLER://:29093,INTERNAL://:{INTERNAL_PORT},EXTERNAL://:{EXTERNAL_PORT}"
    ),
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": (
        "CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT"
    ),
    "KAFKA_INTER_BROKER_LISTENER_NAME": "INTERNAL",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:29093",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "8",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
    "KAFKA_LOG_CLEANER_DEDUPE_BUFFER_SIZE": "8388608",
    "KAFKA_HEAP_OPTS": "-Xmx400m -Xms400m",
}
"""Any variable replaces the image's whole configuration, so this is all of it."""


class KafkaContainer(DockerContainer):
    """One broker with two listeners: `bootstrap` for the host, `internal` for its network.

    With a fixed port on the host the address is the same after `docker kill` and `docker start`;
    docker draws another one otherwise, and the broker would still tell the old one.
    """

    def __init__(
        self, image: str, *, alias: str = "kafka", port: Port = None, network: Network | None = None
    ) -> None:
        """Take the image, the name in the network, and where to listen on the host."""
        super().__init__(image, env=dict(CONFIGURATION), network=network, network_aliases=[alias])
        self.alias = alias
        self.ports[str(EXTERNAL_PORT)] = port  # type: ignore[assignment]  # docker's own form
        # The broker tells its clients the port on the host, which is known only when it runs.
        self.with_command(["sh", "-c", WAIT_FOR_START])
        self.with_kwargs(hostname=alias, mem_limit=MEMORY)

    @property
    def bootstrap(self) -> str:
        """The address for clients on the host."""
        return place_of(self, EXTERNAL_PORT)

    @property
    def internal(self) -> str:
        """The address for containers of the same network."""
        return f"{self.alias}:{INTERNAL_PORT}"

    def start(self) -> Self:
        """Start the broker and wait until it serves."""
        super().start()
        listeners = f"INTERNAL://{self.internal},EXTERNAL://{self.bootstrap}"
        script = f"export KAFKA_ADVERTISED_LISTENERS={listeners}\nexec /etc/kafka/docker/run\n"
        self.copy_into_container(script.encode(), START)
        started = LogMessageWaitStrategy("Kafka Server started")
        started.with_startup_timeout(START_SECONDS).wait_until_ready(self)
        return self
