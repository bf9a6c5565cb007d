"""A service's three roles: each is kept out of the other databases, and its own is enough."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest
from typer.testing import CliRunner

from rapport.cli.main import app as command_line
from rapport.contracts.contacts import PurchaseRecorded
from rapport.contracts.registry import INBOUND, SERVICES, TOPICS
from rapport.database import connect
from rapport.databases import Passwords, apply, is_verified_by, role_dsn
from rapport.messaging import retention
from rapport.messaging.position import init_positions
from rapport.migrate import is_current, migrate
from rapport.testing.inprocess import until
from tests.flows.toys import PARTITIONS, SCHEMA, Toys, buy, enter, fetch, points

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from rapport_local.infra import Infra

PASSWORDS = Passwords.drawn()
ACCESS = """
select 'database', datname, datacl::text from pg_database union all
select 'schema', nspname, nspacl::text from pg_namespace union all
select 'table', oid::regclass::text, relacl::text from pg_class union all
select 'function', oid::regprocedure::text, proacl::text from pg_proc where proacl is not null
union all select 'default', defaclobjtype::text, defaclacl::text from pg_default_acl order by 1, 2
"""
OLD = """
create table rapport.{0}_20200101 partition of rapport.{0}
    for values from ('2020-01-01 00:00+00') to ('2020-01-02 00:00+00')
"""


class RoleToys(Toys):
    """Toys whose databases belong to an owner, while the services run as the application."""

    def dsn(self, service: str, role: str) -> str:
        """Return the DSN of a role; this server trusts every password."""
        return role_dsn(self.infra.dsn("postgres"), f"{self.prefix}_{service}", role, "any")

    async def database(self, service: str) -> str:
        """Create and migrate, then return the application's DSN."""
        name, owner = f"{self.prefix}_{service}", self.dsn(service, "owner")
        if await apply(self.infra.dsn("postgres"), name, PASSWORDS):
            await migrate(owner)
            connection = await asyncpg.connect(owner)
            await connection.execute(SCHEMA)
            await init_positions(connection, [*TOPICS[:-1], INBOUND], PARTITIONS)
            await connection.close()
        return self.dsn(service, "app")


@pytest.fixture
async def role_toys(infra: Infra) -> AsyncIterator[RoleToys]:
    made = RoleToys(infra, f"t{secrets.token_hex(4)}")
    yield made
    await made.stop()


async def try_to(dsn: str, *statements: str) -> list[str]:
    """Return those statements for which the role has the privileges."""
    connection = await asyncpg.connect(dsn)
    allowed = []
    for statement in statements:
        try:
            await connection.execute(statement)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.RaiseError):
            continue
        allowed.append(statement)
    await connection.close()
    return allowed


async def test_each_role_is_refused_by_every_other_database(role_toys: RoleToys) -> None:
    for service in ("contacts", "loyalty"):
        await role_toys.database(service)
    others = ("postgres", "template1", f"{role_toys.prefix}_contacts")
    for role in ("owner", "app", "monitor"):
        dsn = role_toys.dsn("loyalty", role)
        assert await try_to(dsn, "select 1") == ["select 1"]
        for other in others:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await asyncpg.connect(dsn, database=other)


async def test_the_application_changes_rows_and_nothing_else(role_toys: RoleToys) -> None:
    dsn = await role_toys.database("loyalty")
    refused = (
        *(
            "create table t (n int)",
            "create table rapport.t (n int)",
            "create temp table t (n int)",
        ),
        *("create schema s", "create function f() returns int language sql as 'select 1'"),
        *("drop table book", "drop table rapport.tick", "drop schema rapport cascade"),
        *("alter table book add column n int", "truncate book", "truncate rapport.outbox"),
        *("alter system set work_mem = 1", "create role r", "create database d"),
        *(f'set role "{role_toys.prefix}_loyalty_owner"', "select * from pg_authid"),
        *("select rapport.drop_partition('book')", "select rapport.ensure_partitions(9999)"),
        "select rapport.drop_partition('outbox_' || to_char(now() at time zone 'UTC', 'YYYYMMDD'))",
    )
    assert await try_to(dsn, *refused) == []
    allowed = ("insert into book values (gen_random_uuid(), 1)", "update book set points = 2")
    assert await try_to(dsn, *allowed, "delete from book") == [*allowed, "delete from book"]
    monitor = role_toys.dsn("loyalty", "monitor")
    assert await try_to(monitor, "select * from book", "select rapport.ensure_partitions(1)") == []
    assert await try_to(monitor, "select query from pg_stat_activity")


async def test_a_service_runs_whole_as_its_application(role_toys: RoleToys) -> None:
    """Relay, handler, positions, lease; and partitions come and go though it may not make any."""
    await role_toys.fresh_topics()
    till = await role_toys.start("contacts", {})
    book = await role_toys.start("loyalty", {PurchaseRecorded: enter})
    contact = uuid4()
    await buy(till, contact, [5, 7])

    async def arrived() -> bool:
        return await points(book, contact) == 12

    await until(arrived, "both purchases in the book")
    who = await fetch(book, "select current_user::text as name")
    assert who[0]["name"] == f"{role_toys.prefix}_loyalty_app"
    owner = await asyncpg.connect(role_toys.dsn("loyalty", "owner"))
    for table in ("outbox", "batch_log"):
        await owner.execute(OLD.format(table))
    tomorrows = "select to_char((now() at time zone 'UTC')::date + 7, 'YYYYMMDD')"
    await owner.execute(f"drop table rapport.outbox_{await owner.fetchval(tomorrows)}")
    days = "select count(*) from pg_inherits where inhparent = 'rapport.outbox'::regclass"
    dropped = await retention.run(role_toys.dsn("loyalty", "app"), 14)
    assert dropped == ["batch_log_20200101", "outbox_20200101"]
    assert await owner.fetchval(days) == 9
    await owner.close()


async def test_an_old_day_in_use_is_left_for_the_next_run(
    role_toys: RoleToys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0)
    dsn = await role_toys.database("loyalty")
    owner = await asyncpg.connect(role_toys.dsn("loyalty", "owner"))
    await owner.execute(OLD.format("outbox"))
    async with owner.transaction():
        await owner.execute("lock table rapport.outbox in row exclusive mode")
        assert await retention.run(dsn, 14) == []
    assert await retention.run(dsn, 14) == ["outbox_20200101"]
    await owner.close()


@pytest.mark.parametrize("service", SERVICES)
async def test_migrations_need_no_more_than_the_owner(infra: Infra, service: str) -> None:
    admin, name = infra.dsn("postgres"), f"o{uuid4().hex[:8]}"
    await apply(admin, name, PASSWORDS)
    await migrate(role_dsn(admin, name, "owner", "any"), service)
    app = await connect(role_dsn(admin, name, "app", "any"))
    assert await is_current(app, service)
    await app.close()


async def test_again_changes_nothing_and_sets_a_new_password(role_toys: RoleToys) -> None:
    await role_toys.database("loyalty")
    name, admin = f"{role_toys.prefix}_loyalty", role_toys.infra.dsn("postgres")
    connection = await asyncpg.connect(admin, database=name)
    before = await connection.fetch(ACCESS)
    assert await apply(admin, name, PASSWORDS) == []
    assert await connection.fetch(ACCESS) == before
    changed = replace(PASSWORDS, app='it\'s "another" \\ one')
    with pytest.raises(ValueError, match="ASCII"):
        await apply(admin, name, changed)
    changed = replace(PASSWORDS, app='it\'s-"another"-\\-one;--')
    assert await apply(admin, name, changed) == [f"set the password of role {name}_app"]
    ask = "select rolpassword from pg_authid where rolname = $1"
    kept = await connection.fetchval(ask, f"{name}_app")
    assert is_verified_by(kept, changed.app)
    assert not is_verified_by(kept, PASSWORDS.app)
    await connection.close()


async def test_a_database_that_was_migrated_before_is_opened_to_its_application(
    role_toys: RoleToys,
) -> None:
    await role_toys.database("loyalty")
    name, admin = f"{role_toys.prefix}_loyalty", role_toys.infra.dsn("postgres")
    inside = await asyncpg.connect(admin, database=name)
    await inside.execute(
        f'revoke all on all tables in schema public, rapport from "{name}_app";'
        f'revoke all on all functions in schema rapport from "{name}_app"'
    )
    await inside.close()
    dsn, wanted = role_toys.dsn("loyalty", "app"), "select * from rapport.key"
    assert await try_to(dsn, wanted) == []
    await apply(admin, name, PASSWORDS)
    assert await try_to(dsn, wanted) == [wanted]
    assert await retention.run(dsn, 14) == []


@pytest.mark.parametrize("name", ["", "Loyalty", 'x"; drop table t; --', "1st"])
async def test_a_name_that_needs_quoting_is_refused(infra: Infra, name: str) -> None:
    with pytest.raises(ValueError, match="no name for a database"):
        await apply(infra.dsn("postgres"), name, PASSWORDS)


def test_the_command_reads_what_the_services_will_use(infra: Infra, tmp_path: Path) -> None:
    """The files hold DSNs; those of the application are what the services get as a secret."""
    name, run = f"c{uuid4().hex[:8]}", CliRunner().invoke
    command = ["databases", "apply", name, "--dsn-folder", str(tmp_path)]
    command += ["--admin-dsn", infra.dsn("postgres"), "--json"]
    refused = run(command_line, command)
    assert refused.exit_code == 1
    assert f"{name}_owner_dsn" in refused.stderr
    for role in ("owner", "app", "monitor"):
        dsn = role_dsn("postgresql://postgres@db:5432/postgres", name, role, f"{role}/p@ss:word")
        (tmp_path / f"{name}_{role}_dsn").write_text(f"{dsn}\n")
    done = run(command_line, command)
    assert done.exit_code == 0, done.stderr
    assert f"created role {name}_app" in json.loads(done.stdout)["changes"]
    assert json.loads(run(command_line, command).stdout) == {"changes": []}
