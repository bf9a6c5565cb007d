"""The demo's copy in containers: a compose project of its own, on the images of this checkout."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rapport_local.demo.access import Access
from rapport_local.demo.display import Display
from rapport_local.errors import LocalRuntimeError, last_lines
from rapport_local.plan import USUAL_PORTS, answers, assign_ports, port_name
from rapport_local.ports import LOOPBACK, is_free
from rapport_local.settings import CHECKOUT, inherited_environment
from rapport_local.shape import SERVICES
from rapport_local.state import State

DEPLOY = CHECKOUT / "deploy"
PORTS = (
    *("postgres", "kafka", "smtp", "sink"),
    *(port_name(service, 0, ops=ops) for service in SERVICES for ops in (False, True)),
)
MOST_REPLICAS = 2
READY_SECONDS = 60.0
POLL_SECONDS = 0.2
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def secrets_folder() -> Path:
    """Return where the secrets of compose are."""
    return Path(inherited_environment().get("RAPPORT_SECRETS") or DEPLOY / ".secrets")


def free_ports() -> dict[str, int]:
    """Return the usual ports where they are free, and others for the rest."""
    usual = {name: USUAL_PORTS[name] for name in PORTS if is_free(USUAL_PORTS[name])}
    return assign_ports(PORTS, fixed={}, usual=usual, last={})


def port_variables(ports: Mapping[str, int]) -> dict[str, str]:
    """Return the variables by which compose is told the ports of this machine."""
    names = {name: name.upper().replace("-", "_") for name in ports}
    return {f"RAPPORT_COMPOSE_{names[name]}_PORT": str(port) for name, port in ports.items()}


@dataclass
class Project:
    """One compose project with the clock simulated."""

    name: str
    replicas: int = 1
    clock: str = "simulated"
    ports: Mapping[str, int] = field(default_factory=free_ports)

    def compose(self, *arguments: str) -> str:
        """Run a command of compose and return what it prints; raises LocalRuntimeError."""
        variables = {"RAPPORT_CLOCK": self.clock, **port_variables(self.ports)}
        profile = ["--profile", "replicas"] if self.replicas > 1 else []
        command = [str(DEPLOY / "compose"), "--project-name", self.name, *profile, *arguments]
        return run(command, {**inherited_environment(), **variables})

    def up(self) -> None:
        """Start everything; return when every service is ready."""
        self.compose("up", "--wait", "--quiet-pull")
        waiting = {f"http://{LOOPBACK}:{self.ports[f'{s}-ops']}/readyz" for s in SERVICES}
        deadline = time.monotonic() + READY_SECONDS
        while waiting := {url for url in waiting if not answers(url)}:
            if time.monotonic() > deadline:
                raise LocalRuntimeError(f"not within {READY_SECONDS:.0f} s: {sorted(waiting)}")
            time.sleep(POLL_SECONDS)

    def remove(self) -> None:
        """Take everything down, the data too; also what a profile started."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans")

    def is_running(self) -> bool:
        """Tell whether a container of the project runs."""
        return bool(self.compose("ps", "--quiet").strip())

    def dsn(self, service: str, role: str) -> str:
        """Return the DSN of a service's role, as seen from this machine."""
        text = (secrets_folder() / f"{service}_{role}_dsn").read_text(encoding="utf-8")
        return text.strip().replace("@postgres:5432/", f"@{LOOPBACK}:{self.ports['postgres']}/")

    def state(self) -> State:
        """Return what the state file of an embedded copy would say."""
        http = [name for name in self.ports if name not in ("postgres", "kafka", "smtp")]
        return State(
            name=self.name,
            supervisor=0,
            clock=self.clock,
            kafka=f"{LOOPBACK}:{self.ports['kafka']}",
            ports=self.ports,
            databases={service: self.dsn(service, "app") for service in SERVICES},
            urls={name: f"http://{LOOPBACK}:{self.ports[name]}" for name in http},
            logs=f"deploy/compose --project-name {self.name} logs",
        )

    def memory_mb(self) -> dict[str, float]:
        """Return what each container takes now, in MB of 10^6 bytes, without its file cache."""
        label = f"label=com.docker.compose.project={self.name}"
        ids = run(["docker", "ps", "--quiet", "--filter", label]).split()
        lines = run(["docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *ids])
        return dict(_container_memory(line, self.name) for line in lines.splitlines())


def _container_memory(line: str, project: str) -> tuple[str, float]:
    name, used, *_ = line.split()
    unit = next(unit for unit in ("KiB", "MiB", "GiB", "B") if used.endswith(unit))
    size = float(used.removesuffix(unit)) * UNITS[unit]
    return name.removeprefix(f"{project}-").removesuffix("-1"), round(size / 1e6, 1)


def run(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return its output; raises LocalRuntimeError with its end."""
    try:
        done = subprocess.run(  # noqa: S603 - the command is ours
            command,
            env=None if environment is None else dict(environment),
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise LocalRuntimeError(f"{command[0]} was not found") from error
    if done.returncode != 0:
        raise LocalRuntimeError(f"{Path(command[0]).name}: {last_lines(done.stderr)}")
    return done.stdout


@contextmanager
def composed(project: Project, display: Display, *, keep: bool) -> Iterator[Access]:
    """Give a new project's services; take it down with its data at the end, unless it is kept."""
    name = project.name
    down = f"`deploy/compose --project-name {name} --profile '*' down --volumes`"
    if project.is_running():
        raise LocalRuntimeError(f"the compose project '{name}' is running; {down} ends it")
    display.say("building the images of this checkout")
    run([str(DEPLOY / "images" / "build")])
    project.remove()
    display.say(f"starting the compose project '{name}'")
    begun = time.monotonic()
    try:
        project.up()
        display.say(f"everything is ready after {time.monotonic() - begun:.1f} s")
        yield Access(project.state(), project.memory_mb)
    except BaseException:
        project.remove()
        raise
    if keep:
        where = (f"{service} {project.state().urls[service]}" for service in SERVICES)
        display.say(f"it runs on: {', '.join(where)}, mails {project.state().urls['sink']}")
        display.say(f"{down} ends it")
        return
    display.say("stopping")
    project.remove()
