"""What can happen to a container: killed, frozen, cut off from the network, or asked to stop.

    faults.kill(suite["loyalty-0"])                     # kill -9
    faults.start(suite["loyalty-0"])
    with faults.frozen(suite["kafka"]):                 # docker pause
        ...
    with faults.cut_off(suite["postgres"]):             # every packet is dropped, in silence
        ...

Everything blocks: use `asyncio.to_thread` where a loop must go on.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from docker.errors import APIError  # type: ignore[import-untyped]  # ships no types
from testcontainers.core.container import DockerContainer

STOP_SECONDS = 30
FREEZE_SECONDS = 10.0
AGAIN_SECONDS = 0.1
CHAINS = ("INPUT", "OUTPUT")


def kill(container: DockerContainer) -> None:
    """End it with SIGKILL."""
    wrapped = container.get_wrapped_container()
    wrapped.kill()
    wrapped.wait(timeout=STOP_SECONDS)


def stop(container: DockerContainer) -> int:
    """Ask it to stop, and return its exit code."""
    wrapped = container.get_wrapped_container()
    wrapped.stop(timeout=STOP_SECONDS)
    return int(wrapped.wait(timeout=STOP_SECONDS)["StatusCode"])


def start(container: DockerContainer) -> None:
    """Start one again that was stopped or killed; ports that docker chose are other ones then."""
    container.get_wrapped_container().start()


@contextmanager
def frozen(container: DockerContainer) -> Iterator[None]:
    """Freeze all of its processes; connections stay open, and nothing answers."""
    wrapped = container.get_wrapped_container()
    until = time.monotonic() + FREEZE_SECONDS
    while True:
        try:
            wrapped.pause()
            break
        except APIError:  # a process that waits for a disk cannot be frozen at that moment
            if time.monotonic() > until:
                raise
        time.sleep(AGAIN_SECONDS)
    try:
        yield
    finally:
        wrapped.unpause()


@contextmanager
def cut_off(container: DockerContainer) -> Iterator[None]:
    """Drop all of its packets but those to itself; neither side is told.

    iptables runs in the container's network namespace, so this wants root on docker's machine.
    """
    wrapped = container.get_wrapped_container()
    wrapped.reload()
    inside = ["nsenter", "--target", str(wrapped.attrs["State"]["Pid"]), "--net", "iptables", "-w"]
    directions = zip(CHAINS, ("--in-interface", "--out-interface"), strict=True)
    rules = [[chain, "!", direction, "lo", "--jump", "DROP"] for chain, direction in directions]
    try:
        for rule in rules:
            subprocess.run([*inside, "--insert", *rule], check=True)  # noqa: S603  our own words
        yield
    finally:
        for rule in rules:
            subprocess.run([*inside, "--delete", *rule], check=False)  # noqa: S603  the same
