"""What the images of Kafka and Postgres promise, whether public ones or the stand-ins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.config import testcontainers_config

from tests.e2e.containers import Scene, docker, inspect, logs, new_scene, succeeds, wait_until
from tests.e2e.test_running import KAFKA, KAFKA_IMAGE, POSTGRES_IMAGE

BIN = "/opt/kafka/bin"
HERE = ("--bootstrap-server", "localhost:19092")

pytestmark = pytest.mark.usefixtures("images")


@pytest.fixture
def scene() -> Iterator[Scene]:
    with new_scene() as found:
        yield found


def started(broker: str, times: int = 1) -> bool:
    return logs(broker).count("Kafka Server started") == times


def test_kafka_formats_an_empty_volume_once_and_keeps_data(scene: Scene) -> None:
    env = {**KAFKA, "CLUSTER_ID": "-hoiMC3ITzKm5oZFDYVvIg"}  # may begin with a dash
    broker = scene.start("kafka", KAFKA_IMAGE, env=env, options=("--memory", "700m"))
    wait_until(lambda: started(broker), "Kafka's start")
    topics = ("exec", broker, f"{BIN}/kafka-topics.sh", *HERE)
    docker(*topics, "--create", "--topic", "kept", "--partitions", "2")
    assert "19092" in docker("exec", broker, f"{BIN}/kafka-broker-api-versions.sh", *HERE)
    assert docker("exec", broker, "whoami") == "appuser"
    docker("stop", "--time", "30", broker)
    assert inspect(broker)["State"]["ExitCode"] == 143  # SIGTERM reached Java, which says so
    docker("start", broker)
    wait_until(lambda: started(broker, 2), "Kafka's second start")
    assert docker(*topics, "--list") == "kept"
    meta = docker("exec", broker, "cat", "/var/lib/kafka/data/meta.properties")
    assert "cluster.id=-hoiMC3ITzKm5oZFDYVvIg" in meta


def test_kafka_names_become_properties(scene: Scene) -> None:
    env = {**KAFKA, "KAFKA_A_DOT": "1", "KAFKA_AN__UNDERSCORE": "2", "KAFKA_A___DASH": "x=y z"}
    broker = scene.start("kafka", KAFKA_IMAGE, env=env, options=("--memory", "700m"))
    wait_until(lambda: started(broker), "Kafka's start")
    written = docker("exec", broker, "cat", "/opt/kafka/config/server.properties").splitlines()
    assert {"a.dot=1", "an_underscore=2", "a-dash=x=y z"} <= set(written)
    assert not [line for line in written if line.startswith("heap")]


def test_kafka_runs_without_any_variable(scene: Scene) -> None:
    broker = scene.start("kafka", KAFKA_IMAGE, env={"KAFKA_HEAP_OPTS": "-Xmx400m"})
    wait_until(lambda: started(broker), "Kafka's start")
    said = docker(
        "exec", broker, f"{BIN}/kafka-topics.sh", "--bootstrap-server", "localhost:9092", "--list"
    )
    assert said == ""


def test_postgres_initialises_an_empty_volume_once(scene: Scene, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "password").write_text("from-a-file\n")
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "1-table.sql").write_text("create table made (n int); insert into made values (1);")
    insert = "psql -U $POSTGRES_USER -d $POSTGRES_DB -c 'insert into made values (2)'"
    (scripts / "2-again.sh").write_text(f"{insert}\n")
    env = {
        "POSTGRES_USER": "boss",
        "POSTGRES_DB": "shop",
        "POSTGRES_PASSWORD_FILE": "/run/secrets/password",
    }
    options = [
        *("--volume", f"{tmp_path / 'password'}:/run/secrets/password:ro"),
        *("--volume", f"{scripts}:/docker-entrypoint-initdb.d:ro"),
    ]
    database = scene.start(
        "postgres", POSTGRES_IMAGE, "-c", "max_connections=33", env=env, options=options
    )
    address = "postgresql://boss:from-a-file@postgres/shop"
    ask = ("exec", database, "psql", "--tuples-only", "--no-align", address, "--command")
    ready = ("exec", database, "pg_isready", "--quiet", "--host", "127.0.0.1")
    for _ in range(2):
        wait_until(lambda: succeeds(*ready), "Postgres's start")
        assert docker(*ask, "select sum(n) from made") == "3"
        assert docker(*ask, "show max_connections") == "33"
        docker("stop", "--time", "30", database)
        assert inspect(database)["State"]["ExitCode"] == 0
        docker("start", database)


def test_postgres_wants_a_password(scene: Scene) -> None:
    database = scene.start("postgres", POSTGRES_IMAGE, env={})
    assert docker("wait", database) == "1"
    assert "POSTGRES_PASSWORD" in logs(database)


def test_stock_testcontainer_of_postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    with PostgresContainer(POSTGRES_IMAGE, driver=None) as postgres:
        assert postgres.get_connection_url().startswith("postgresql://test:test@")
