"""The containers that a suite is made of, each ready to be started.

Inside their network Kafka is `kafka:19092`, Postgres `postgres:5432`, the mail sink `sink:1025`
(SMTP) and `sink:8025` (HTTP), and a replica of a service `<service>-<number>:8000`, its ops port
`:9000`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import httpx
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from rapport.testing.ports import Port, place_of

API_PORT = 8000
OPS_PORT = 9000
POSTGRES_PORT = 5432
SINK_PORT = 8025
MAX_CONNECTIONS = 300
HARDENED = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "mem_limit": "256m",
    # whoever starts it asks `/readyz`; with many containers docker's own look costs too much
    "healthcheck": {"test": ["NONE"]},
}
READY_SECONDS = 60.0
POLL_SECONDS = 0.1


class HttpContainer(DockerContainer):
    """One of our own images: few rights, and ready when a path answers."""

    def __init__(self, image: str, alias: str, ports: Mapping[int, Port], ready: str) -> None:
        """Take the name in the network, the ports on the host, and `<port><path>` of readiness."""
        super().__init__(image, network_aliases=[alias])
        self.alias = alias
        self.ports.update({str(inner): outer for inner, outer in ports.items()})  # type: ignore[misc]  # docker's own form
        self.with_tmpfs_mount("/tmp", "size=16m")  # noqa: S108  the container's
        self.with_kwargs(hostname=alias, **HARDENED)
        port, _, self._ready_path = ready.partition("/")
        self._ready_port = int(port)

    def url(self, port: int) -> str:
        """Return the address on the host of one of its HTTP servers."""
        return f"http://{place_of(self, port)}"

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until it says that it is ready; raises TimeoutError with the end of its log."""
        until = time.monotonic() + seconds
        url = f"{self.url(self._ready_port)}/{self._ready_path}"
        answer = ""
        with httpx.Client(trust_env=False, timeout=3) as client:
            while time.monotonic() < until:
                try:
                    found = client.get(url)
                except httpx.TransportError as error:
                    answer = repr(error)
                else:
                    if found.is_success:
                        return
                    answer = found.text
                time.sleep(POLL_SECONDS)
        raise TimeoutError(f"{self.alias} is not ready: {answer}\n{log_of(self)[-4000:]}")


def new_postgres(image: str, password: str, network: Network, port: Port) -> PostgresContainer:
    """Return a server whose superuser is `postgres`; its databases and roles come later."""
    container = PostgresContainer(
        image,
        username="postgres",
        password=password,
        dbname="postgres",
        driver=None,
        network=network,
        network_aliases=["postgres"],
    )
    container.ports[str(POSTGRES_PORT)] = port  # type: ignore[assignment]  # docker's own form
    container.with_command(["postgres", "-c", f"max_connections={MAX_CONNECTIONS}"])
    return container


def new_sink(image: str, network: Network, port: Port) -> HttpContainer:
    """Return the mail sink, which keeps every mail and misbehaves on demand."""
    sink = HttpContainer(image, "sink", {SINK_PORT: port}, f"{SINK_PORT}/readyz")
    sink.with_network(network)
    return sink


def new_service(
    image: str, name: str, environment: Mapping[str, str], network: Network, ports: list[Port]
) -> HttpContainer:
    """Return a replica of a service; `ports` are those of its API and of its ops endpoints."""
    mapped = dict(zip((API_PORT, OPS_PORT), ports, strict=True))
    service = HttpContainer(image, name, mapped, f"{OPS_PORT}/readyz")
    service.with_network(network)
    service.env.update(environment)
    return service


def run_job(
    image: str, command: list[str], environment: Mapping[str, str], network: Network
) -> None:
    """Run an image's command to its end; raises RuntimeError with what it said."""
    job = DockerContainer(image, env=dict(environment), network=network)
    job.with_command(command)
    job.with_tmpfs_mount("/tmp", "size=16m")  # noqa: S108  the container's
    job.with_kwargs(**HARDENED)
    with job:
        code = job.wait()
        if code:
            raise RuntimeError(f"{image} {' '.join(command)} ended with {code}:\n{log_of(job)}")


def log_of(container: DockerContainer) -> str:
    """Return everything that a container has said."""
    said: bytes = container.get_wrapped_container().logs()
    return said.decode(errors="replace")
