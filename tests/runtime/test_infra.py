"""Postgres and Kafka alone."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from rapport_local.errors import LocalRuntimeError
from rapport_local.infra import Infra
from rapport_local.ports import choose, require_free
from rapport_local.settings import LocalSettings

pytestmark = [pytest.mark.runtime, pytest.mark.usefixtures("nothing_left")]


async def send(bootstrap: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait("t", value, partition=0)
    finally:
        await producer.stop()


async def read(bootstrap: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer("t", bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def create_topic(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("t", 1, 1)])
    finally:
        await admin.close()


async def test_both_servers_keep_what_they_confirmed_when_they_are_killed(
    settings: LocalSettings,
) -> None:
    with Infra(settings=settings) as infra:
        connection = await asyncpg.connect(infra.create_database("one"))
        await connection.execute("CREATE TABLE t AS SELECT 1 AS kept")
        await create_topic(infra.kafka)
        await send(infra.kafka, b"first")
        for name in ("postgres", "kafka"):
            infra.kill(name, signal.SIGKILL)
            psutil.wait_procs([psutil.Process(infra.process(name).pid)], timeout=60)
        connection.terminate()
        await asyncio.to_thread(infra.start_postgres)
        await asyncio.to_thread(infra.start_kafka)
        connection = await asyncpg.connect(infra.dsn("one"))
        assert await connection.fetchval("SELECT kept FROM t") == 1
        await connection.close()
        await send(infra.kafka, b"second")
        assert await read(infra.kafka, 2) == [b"first", b"second"]


async def test_postgres_is_durable_and_sorts_the_same_everywhere(settings: LocalSettings) -> None:
    with Infra(settings=settings) as infra, Infra(settings=settings) as other:
        assert other.create_database("one") != infra.create_database("one")
        assert other.kafka != infra.kafka
        connection = await asyncpg.connect(infra.dsn("one"))
        for name, value in {"fsync": "on", "synchronous_commit": "on", "TimeZone": "UTC"}.items():
            assert await connection.fetchval("SELECT current_setting($1)", name) == value
        row = await connection.fetchrow(
            "SELECT pg_encoding_to_char(encoding) AS encoding, datlocale AS locale"
            " FROM pg_database WHERE datname = current_database()"
        )
        assert row
        assert dict(row) == {"encoding": "UTF8", "locale": "C.UTF-8"}
        await connection.close()
        owner = psutil.Process(infra.process("postgres").pid).uids().real
        assert owner != 0
        infra.drop_database("one")
        assert other.database_exists("one")
    assert list(settings.folder.iterdir()) == []


def test_a_named_copy_keeps_its_data_and_runs_once(settings: LocalSettings) -> None:
    with Infra("kept", settings=settings) as infra:
        infra.create_database("mine")
        with pytest.raises(LocalRuntimeError, match="already running"):
            Infra("kept", settings=settings).start()
    with Infra("kept", settings=settings) as infra:
        assert infra.database_exists("mine")


def test_a_taken_port_is_named_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(LocalRuntimeError, match=rf"port {port} for kafka is taken by process"):
            require_free({"kafka": port})


def test_chosen_ports_differ() -> None:
    taken = choose(3)
    assert len({*taken, *choose(3, taken)}) == 6


def test_a_failing_download_names_what_was_missed(settings: LocalSettings, tmp_path: Path) -> None:
    broken = settings.model_copy(
        update={"cache": tmp_path / "empty", "maven_repository": "http://127.0.0.1:9"}
    )
    with pytest.raises(LocalRuntimeError, match=r"could not fetch [\w.:-]+, a part of Kafka"):
        Infra(settings=broken).start()


def test_a_jar_that_was_tampered_with_is_not_run(settings: LocalSettings, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(settings.cache_folder / "jars", cache / "jars")
    jar = next((cache / "jars").glob("kafka-clients-*.jar"))
    jar.write_bytes(jar.read_bytes() + b"x")
    broken = settings.model_copy(update={"cache": cache, "maven_repository": "http://127.0.0.1:9"})
    with pytest.raises(
        LocalRuntimeError, match=r"could not fetch org\.apache\.kafka:kafka-clients"
    ):
        Infra(settings=broken).start()


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 24 MB, too small for a cluster of Postgres."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0711", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small disk")
    # pytest's own folders are closed to the user that Postgres runs as
    for folder in [disk, *disk.parents]:
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_nearly_full_disk_is_refused_before_anything_starts(
    settings: LocalSettings, small_disk: Path
) -> None:
    small = settings.model_copy(update={"folder": small_disk / ".rapport"})
    with pytest.raises(LocalRuntimeError, match=r"the disk that holds .* is full: \d+ MB are left"):
        Infra(settings=small).start()


def test_a_disk_that_fills_up_while_starting_is_named(
    settings: LocalSettings, small_disk: Path
) -> None:
    small = settings.model_copy(
        update={"folder": small_disk / ".rapport", "minimum_free_mb": 0},
    )
    with pytest.raises(LocalRuntimeError, match=r"the disk that holds .* is full; free some space"):
        Infra(settings=small).start()


def test_a_full_disk_met_by_our_own_writing_is_one_line(
    settings: LocalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", no_room)
    with pytest.raises(LocalRuntimeError, match="is full; free some space"):
        Infra(settings=settings).start()
