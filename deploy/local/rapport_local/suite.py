"""The processes of a copy: started in order, watched, stopped in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rapport_local.infra import start_together
from rapport_local.kafka import Kafka
from rapport_local.kafka_jars import is_fetched
from rapport_local.plan import Plan
from rapport_local.postgres import Postgres
from rapport_local.process import Process, Spec
from rapport_local.shape import Shape
from rapport_local.watch import Watch

ONCE_SECONDS = 120.0
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
        plan, shape = self._plan, self._shape
        if not is_fetched(shape.settings):
            shape.tell("fetching Kafka, 45 MB, this once")
        shape.tell("starting Postgres and Kafka")
        start_together(self.postgres, self._kafka)
        for service in shape.services:
            self.postgres.create_database(service)
        shape.tell("bringing topics and databases up to date")
        topics = [plan.topics()] if shape.topics else []
        self._run_once([*topics, *map(plan.migration, shape.services)])
        shape.tell("starting the services")
        if shape.sink:
            self._add(plan.sink())
        for service in shape.services:
            for replica in range(shape.replicas):
                self._add(plan.service(service, replica))
        changed()
        for process in self.processes.values():
            process.wait_ready()
        self._watch_over(changed)

    def _add(self, spec: Spec) -> None:
        process = self.processes[spec.name] = Process(spec)
        process.start()

    def _run_once(self, specs: Sequence[Spec]) -> None:
        self._passing = [Process(spec) for spec in specs]
        for process in self._passing:
            process.start()
        for process in self._passing:
            process.wait_done(ONCE_SECONDS)
        self._passing = []

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
