"""The whole of Rapport in containers, to test publishers and subscribers against.

    @pytest.fixture(scope="session")
    def rapport() -> Iterator[Suite]:
        with Suite() as suite:
            yield suite

    def test_my_shop(rapport: Suite) -> None:
        httpx.post(f"{rapport.api_url('contacts')}/v1/sources", json={"source": "my-shop"})
        publish_to(rapport.kafka)                              # or to /v1/events of contacts
        asyncio.run(settle(rapport.ops_urls))                  # everything has been dealt with
        httpx.get(f"{rapport.sink_url}/count").json()          # the mails that customers got

Time stands still until it is moved: `rapport.settling.set_clock` and `advance_clock`. The images
come from `make images`, or are those of `rapport.testing.images`. It needs the extra `testing` of
this package and a Docker engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from rapport import databases
from rapport.contracts.registry import SERVICES
from rapport.databases import Passwords, role_dsn
from rapport.opsclient import Urls
from rapport.testing import containers
from rapport.testing.containers import (
    API_PORT,
    OPS_PORT,
    POSTGRES_PORT,
    SINK_PORT,
    HttpContainer,
)
from rapport.testing.images import Images
from rapport.testing.kafka import INTERNAL_PORT, KafkaContainer
from rapport.testing.ports import LOOPBACK, Port, choose, place_of
from rapport.topics import TopicPlan, apply_topics

Role = Literal["owner", "app", "monitor"]
NETWORK_PLACE = "postgres:5432"


class Suite:
    """Kafka, Postgres, the mail sink and the four services in a network of their own.

    Containers are named `kafka`, `postgres`, `sink` and `<service>-<number>`; `suite["loyalty-0"]`
    is one of them, for `rapport.testing.faults`. Ports on the host are fixed, so that addresses
    outlive a restart. Every method blocks: use `asyncio.to_thread` where a loop must go on.
    """

    def __init__(
        self,
        *,
        replicas: int = 1,
        clock: Literal["simulated", "real"] = "simulated",
        environment: Mapping[str, str] | None = None,
        host: str = LOOPBACK,
        images: Images | None = None,
    ) -> None:
        """Say how many of each service; `environment` is added to that of every replica.

        `host` is the address on which ports are published.
        """
        self.images = images or Images()
        self._names = [f"{service}-{n}" for service in SERVICES for n in range(replicas)]
        self._clock = clock
        self._environment = dict(environment or {})
        self._host = host
        self._network = Network()
        self._superuser = Passwords.drawn().owner
        self._passwords = {service: Passwords.drawn() for service in SERVICES}
        self._containers: dict[str, DockerContainer] = {}

    # Starting and stopping

    def __enter__(self) -> Self:
        """Start everything, and wait until every replica is ready; on an error nothing is left."""
        self._network.create()
        try:
            ports = choose(3 + 2 * len(self._names), self._host)
            with ThreadPoolExecutor() as pool:
                self._start_infrastructure(pool, ports[:3])
                self._start_services(pool, ports[3:])
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything."""
        self.stop()

    def _start_infrastructure(self, pool: ThreadPoolExecutor, ports: list[Port]) -> None:
        kafka = KafkaContainer(self.images.kafka_image, port=ports[0], network=self._network)
        postgres = containers.new_postgres(
            self.images.postgres_image, self._superuser, self._network, ports[1]
        )
        sink = containers.new_sink(self.images.of("sink"), self._network, ports[2])
        self._containers = {"kafka": kafka, "postgres": postgres, "sink": sink}
        _all(
            pool.submit(self._bring_kafka, kafka),
            pool.submit(self._bring_postgres, postgres, pool),
            pool.submit(sink.start),
        )

    def _bring_kafka(self, kafka: KafkaContainer) -> None:
        kafka.start()
        asyncio.run(apply_topics(kafka.bootstrap, TopicPlan()))

    def _bring_postgres(self, postgres: PostgresContainer, pool: ThreadPoolExecutor) -> None:
        postgres.start()
        for service in SERVICES:
            asyncio.run(databases.apply(self._admin_dsn, service, self._passwords[service]))
        _all(*(pool.submit(self._migrate, service) for service in SERVICES))

    def _migrate(self, service: str) -> None:
        environment = self._variables(service, "owner")
        containers.run_job(self.images.of(service), ["migrate"], environment, self._network)

    def _start_services(self, pool: ThreadPoolExecutor, ports: list[Port]) -> None:
        for n, name in enumerate(self._names):
            service = name.rpartition("-")[0]
            self._containers[name] = containers.new_service(
                self.images.of(service),
                name,
                self._variables(service, "app") | {"RAPPORT_INSTANCE": name} | self._environment,
                self._network,
                ports[2 * n : 2 * n + 2],
            )
        _all(*(pool.submit(self._containers[name].start) for name in self._names))
        _all(*(pool.submit(self.wait_ready, name) for name in ("sink", *self._names)))

    def _variables(self, service: str, role: Role) -> dict[str, str]:
        parts = urlsplit(self.dsn(service, role))
        user = parts.netloc.rpartition("@")[0]
        return {
            "RAPPORT_ENVIRONMENT": "development",
            "RAPPORT_DATABASE_DSN": urlunsplit(parts._replace(netloc=f"{user}@{NETWORK_PLACE}")),
            "RAPPORT_KAFKA_BOOTSTRAP": f"kafka:{INTERNAL_PORT}",
            "RAPPORT_CLOCK": self._clock,
            "RAPPORT_SMTP_HOST": "sink",
            "RAPPORT_SINK_URL": f"http://sink:{SINK_PORT}",
        }

    def stop(self) -> None:
        """Remove all containers with their data, and the network."""
        with ThreadPoolExecutor() as pool:
            _all(*(pool.submit(container.stop) for container in self._containers.values()))
        self._containers = {}
        self._network.remove()

    # Where things are

    def __getitem__(self, name: str) -> DockerContainer:
        """Return a container by name."""
        return self._containers[name]

    @property
    def replicas(self) -> tuple[str, ...]:
        """The names of all replicas of all services."""
        return tuple(self._names)

    @property
    def kafka(self) -> str:
        """The bootstrap address of Kafka."""
        kafka = self["kafka"]
        assert isinstance(kafka, KafkaContainer)  # noqa: S101  for the type checker
        return kafka.bootstrap

    @property
    def ops_urls(self) -> Urls:
        """The ops ports of all replicas, for `rapport.settling` and `rapport.opsclient`."""
        return {service: self._urls(service, OPS_PORT) for service in SERVICES}

    def api_urls(self, service: str) -> list[str]:
        """Return the addresses of the public API of all replicas of a service."""
        return self._urls(service, API_PORT)

    def api_url(self, service: str) -> str:
        """Return the address of the public API of a service's first replica."""
        return self.api_urls(service)[0]

    @property
    def sink_url(self) -> str:
        """The address of the mail sink's HTTP view."""
        return self._http("sink").url(SINK_PORT)

    def dsn(self, service: str, role: Role = "owner") -> str:
        """Return the DSN of a service's database, for one of its three roles."""
        password: str = getattr(self._passwords[service], role)
        return role_dsn(self._admin_dsn, service, role, password)

    @property
    def _admin_dsn(self) -> str:
        place = place_of(self["postgres"], POSTGRES_PORT)
        return f"postgresql://postgres:{self._superuser}@{place}/postgres"

    def _http(self, name: str) -> HttpContainer:
        container = self[name]
        assert isinstance(container, HttpContainer)  # noqa: S101  for the type checker
        return container

    def _urls(self, service: str, port: int) -> list[str]:
        names = [name for name in self._names if name.rpartition("-")[0] == service]
        return [self._http(name).url(port) for name in names]

    # What can be asked of it

    def wait_ready(self, name: str) -> None:
        """Wait until a replica, or the sink, is ready; raises TimeoutError with its log."""
        self._http(name).wait_ready()

    def write_logs(self, folder: Path) -> None:
        """Write what every container has said so far, a file each."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, container in self._containers.items():
            (folder / f"{name}.log").write_text(containers.log_of(container), encoding="utf-8")


def _all(*running: Future[Any]) -> None:
    """Wait for all; raise the first error."""
    for future in running:
        future.result()
