"""Ports of the host: fixed ones survive a container's `kill` and `start`, docker's own do not."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

# Below the range from which systems draw the ports of outgoing connections.
CHOICE = range(20_000, 32_000)
LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104  told apart from an address, not listened on

Port = tuple[str, int] | None
"""Where a container's port is on the host: address and port, or wherever docker likes."""


def choose(count: int, host: str = LOOPBACK) -> list[Port]:
    """Return so many different free ports of an address of the host."""
    chosen: list[Port] = []
    for port in random.sample(CHOICE, len(CHOICE)):
        if len(chosen) == count:
            break
        if _is_free(host, port):
            chosen.append((host, port))
    return chosen


def place_of(container: DockerContainer, port: int) -> str:
    """Return `host:port` by which a port of a container is reached: as published, if told where.

    testcontainers asks docker, which knows nothing of a paused container, and it takes a machine
    that is a container itself for one without docker.
    """
    published: object = container.ports[str(port)]
    if isinstance(published, tuple) and published[0] != EVERYWHERE:
        return f"{published[0]}:{published[1]}"
    return f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
