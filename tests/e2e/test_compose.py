"""The compose project: confined, ready soon, roles kept apart, data kept, and the demo adds up."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from rapport_local.demo.access import Access
from rapport_local.demo.composed import DEPLOY, Project, composed, port_variables
from rapport_local.demo.display import Display
from rapport_local.demo.main import Demo, parse
from rapport_local.demo.report import Report
from rapport_local.ports import choose
from rapport_local.shape import SERVICES
from tests.e2e.containers import docker, inspect, succeeds, wait_until

SERVERS = {"kafka", "postgres", "sink"}
JOBS = {"databases", "topics", *(f"migrate-{service}" for service in SERVICES)}
SECOND = {f"{service}-1" for service in SERVICES}
ROLES = ("owner", "app", "monitor")
READY_SECONDS = 90
GRACE = {"45s", "1m0s"}
DEMO = ["--compose", "--scale", "100", "--until", "1998-01-25"]
IS_READY = "import urllib.request as u; u.urlopen('http://127.0.0.1:9000/readyz', timeout=5)"


@dataclass
class Kept:
    """A project in which a scaled demo has lived, and how long it took to be ready."""

    project: Project
    access: Access
    report: Report
    ready_seconds: float

    def container(self, service: str) -> dict[str, Any]:
        """Return what docker knows about a service's container."""
        return inspect(f"{self.project.name}-{service}-1")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Use secrets of the test's own; return their folder."""
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAPPORT_SECRETS", str(folder))
        yield folder


@pytest.fixture(scope="module")
def kept(environment: Path) -> Iterator[Kept]:
    """Run the demo in containers, and take them down with their data at the end."""
    del environment
    ports = Project("nothing").ports
    names = dict(zip(ports, choose(len(ports)), strict=True))
    project = Project(f"rapport-test-{secrets.token_hex(4)}", ports=names)
    display = Display()
    try:
        with composed(project, display, keep=True) as access:
            first = inspect(f"{project.name}-postgres-1")["State"]["StartedAt"]
            report = asyncio.run(Demo(parse(DEMO), access, display).run())
            last = max(inspect(f"{project.name}-{s}-1")["State"]["StartedAt"] for s in SERVICES)
        yield Kept(project, access, report, seconds_between(first, last))
    finally:
        project.remove()


def seconds_between(first: str, last: str) -> float:
    """Return the seconds between two of docker's times of one day."""
    hours = [[float(part) for part in text[11:-1].split(":")] for text in (first, last)]
    early, late = (h * 3600 + m * 60 + s for h, m, s in hours)
    return late - early


def configuration(*arguments: str, **variables: str) -> dict[str, Any]:
    """Return what compose makes of the file."""
    done = subprocess.run(
        [DEPLOY / "compose", "--profile", "*", *arguments, "config", "--format", "json"],
        env={**os.environ, **variables},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.usefixtures("environment")
def test_every_container_is_confined() -> None:
    services = configuration()["services"]
    assert set(services) == SERVERS | JOBS | set(SERVICES) | SECOND
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert 0 < int(service["mem_limit"]) <= 2**30, name
        assert service["logging"]["options"] == {"max-file": "3", "max-size": "10m"}, name
        assert service["init"] is True, name
        assert {port["host_ip"] for port in service.get("ports", ())} <= {"127.0.0.1"}, name
        if name in JOBS:
            assert service["restart"] == "no", name
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["stop_grace_period"] in GRACE, name
        if name in SECOND:
            assert "ports" not in service, name
            assert service["environment"]["RAPPORT_INSTANCE"] == name


def test_no_secret_is_in_the_configuration(environment: Path) -> None:
    """Passwords are drawn once, in a folder that is its owner's alone; compose holds paths."""
    text = json.dumps(configuration())
    drawn = {path.name: path.read_text().strip() for path in environment.iterdir()}
    assert len(drawn) == 14
    assert stat.S_IMODE(environment.stat().st_mode) == 0o700
    assert not [name for name, secret in drawn.items() if secret in text]
    assert len({secret.split(":")[-1] for secret in drawn.values()}) > 1
    configuration()
    assert {path.name: path.read_text().strip() for path in environment.iterdir()} == drawn


@pytest.mark.usefixtures("environment")
def test_images_are_the_public_ones_unless_others_are_named() -> None:
    named = {"RAPPORT_KAFKA_IMAGE": "here/kafka:1", "RAPPORT_POSTGRES_IMAGE": "here/postgres:1"}
    services = configuration(**named)["services"]
    assert (services["kafka"]["image"], services["postgres"]["image"]) == tuple(named.values())
    text = (DEPLOY / "compose.yaml").read_text()
    assert "image: ${RAPPORT_KAFKA_IMAGE:-apache/kafka:4" in text
    assert "image: ${RAPPORT_POSTGRES_IMAGE:-postgres:18" in text


def test_everything_is_healthy_soon_and_the_jobs_ended_well(kept: Kept) -> None:
    assert kept.ready_seconds < READY_SECONDS
    for name in (*SERVERS, *SERVICES):
        assert kept.container(name)["State"]["Health"]["Status"] == "healthy", name
    for name in JOBS:
        state = kept.container(name)["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 0), name


def test_the_engine_confines_what_runs(kept: Kept) -> None:
    for name in (*SERVERS, *SERVICES):
        found = kept.container(name)
        host = found["HostConfig"]
        assert host["Memory"] > 0, name
        assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"]), name
        bindings = [b for bound in found["NetworkSettings"]["Ports"].values() for b in bound or ()]
        assert bindings, name
        assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}, name
        uid = docker("exec", f"{kept.project.name}-{name}-1", "id", "-u")
        assert int(uid) > 0, name


def test_the_demo_adds_up(kept: Kept) -> None:
    report = kept.report
    assert report.agrees
    assert report.last.totals["contacts"]["purchases"] > 0
    assert report.journey
    assert {"kafka", "postgres", *SERVICES} <= set(report.memory_mb)
    assert all(mb > 1 for mb in report.memory_mb.values())


async def test_each_role_is_refused_by_the_other_databases(kept: Kept) -> None:
    for service in SERVICES:
        for role in ROLES:
            dsn = kept.project.dsn(service, role)
            connection = await asyncpg.connect(dsn)
            assert await connection.fetchval("select current_user") == f"{service}_{role}"
            await connection.close()
            for other in {*SERVICES, "postgres", "template1"} - {service}:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await asyncpg.connect(dsn, database=other)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(kept.project.dsn(service, "app"), password="another")  # noqa: S106


async def test_services_use_the_role_without_ddl(kept: Kept) -> None:
    users = "select distinct usename from pg_stat_activity where datname = current_database()"
    for service in SERVICES:
        connection = await asyncpg.connect(kept.project.dsn(service, "monitor"))
        found = {row["usename"] for row in await connection.fetch(users)}
        await connection.close()
        assert found == {f"{service}_app", f"{service}_monitor"}
        connection = await asyncpg.connect(kept.project.dsn(service, "app"))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("create table public.t (n int)")
        await connection.close()


async def test_down_and_up_keep_all_data_and_a_profile_doubles_the_services(kept: Kept) -> None:
    """The last test: the project comes back with two of each service."""
    before = await kept.access.totals()
    mails = await kept.access.ask(f"{kept.access.sink}/count")
    await asyncio.to_thread(kept.project.compose, "down")
    with pytest.raises(AssertionError):
        docker("inspect", f"{kept.project.name}-kafka-1")
    kept.project.replicas = 2
    begun = time.monotonic()
    await asyncio.to_thread(kept.project.up)
    assert time.monotonic() - begun < READY_SECONDS
    assert await kept.access.totals() == before
    assert await kept.access.ask(f"{kept.access.sink}/count") == mails
    for name in SECOND:
        found = kept.container(name)
        assert found["State"]["Health"]["Status"] == "healthy", name
        assert not any(found["NetworkSettings"]["Ports"].values()), name
        container = f"{kept.project.name}-{name}-1"
        ready = partial(succeeds, "exec", container, "python", "-c", IS_READY)
        await asyncio.to_thread(wait_until, ready, f"{name} is ready")


def test_ports_are_told_by_variables() -> None:
    told = port_variables({"contacts": 1, "contacts-ops": 2})
    assert told == {"RAPPORT_COMPOSE_CONTACTS_PORT": "1", "RAPPORT_COMPOSE_CONTACTS_OPS_PORT": "2"}
    text = (DEPLOY / "compose.yaml").read_text()
    assert all(f"${{{name}:-" in text for name in told)
