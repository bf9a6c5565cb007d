"""Which processes a copy has, on which ports, with which environment."""

from __future__ import annotations

import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rapport_local.folder import CopyFolder
from rapport_local.ports import LOOPBACK, choose, is_free
from rapport_local.process import Spec
from rapport_local.settings import inherited_environment
from rapport_local.shape import SERVICES

PARTITIONS = 6
ZONE = "Europe/Prague"
USUAL_PORTS = {
    "postgres": 15432,
    "kafka": 19092,
    "kafka-controller": 19093,
    "smtp": 1025,
    "sink": 8025,
    **{service: 8001 + index for index, service in enumerate(SERVICES)},
    **{f"{service}-ops": 9001 + index for index, service in enumerate(SERVICES)},
}


def instance(service: str, replica: int) -> str:
    """Return the name of a replica's process, which is its `RAPPORT_INSTANCE` too."""
    return f"{service}-{replica}"


def port_name(service: str, replica: int, *, ops: bool = False) -> str:
    """Return the name of a replica's port: the first one has the service's own name."""
    name = service if replica == 0 else instance(service, replica)
    return f"{name}-ops" if ops else name


def port_names(services: Sequence[str], replicas: int) -> list[str]:
    """Return the names of all ports that a copy needs."""
    names = ["postgres", "kafka", "kafka-controller", "smtp", "sink"]
    for service in services:
        for replica in range(replicas):
            names += [port_name(service, replica), port_name(service, replica, ops=True)]
    return names


def assign_ports(
    names: Iterable[str],
    *,
    fixed: Mapping[str, int],
    usual: Mapping[str, int],
    last: Mapping[str, int],
) -> dict[str, int]:
    """Return a port for each name: the fixed, the usual, the last one if free, or a free one."""
    ports = dict.fromkeys(names, 0)
    known = {**{name: port for name, port in last.items() if is_free(port)}, **usual, **fixed}
    ports.update({name: port for name, port in known.items() if name in ports})
    open_names = [name for name, port in ports.items() if port == 0]
    ports.update(zip(open_names, choose(len(open_names), ports.values()), strict=True))
    return ports


@dataclass(frozen=True)
class Plan:
    """Everything that the commands of a copy's processes depend on."""

    folder: CopyFolder
    ports: Mapping[str, int]
    clock: str
    extra_env: Mapping[str, str]

    def url(self, name: str) -> str:
        """Return the address of the HTTP server on the port with this name."""
        return f"http://{LOOPBACK}:{self.ports[name]}"

    @property
    def kafka(self) -> str:
        """The bootstrap address of Kafka."""
        return f"{LOOPBACK}:{self.ports['kafka']}"

    def dsn(self, database: str) -> str:
        """Return the DSN of a database."""
        return f"postgresql://postgres@{LOOPBACK}:{self.ports['postgres']}/{database}"

    def log(self, name: str) -> Path:
        """Return the log of a process."""
        return self.folder.logs / f"{name}.log"

    def environment(self, service: str = "", replica: int = 0) -> dict[str, str]:
        """Return the environment of a replica, or of a command that belongs to no service."""
        variables = {
            "RAPPORT_ENVIRONMENT": "development",
            "RAPPORT_KAFKA_BOOTSTRAP": self.kafka,
            "RAPPORT_PARTITIONS": str(PARTITIONS),
            "RAPPORT_CLOCK": self.clock,
            "RAPPORT_ZONE": ZONE,
            "RAPPORT_BIND": LOOPBACK,
            "RAPPORT_SMTP_HOST": LOOPBACK,
            "RAPPORT_SMTP_PORT": str(self.ports["smtp"]),
            "RAPPORT_SINK_URL": self.url("sink"),
        }
        if service:
            variables |= {
                "RAPPORT_DATABASE_DSN": self.dsn(service),
                "RAPPORT_PORT": str(self.ports[port_name(service, replica)]),
                "RAPPORT_OPS_PORT": str(self.ports[port_name(service, replica, ops=True)]),
                "RAPPORT_INSTANCE": instance(service, replica),
            }
        return {**inherited_environment(), **variables, **self.extra_env}

    def service(self, service: str, replica: int) -> Spec:
        """Return how a replica is served; ready is what its `/readyz` says."""
        name = instance(service, replica)
        probe = self.url(port_name(service, replica, ops=True)) + "/readyz"
        return Spec(
            name=name,
            command=[sys.executable, "-m", service, "serve"],
            log=self.log(name),
            ready=lambda: answers(probe),
            environment=self.environment(service, replica),
        )

    def migration(self, service: str) -> Spec:
        """Return how a service's database is brought up to date."""
        return Spec(
            name=f"migration of {service}",
            command=[sys.executable, "-m", service, "migrate"],
            log=self.log(f"{service}-migrate"),
            environment=self.environment(service),
        )

    def topics(self) -> Spec:
        """Return how the topics are created."""
        return Spec(
            name="creation of the topics",
            command=[sys.executable, "-m", "rapport.cli.main", "topics", "apply"],
            log=self.log("topics"),
            environment=self.environment(),
        )

    def sink(self) -> Spec:
        """Return how the local mail sink runs; its mails are in the copy's data folder."""
        ports = ["--smtp-port", str(self.ports["smtp"]), "--http-port", str(self.ports["sink"])]
        directory = self.folder.data / "mails"
        return Spec(
            name="sink",
            command=[
                sys.executable,
                "-m",
                "notifications.sink",
                *ports,
                "--directory",
                str(directory),
            ],
            log=self.log("sink"),
            ready=lambda: answers(self.url("sink") + "/", any_status=True),
            environment=self.environment(),
            stop_signal=signal.SIGTERM,
            stop_seconds=10,
        )


def answers(url: str, *, any_status: bool = False, timeout: float = 2.0) -> bool:
    """Tell whether an HTTP server answers a GET with success, or at all."""
    try:
        with urllib.request.urlopen(url, timeout=timeout):  # noqa: S310 - always our own http address
            return True
    except urllib.error.HTTPError:
        return any_status
    except OSError:
        return False
