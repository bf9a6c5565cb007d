"""The `docker` command for tests: what they start is removed with its volumes when they end."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

HARDENED = (
    *("--read-only", "--tmpfs", "/tmp:size=16m", "--cap-drop", "ALL"),  # noqa: S108  the container's
    *("--security-opt", "no-new-privileges", "--memory", "256m"),
)
POLL_SECONDS = 0.2


def docker(*arguments: str) -> str:
    """Run a command of docker's and return what it prints; raise with its complaint."""
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def succeeds(*arguments: str) -> bool:
    """Tell whether a command of docker's ends well."""
    return subprocess.run(["docker", *arguments], check=False, capture_output=True).returncode == 0


def inspect(name: str) -> dict[str, Any]:
    """Return what docker knows about an image or a container."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", name))
    return found[0]


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Poll until it holds; fail with what was waited for."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(POLL_SECONDS)


@dataclass
class Scene:
    """Containers in a network of their own."""

    network: str
    names: list[str] = field(default_factory=list)

    def start(
        self,
        name: str,
        image: str,
        *command: str,
        env: Mapping[str, str],
        options: Sequence[str] = (),
    ) -> str:
        """Start a container that others reach by its name; return its full name."""
        full = f"{self.network}-{name}"
        self.names.append(full)
        variables = [part for item in env.items() for part in ("--env", "=".join(item))]
        place = ("--network", self.network, "--network-alias", name, "--hostname", name)
        docker("run", "--detach", "--name", full, *place, *variables, *options, image, *command)
        return full

    def run(
        self, name: str, image: str, *command: str, env: Mapping[str, str], options: Sequence[str]
    ) -> str:
        """Run a job to its end, which must be a good one; return what it said."""
        full = self.start(name, image, *command, env=env, options=options)
        code = docker("wait", full)
        said = logs(full)
        assert code == "0", said
        return said


def logs(container: str) -> str:
    """Return everything that a container has said so far."""
    done = subprocess.run(
        ["docker", "logs", container],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout


@contextmanager
def new_scene() -> Iterator[Scene]:
    """Make a network, and remove it with all that was started in it."""
    scene = Scene(f"rapport-test-{uuid.uuid4().hex[:8]}")
    docker("network", "create", scene.network)
    try:
        yield scene
    finally:
        for name in scene.names:
            subprocess.run(
                ["docker", "rm", "--force", "--volumes", name], check=False, capture_output=True
            )
        docker("network", "rm", scene.network)
