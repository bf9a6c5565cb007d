"""Ports: which are free, and who has those that are not."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

import psutil

from rapport_local.errors import LocalRuntimeError

LOOPBACK = "127.0.0.1"
# Below the range from which systems draw the ports of outgoing connections.
CHOICE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose(count: int, taken: Iterable[int] = ()) -> list[int]:
    """Return `count` different free ports, none of them in `taken`."""
    avoided = set(taken)
    chosen: list[int] = []
    for port in random.sample(CHOICE, len(CHOICE)):
        if len(chosen) == count:
            break
        if port not in avoided and is_free(port):
            chosen.append(port)
    return chosen


def owner(port: int) -> str:
    """Return a hint about who listens on a port: `process 12 (postgres)`, if that is visible."""
    try:
        listeners = [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port]
        pids = [c.pid for c in listeners if c.pid]
        return (
            f"process {pids[0]} ({psutil.Process(pids[0]).name()})" if pids else "another process"
        )
    except psutil.Error:
        return "another process"


def require_free(ports: dict[str, int]) -> None:
    """Raise for the first port that something else already listens on."""
    for name, port in ports.items():
        if not is_free(port):
            raise LocalRuntimeError(
                f"port {port} for {name} is taken by {owner(port)};"
                f" stop it, or choose another: --port {name}=NUMBER"
            )
