"""One database and three roles for each service, on a Postgres that belongs to the suite.

`<service>_owner` owns the database and runs the migrations, `<service>_app` is the service itself
and changes rows but no tables, `<service>_monitor` reads Postgres's statistics and no rows. A
database is open to its own roles and superusers only.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from hashlib import pbkdf2_hmac, sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rapport.pgtypes import Connection

LOCK_ID = 7_271_502
SERVICE_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
PASSWORD = re.compile(r"[!-~]{12,}")
SCRAM = re.compile(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)")
ITERATIONS = 4096
PLAIN = "login nosuperuser nocreatedb nocreaterole noreplication nobypassrls"

IS_PLAIN = """
select rolcanlogin and not (rolsuper or rolcreatedb or rolcreaterole or rolreplication or
    rolbypassrls) as plain, rolpassword as verifier
from pg_authid where rolname = $1
"""
OWNER_OF = """
select pg_get_userbyid(datdba) as owner from pg_database where datname = $1
"""
OPEN_TO_ALL = """
select datname from pg_database d
where datallowconn and exists (
    select from aclexplode(coalesce(datacl, acldefault('d', datdba))) where grantee = 0)
order by 1
"""
SCHEMAS = """
select nspname from pg_namespace
where nspname !~ '^pg_' and nspname <> 'information_schema' order by 1
"""
ROWS = "select, insert, update, delete"


@dataclass(frozen=True)
class Passwords:
    """The passwords of a service's three roles: at least 12 printable ASCII characters each."""

    owner: str
    app: str
    monitor: str

    @classmethod
    def drawn(cls) -> Passwords:
        """Draw random ones, which need no quoting anywhere."""
        return cls(*(secrets.token_urlsafe(24) for _ in range(3)))


def role_dsn(admin_dsn: str, service: str, role: str, password: str) -> str:
    """Return the DSN of a service's role on the server that `admin_dsn` leads to."""
    parts = urlsplit(admin_dsn)
    place = parts.netloc.rpartition("@")[2]
    netloc = f"{service}_{role}:{quote(password, safe='')}@{place}"
    return urlunsplit(parts._replace(netloc=netloc, path=f"/{service}"))


async def apply(admin_dsn: str, service: str, passwords: Passwords) -> list[str]:
    """Bring a service's database and roles to what they should be; return what had to change.

    `admin_dsn` is a superuser's. Safe to run again, from several processes at once, and on a
    database that has been migrated. Every database of the server is closed to PUBLIC. Objects
    that the owner makes later are the application's to use as well. Raises ValueError for a name
    or password that is not acceptable.
    """
    if not SERVICE_NAME.fullmatch(service):
        raise ValueError(f"{service!r} is no name for a database: {SERVICE_NAME.pattern}")
    for role, password in asdict(passwords).items():
        if not PASSWORD.fullmatch(password):
            raise ValueError(f"password of {service}_{role}: wants 12 printable ASCII characters")
    changes: list[str] = []
    async with _connected(admin_dsn) as admin:
        await admin.execute("select pg_advisory_lock($1)", LOCK_ID)
        for role, password in asdict(passwords).items():
            changes += await _apply_role(admin, f"{service}_{role}", password)
        await admin.execute(f'grant pg_monitor to "{service}_monitor"')
        changes += await _apply_database(admin, service)
        async with _connected(admin_dsn, service) as inside:
            await _grant(inside, f'"{service}_owner"', f'"{service}_app"')
    return changes


@asynccontextmanager
async def _connected(dsn: str, database: str | None = None) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn, database=database)
    try:
        yield connection
    finally:
        await connection.close()


async def _apply_role(admin: Connection, name: str, password: str) -> list[str]:
    """Create or mend a role; the server is told a verifier, so no log ever has the password."""
    row = await admin.fetchrow(IS_PLAIN, name)
    changes = []
    if row is None:
        await admin.execute(f'create role "{name}" {PLAIN}')
        changes.append(f"created role {name}")
    elif not row["plain"]:
        await admin.execute(f'alter role "{name}" {PLAIN}')
        changes.append(f"took rights from role {name}")
    if row is None or not is_verified_by(row["verifier"], password):
        text = verifier(password, secrets.token_bytes(16), ITERATIONS)
        await admin.execute(f"alter role \"{name}\" password '{text}'")
        changes.append(f"set the password of role {name}")
    return changes


async def _apply_database(admin: Connection, service: str) -> list[str]:
    changes = []
    owner = await admin.fetchval(OWNER_OF, service)
    if owner is None:
        await admin.execute(f'create database "{service}" owner "{service}_owner"')
        changes.append(f"created database {service}")
    elif owner != f"{service}_owner":
        await admin.execute(f'alter database "{service}" owner to "{service}_owner"')
        changes.append(f"gave database {service} to {service}_owner")
    for row in await admin.fetch(OPEN_TO_ALL):
        name = row["datname"].replace('"', '""')
        await admin.execute(f'revoke all on database "{name}" from public')
        changes.append(f"closed database {row['datname']} to PUBLIC")
    roles = f'"{service}_app", "{service}_monitor"'
    await admin.execute(f'grant connect on database "{service}" to {roles}')
    return changes


async def _grant(inside: Connection, owner: str, app: str) -> None:
    """Let the application use what is there, and what the owner will make."""
    await inside.execute("revoke create on schema public from public")
    for row in await inside.fetch(SCHEMAS):
        schema = '"' + row["nspname"].replace('"', '""') + '"'
        await inside.execute(
            f"grant usage on schema {schema} to {app};"
            f"grant {ROWS} on all tables in schema {schema} to {app};"
            f"grant usage, select on all sequences in schema {schema} to {app};"
            f"grant execute on all functions in schema {schema} to {app};"
        )
    future = f"alter default privileges for role {owner} grant"
    await inside.execute(
        f"{future} usage on schemas to {app};"
        f"{future} {ROWS} on tables to {app};"
        f"{future} usage, select on sequences to {app};"
        f"{future} execute on functions to {app};"
    )


def verifier(password: str, salt: bytes, iterations: int) -> str:
    """Return what Postgres keeps of a password (RFC 5803)."""
    salted = pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(b).decode() for b in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored64}:{server64}"


def is_verified_by(known: str | None, password: str) -> bool:
    """Tell whether a verifier that Postgres keeps is this password's."""
    match = SCRAM.fullmatch(known or "")
    if match is None:
        return False
    salt = base64.b64decode(match[2])
    return hmac.compare_digest(match[0], verifier(password, salt, int(match[1])))
