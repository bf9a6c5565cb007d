"""The images at work: jobs end well, services are healthy without rights, SIGTERM ends them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.containers import (
    HARDENED,
    Scene,
    docker,
    inspect,
    logs,
    new_scene,
    succeeds,
    wait_until,
)

SERVICES = ("contacts", "loyalty", "notifications", "analytics")
TAG = os.environ.get("RAPPORT_IMAGE_TAG") or "local"
KAFKA_IMAGE = os.environ.get("RAPPORT_KAFKA_IMAGE") or "rapport/kafka:4.3.1"
POSTGRES_IMAGE = os.environ.get("RAPPORT_POSTGRES_IMAGE") or "rapport/postgres:17"
STOP_SECONDS = 10
QUICK = ("--health-interval", "1s")
PASSWORD = "of-this-test"  # noqa: S105  of a database that lives for a minute
KAFKA = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_LISTENERS": "CONTROLLER://:29093,INTERNAL://:19092",
    "KAFKA_ADVERTISED_LISTENERS": "INTERNAL://kafka:19092",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "INTERNAL",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@kafka:29093",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
    "KAFKA_HEAP_OPTS": "-Xmx400m -Xms400m",
}

pytestmark = pytest.mark.usefixtures("images")


@pytest.fixture(scope="module")
def scene(images: None) -> Iterator[Scene]:
    """A broker with the topics, and a Postgres."""
    del images
    with new_scene() as found:
        postgres = found.start(
            "postgres", POSTGRES_IMAGE, env={"POSTGRES_PASSWORD": PASSWORD}, options=()
        )
        kafka = found.start("kafka", KAFKA_IMAGE, env=KAFKA, options=("--memory", "700m"))
        wait_until(lambda: "Kafka Server started" in logs(kafka), "Kafka's start")
        ready = ("exec", postgres, "pg_isready", "--quiet", "--host", "127.0.0.1")
        wait_until(lambda: succeeds(*ready), "Postgres's start")
        topics = ("--entrypoint", "rapport", *HARDENED)
        env = {"RAPPORT_KAFKA_BOOTSTRAP": "kafka:19092"}
        said = found.run(
            "topics", f"rapport/contacts:{TAG}", "topics", "apply", env=env, options=topics
        )
        assert "created contacts.events.v1" in said
        yield found


@pytest.fixture
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[dict[str, str], list[str]]:
    """Return variables and options of a service, whose DSN is a secret in a file."""
    service = request.node.callspec.params["service"]
    secret = tmp_path / "dsn"
    secret.write_text(f"postgresql://postgres:{PASSWORD}@postgres/{service}\n", encoding="utf-8")
    variables = {
        "RAPPORT_ENVIRONMENT": "development",
        "RAPPORT_KAFKA_BOOTSTRAP": "kafka:19092",
        "RAPPORT_DATABASE_DSN_FILE": "/run/secrets/dsn",
    }
    return variables, [*HARDENED, *QUICK, "--volume", f"{secret}:/run/secrets/dsn:ro"]


@pytest.mark.parametrize("service", SERVICES)
def test_migrates_serves_and_stops(
    scene: Scene, service: str, settings: tuple[dict[str, str], list[str]]
) -> None:
    env, options = settings
    image = f"rapport/{service}:{TAG}"
    docker(
        *("exec", "--user", "postgres", f"{scene.network}-postgres"),
        *("psql", "--quiet", "--command", f"create database {service}"),
    )
    scene.run(f"{service}-migrate", image, "migrate", env=env, options=options)
    running = scene.start(service, image, env=env, options=options)
    wait_until(lambda: health(running) == "healthy", f"{service} is healthy")
    ready = "import urllib.request as u; u.urlopen('http://127.0.0.1:9000/readyz', timeout=3)"
    wait_until(
        lambda: succeeds("exec", running, "python", "-c", ready), f"{service} is ready: {ready}"
    )
    assert "listening_beyond_loopback" in logs(running)
    assert stop(running) < STOP_SECONDS
    state = inspect(running)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False), logs(running)


@pytest.mark.parametrize("service", ["contacts"])
def test_frozen_loop_is_unhealthy(
    scene: Scene, service: str, settings: tuple[dict[str, str], list[str]]
) -> None:
    """The port still accepts connections; it is the answer that is missing."""
    env, options = settings
    quick = ("--health-timeout", "2s", "--health-retries", "1")
    running = scene.start("frozen", f"rapport/{service}:{TAG}", env=env, options=[*options, *quick])
    wait_until(lambda: health(running) == "healthy", "healthy at first")
    docker("kill", "--signal", "STOP", running)
    wait_until(lambda: health(running) == "unhealthy", "unhealthy when frozen")
    docker("kill", "--signal", "CONT", running)
    wait_until(lambda: health(running) == "healthy", "healthy again")


def test_mail_sink(scene: Scene) -> None:
    sink = scene.start("sink", f"rapport/sink:{TAG}", env={}, options=(*HARDENED, *QUICK))
    wait_until(lambda: health(sink) == "healthy", "the sink is healthy")
    send = (
        "import smtplib; smtplib.SMTP('127.0.0.1', 1025).sendmail('a@b.c', ['d@e.f'], 'Subject: x')"
    )
    docker("exec", sink, "python", "-c", send)
    count = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8025/count').read())"
    assert '"total":1' in docker("exec", sink, "python", "-c", count).replace(" ", "")
    assert stop(sink) < STOP_SECONDS
    assert inspect(sink)["State"]["ExitCode"] == 0


def health(container: str) -> str:
    """Return what docker thinks of a container."""
    return str(inspect(container)["State"]["Health"]["Status"])


def stop(container: str) -> float:
    """Send SIGTERM, wait for the end, and return how many seconds it took."""
    started = time.monotonic()
    docker("stop", "--time", "30", container)
    return time.monotonic() - started
