"""Kafka's jars: fetched once by Maven coordinate, checked by hash, kept for all copies.

`python -m rapport_local.kafka_jars` writes `kafka-jars.lock` anew. The backend of the log is
resolved in a call of its own: together with Kafka it would drag kafka-clients down to another
version.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rapport_local.errors import LocalRuntimeError, disk_errors
from rapport_local.settings import LocalSettings, trust_certificates

LOCK = Path(__file__).resolve().parents[1] / "kafka-jars.lock"
ROOTS = ("org.apache.kafka:kafka_2.13:4.3.1", "org.slf4j:slf4j-simple:1.7.36")
DOWNLOADS = 4
TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class Jar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """The jar's name in the cache."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinate(self) -> str:
        """Group, artifact and version, as Maven writes them."""
        return f"{self.group}:{self.artifact}:{self.version}"


def read_lock(lock: Path = LOCK) -> list[Jar]:
    """Return the jars that Kafka needs, in a fixed order."""
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    jars = []
    for line in lines:
        coordinate, sha256 = line.split()
        group, artifact, version = coordinate.split(":")
        jars.append(Jar(group, artifact, version, sha256))
    return jars


def is_fetched(settings: LocalSettings) -> bool:
    """Tell whether the cache has every jar, checked or not."""
    return all((settings.cache_folder / "jars" / jar.filename).exists() for jar in read_lock())


def class_path(settings: LocalSettings, lock: Path = LOCK) -> list[Path]:
    """Return the checked jars, fetching those that the cache lacks or holds damaged."""
    folder = settings.cache_folder / "jars"
    with disk_errors(folder), ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        guard = stack.enter_context((folder / "lock").open("w"))
        fcntl.flock(guard, fcntl.LOCK_EX)  # copies that start side by side fetch once
        jars = read_lock(lock)
        missing = [jar for jar in jars if _sha256(folder / jar.filename) != jar.sha256]
        if missing:
            _fetch_all(missing, folder, settings.maven_repository)
        return [folder / jar.filename for jar in jars]


def _sha256(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_all(jars: list[Jar], folder: Path, repository: str) -> None:
    trust_certificates()
    part = Path(tempfile.mkdtemp(prefix="part-", dir=folder))
    try:
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            tasks = [pool.submit(_fetch, jar, folder, part, repository) for jar in jars]
            try:
                for task in tasks:
                    task.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fetch(jar: Jar, folder: Path, part: Path, repository: str) -> None:
    from jgo.maven import MavenContext  # noqa: PLC0415 - slow to import, and rarely needed
    from requests import RequestException  # noqa: PLC0415 - the same
    from requests.exceptions import SSLError  # noqa: PLC0415 - the same

    remotes = {"repository": repository} if repository else None
    maven = MavenContext(
        repo_cache=part, local_repos=[], remote_repos=remotes, timeout=TIMEOUT_SECONDS
    )
    try:
        path = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except SSLError as error:
        raise _not_fetched(jar, "the repository's certificate is not trusted") from error
    except RequestException as error:
        raise _not_fetched(jar, "the repository was not reached") from error
    except RuntimeError as error:  # what jgo raises for any answer but success
        raise _not_fetched(jar, "the repository does not have it") from error
    if _sha256(path) != jar.sha256:
        raise LocalRuntimeError(
            f"the fetched {jar.coordinate} is not the one whose hash is in {LOCK.name}"
        )
    path.replace(folder / jar.filename)


def _not_fetched(jar: Jar, reason: str) -> LocalRuntimeError:
    return LocalRuntimeError(f"could not fetch {jar.coordinate}, a part of Kafka: {reason}")


def _write_lock() -> None:
    import jgo  # noqa: PLC0415 - only here

    found: dict[str, str] = {}
    for root in ROOTS:
        for artifact in jgo.resolve(root):
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            found.setdefault(coordinate, _sha256(artifact.resolve()))
    lines = [f"{coordinate} {found[coordinate]}" for coordinate in sorted(found)]
    LOCK.write_text(
        "\n".join(["# Kafka's jars and their sha256; `make lock` writes it.", *lines, ""])
    )


if __name__ == "__main__":
    _write_lock()
