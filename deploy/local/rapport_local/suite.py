"""The processes of a copy: started in order, watched, stopped in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rapport_local.infra import begin_together
from rapport_local.kafka import Kafka
from rapport_local.kafka_jars import is_fetched
from rapport_local.plan import Plan
from rapport_local.postgres import Postgres
from rapport_local.process import Process, Spec
from rapport_local.shape import Shape
from rapport_local.watch import Watch

ONCE_SECONDS = 180.0
SERVERS = ("sink", "kafka", "postgres")
"""In the order in which they stop, after everything else."""


class Suite:
    """Postgres, Kafka, the mail sink and every replica of every service."""

    def __init__(self, plan: Plan, shape: Shape) -> None:
        """Say what will run; `start` runs it."""
        self._plan = plan
        self._shape = shape
        ports = plan.ports
        self.postgres = Postgres(plan.folder, ports["postgres"])
        controller = ports["kafka-controller"]
        self._kafka = Kafka(plan.folder, shape.settings, ports["kafka"], controller)
        self.processes = {"postgres": self.postgres.process, "kafka": self._kafka.process}
        self._passing: list[Process] = []
        self._watch: Watch | None = None

    def start(self, changed: Callable[[], None]) -> None:
        """Start everything and wait until it is ready; `changed` hears when process ids change."""
        shape = self._shape
        if not is_fetched(shape.settings):
            shape.tell("fetching Kafka, 45 MB, this once")
        shape.tell("starting Postgres and Kafka")
        self._start_servers()
        shape.tell("starting the services")
        self._start_services()
        changed()
        for process in self.processes.values():
            process.wait_ready()
        self._watch_over(changed)

    def _start_servers(self) -> None:
        """Start both, migrate the databases while Kafka comes up, then create the topics."""
        begin_together(self.postgres, self._kafka)
        self.postgres.process.wait_ready()
        for service in self._shape.services:
            self.postgres.create_database(service)
        self._begin([self._plan.migration(service) for service in self._shape.services])
        self._kafka.process.wait_ready()
        self._begin([self._plan.topics()] if self._shape.topics else [])
        for process in self._passing:
            process.wait_done(ONCE_SECONDS)
        self._passing = []

    def _start_services(self) -> None:
        if self._shape.sink:
            self._add(self._plan.sink())
        for service in self._shape.services:
            for replica in range(self._shape.replicas):
                self._add(self._plan.service(service, replica))

    def _begin(self, specs: Sequence[Spec]) -> None:
        for spec in specs:
            process = Process(spec)
            self._passing.append(process)
            process.start()

    def _add(self, spec: Spec) -> None:
        process = self.processes[spec.name] = Process(spec)
        process.start()

    def _watch_over(self, changed: Callable[[], None]) -> None:
        def tell(line: str) -> None:
            changed()
            self._shape.tell(line)

        self._watch = Watch(self.processes, tell)
        self._watch.start()

    def stop(self) -> None:
        """Stop services first, all at once, then the mail sink, Kafka and Postgres."""
        if self._watch:
            self._watch.stop()
        clients = [p for name, p in self.processes.items() if name not in SERVERS]
        for process in [*self._passing, *clients]:
            process.begin_stop()
        servers = [self.processes[name] for name in SERVERS if name in self.processes]
        for process in [*self._passing, *clients, *servers]:
            process.stop()
