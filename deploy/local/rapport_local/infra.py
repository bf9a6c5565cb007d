"""Postgres and Kafka alone, or Postgres only: what tests of core and services stand on."""

from __future__ import annotations

import secrets
from types import TracebackType
from typing import Self

from rapport_local.folder import CopyFolder
from rapport_local.kafka import Kafka
from rapport_local.ports import choose, require_free
from rapport_local.postgres import Postgres
from rapport_local.process import Process
from rapport_local.settings import LocalSettings


def begin_together(*servers: Postgres | Kafka) -> None:
    """Start all without waiting until they answer; Postgres comes up while Java does.

    No threads here: an interrupt must find nothing that could still start a process.
    """
    for server in servers:
        server.prepare()
        server.process.start()


class Infra:
    """A Postgres and a Kafka of one's own on free ports; without a name their data end with them.

        with Infra() as infra:
            dsn = infra.create_database("loyalty")
            producer = AIOKafkaProducer(bootstrap_servers=infra.kafka)

    `Infra(kafka=False)` has Postgres only; what it says of Kafka then raises RuntimeError.

    Nothing is started again by itself: a test that kills a server decides when it comes back
    (`start_kafka`, `start_postgres`). Every method blocks; call it from a thread
    (`asyncio.to_thread`) where a loop must go on.
    """

    def __init__(
        self, name: str = "", *, settings: LocalSettings | None = None, kafka: bool = True
    ) -> None:
        """Choose folder and ports; `start` (or `with`) starts the servers."""
        self._settings = settings or LocalSettings()
        self._ephemeral = not name
        self._with_kafka = kafka
        self.folder = CopyFolder(self._settings.folder, name or f"test-{secrets.token_hex(4)}")
        self._postgres: Postgres | None = None
        self._kafka: Kafka | None = None

    def start(self) -> Self:
        """Start the servers and wait until they answer; on an error nothing is left running."""
        self.folder.lock()
        try:
            self.folder.prepare(self._settings.minimum_free_mb)
            postgres, kafka, controller = choose(3)
            require_free({"postgres": postgres, "kafka": kafka, "kafka-controller": controller})
            self._postgres = Postgres(self.folder, postgres)
            if self._with_kafka:
                self._kafka = Kafka(self.folder, self._settings, kafka, controller)
            begin_together(*self._servers)
            for server in self._servers:
                server.process.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop Kafka, then Postgres, and delete the data of a copy without a name."""
        for server in reversed(self._servers):
            server.process.stop()
        self.folder.unlock()
        if self._ephemeral:
            self.folder.remove()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def kafka(self) -> str:
        """The bootstrap address of Kafka."""
        return self._broker.bootstrap

    def dsn(self, database: str) -> str:
        """Return the DSN of a database, whether it exists or not."""
        return self._server.dsn(database)

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database unless it exists, as a copy of another, and return its DSN."""
        return self._server.create_database(name, template)

    def database_exists(self, name: str) -> bool:
        """Tell whether there is a database with this name."""
        return name in self._server.databases()

    def drop_database(self, name: str) -> None:
        """Drop a database and end its sessions."""
        self._server.drop_database(name)

    def process(self, name: str) -> Process:
        """Return `postgres` or `kafka` as a process."""
        return {"postgres": self._server.process, "kafka": self._broker.process}[name]

    def kill(self, name: str, signal: int) -> None:
        """Send a signal to `postgres` or `kafka`, SIGSTOP and SIGCONT included."""
        self.process(name).kill(signal)

    def stop_kafka(self) -> None:
        """Stop Kafka cleanly; its data stay."""
        self._broker.process.stop()

    def start_kafka(self) -> None:
        """Start Kafka again, on the same port and data."""
        self._broker.start()

    def stop_postgres(self) -> None:
        """Stop Postgres cleanly; its data stay."""
        self._server.process.stop()

    def start_postgres(self) -> None:
        """Start Postgres again, on the same port and data."""
        self._server.start()

    @property
    def _servers(self) -> list[Postgres | Kafka]:
        """Those that were made, in the order in which they start."""
        return [server for server in (self._postgres, self._kafka) if server is not None]

    @property
    def _server(self) -> Postgres:
        if self._postgres is None:
            raise RuntimeError("the infrastructure was not started")
        return self._postgres

    @property
    def _broker(self) -> Kafka:
        if self._kafka is None:
            raise RuntimeError("the infrastructure was not started")
        return self._kafka
