"""Plain-SQL migrations, forward only: the core's own first, then the service's."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING

import asyncpg
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rapport.pgtypes import Connection

log = structlog.get_logger()

CREATE_TABLE = """
create table if not exists public.schema_migration (
    package text not null,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp(),
    primary key (package, name)
)
"""
LOCK_ID = 7_271_501


class MigrationChangedError(Exception):
    """A migration that was applied before has another text now."""


def list_migrations(package: str) -> Iterator[tuple[str, str]]:
    """Yield (name, SQL) of a package's `migrations` folder in name order."""
    folder = files(package) / "migrations"
    names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".sql"))
    for name in names:
        yield name, (folder / name).read_text(encoding="utf-8")


async def migrate(dsn: str, service: str | None = None) -> list[str]:
    """Apply what is missing, each file in a transaction of its own; return the names applied.

    Safe to run from several processes at once. Raises MigrationChangedError, and
    ModuleNotFoundError before anything is done.
    """
    packages = ("rapport.messaging", *([service] if service else []))
    known = [(package, *found) for package in packages for found in list_migrations(package)]
    connection = await asyncpg.connect(dsn)
    applied: list[str] = []
    try:
        await connection.execute("select pg_advisory_lock($1)", LOCK_ID)
        await connection.execute(CREATE_TABLE)
        for package, name, sql in known:
            if await _apply(connection, package, name, sql):
                applied.append(f"{package}/{name}")
    finally:
        await connection.close()
    log.info("migrations_applied", names=applied)
    return applied


async def _apply(connection: Connection, package: str, name: str, sql: str) -> bool:
    checksum = sha256(sql.encode()).hexdigest()
    known = await connection.fetchval(
        "select checksum from public.schema_migration where package = $1 and name = $2",
        package,
        name,
    )
    if known is not None:
        if known != checksum:
            msg = f"{package}/{name} was applied with another text; add a new migration instead"
            raise MigrationChangedError(msg)
        return False
    async with connection.transaction():
        await connection.execute(sql)
        await connection.execute(
            "insert into public.schema_migration (package, name, checksum) values ($1, $2, $3)",
            package,
            name,
            checksum,
        )
    return True


async def is_current(connection: Connection, service: str | None) -> bool:
    """Tell whether every migration that this code knows is applied."""
    if await connection.fetchval("select to_regclass('public.schema_migration')") is None:
        return False
    rows = await connection.fetch("select package, name from public.schema_migration")
    known = {(row["package"], row["name"]) for row in rows}
    packages = ("rapport.messaging", *([service] if service else []))
    return all((p, name) in known for p in packages for name, _ in list_migrations(p))
