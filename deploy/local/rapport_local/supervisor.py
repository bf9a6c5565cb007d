"""The whole suite on this machine, for the command line, the demo and the tests."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from rapport_local.folder import CopyFolder
from rapport_local.memory import memory_mb
from rapport_local.plan import (
    USUAL_PORTS,
    Plan,
    answers,
    assign_ports,
    instance,
    port_name,
    port_names,
)
from rapport_local.ports import require_free
from rapport_local.postgres import Postgres
from rapport_local.process import POLL_SECONDS, Process
from rapport_local.shape import Shape, ShapeOptions
from rapport_local.state import State, end_leftovers, read_state, start_time
from rapport_local.suite import Suite

DEFAULT_NAME = "default"
NOT_HTTP = ("postgres", "kafka", "kafka-controller", "smtp")


class Runtime:
    """Postgres, Kafka, the mail sink and the services as processes of their own.

        with Runtime("try", clock="simulated", replicas=2) as runtime:
            httpx.get(runtime.api_url("contacts") + "/v1/contacts")
            runtime.kill("loyalty-1", signal.SIGKILL)  # comes back by itself

    The copy named `default` has the usual ports, every other one the ports of its last run or free
    ones. Data stay until `remove`. Processes are named `postgres`, `kafka`, `sink` and
    `<service>-<replica>`. Every method blocks: use `asyncio.to_thread` where a loop must go on.
    """

    def __init__(self, name: str = DEFAULT_NAME, **options: Unpack[ShapeOptions]) -> None:
        """Say what to run (see `Shape`); nothing is started yet."""
        self.name = name
        self.shape = Shape(**options)
        self.folder = CopyFolder(self.shape.settings.folder, name)
        self._plan: Plan | None = None
        self._suite: Suite | None = None

    def start(self) -> Self:
        """Start everything and wait until every service is ready; on an error nothing is left."""
        self.folder.lock()
        try:
            self.folder.prepare(self.shape.settings.minimum_free_mb)
            self._plan = Plan(self.folder, self._ports(), self.shape.clock, self.shape.extra_env)
            self._suite = Suite(self._plan, self.shape)
            self._suite.start(self._write_state)
        except BaseException:
            self.stop()
            raise
        return self

    def _ports(self) -> dict[str, int]:
        last = read_state(self.folder.state)
        if last:
            end_leftovers(last)
        ports = assign_ports(
            port_names(self.shape.services, self.shape.replicas),
            fixed={**self.shape.settings.ports, **self.shape.ports},
            usual=USUAL_PORTS if self.name == DEFAULT_NAME else {},
            last=last.ports if last else {},
        )
        require_free(ports)
        return ports

    def stop(self) -> None:
        """Stop everything; data, logs and ports stay for the next start."""
        if self._suite:
            self._suite.stop()
            self._suite = None
        self.folder.state_stopped()
        self.folder.unlock()

    def remove(self) -> None:
        """Delete the data and logs of a stopped copy."""
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

    # Where things are

    @property
    def _started(self) -> Plan:
        if self._plan is None:
            raise RuntimeError("the runtime was not started")
        return self._plan

    @property
    def _running(self) -> Suite:
        if self._suite is None:
            raise RuntimeError("the runtime is not running")
        return self._suite

    @property
    def postgres(self) -> Postgres:
        """The Postgres server, to create databases and to run statements as its superuser."""
        return self._running.postgres

    @property
    def kafka(self) -> str:
        """The bootstrap address of Kafka."""
        return self._started.kafka

    @property
    def sink_url(self) -> str:
        """The address of the mail sink's HTTP view."""
        return self._started.url("sink")

    @property
    def logs(self) -> Path:
        """The folder of the logs, one file per process."""
        return self.folder.logs

    def dsn(self, database: str) -> str:
        """Return the DSN of a service's database."""
        return self._started.dsn(database)

    def api_url(self, service: str, replica: int = 0) -> str:
        """Return the address of a replica's public API."""
        return self._started.url(port_name(service, replica))

    def ops_url(self, service: str, replica: int = 0) -> str:
        """Return the address of a replica's ops endpoints."""
        return self._started.url(port_name(service, replica, ops=True))

    def environment(self, service: str = "", replica: int = 0) -> dict[str, str]:
        """Return the environment for a command that works on this copy, such as `rapport`."""
        return self._started.environment(service, replica)

    def state(self) -> State:
        """Return what the state file says."""
        plan = self._started
        processes = self._suite.processes if self._suite else {}
        pids = {name: process.pid for name, process in processes.items() if process.alive}
        return State(
            name=self.name,
            supervisor=os.getpid(),
            clock=self.shape.clock,
            kafka=plan.kafka,
            ports=plan.ports,
            databases={service: plan.dsn(service) for service in self.shape.services},
            urls={name: plan.url(name) for name in plan.ports if name not in NOT_HTTP},
            logs=str(self.logs),
            processes={name: (pid, start_time(pid)) for name, pid in pids.items()},
        )

    def _write_state(self) -> None:
        self.state().write(self.folder.state)

    # What can be done to processes

    @property
    def processes(self) -> Mapping[str, Process]:
        """Every process by name."""
        return self._running.processes

    def process(self, name: str) -> Process:
        """Return a process; a service's bare name means its first replica."""
        return self.processes.get(name) or self.processes[instance(name, 0)]

    def kill(self, name: str, signal: int) -> None:
        """Send a signal; a process that dies of it is started again, a frozen one is left alone."""
        self.process(name).kill(signal)

    def stop_process(self, name: str) -> None:
        """Stop one process cleanly and leave it stopped."""
        self.process(name).stop()

    def start_process(self, name: str) -> None:
        """Start a stopped process again and wait until it is ready."""
        self.process(name).start()
        self.wait_ready(name)

    def wait_ready(self, name: str) -> None:
        """Wait until a process is ready, however often it is started again meanwhile."""
        process = self.process(name)
        deadline = time.monotonic() + process.spec.ready_seconds
        while not (process.alive and process.spec.ready()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} was not ready again in time; see {process.spec.log}")
            time.sleep(POLL_SECONDS)

    def live(self, service: str, replica: int = 0) -> bool:
        """Tell whether a replica's `/livez` is content."""
        return answers(self.ops_url(service, replica) + "/livez")

    def memory_mb(self) -> dict[str, float]:
        """Return the resident memory of each process with its children, shared pages once."""
        return {name: memory_mb(p.pid) for name, p in self.processes.items() if p.alive}
