"""`rapport databases`: create what the services need in Postgres."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import asyncpg
import typer

from rapport import databases
from rapport.cli.console import fail, out, print_json
from rapport.contracts.registry import SERVICES

app = typer.Typer(help="Databases and roles: create the missing ones.", no_args_is_help=True)

ROLES = ("owner", "app", "monitor")


@app.callback()
def group() -> None:
    """Databases and roles of the services."""


@app.command()
def apply(
    services: Annotated[
        list[str] | None, typer.Argument(help="All services by default.", show_default=False)
    ] = None,
    admin_dsn: Annotated[
        str | None, typer.Option(envvar="RAPPORT_ADMIN_DSN", help="A superuser's.")
    ] = None,
    admin_dsn_file: Annotated[
        Path | None, typer.Option(envvar="RAPPORT_ADMIN_DSN_FILE", help="Holds the same.")
    ] = None,
    dsn_folder: Annotated[
        Path,
        typer.Option(
            envvar="RAPPORT_DSN_FOLDER",
            help="Has a file <service>_<role>_dsn for each of owner, app, monitor: the DSN that "
            "the role will be used by; its password is set.",
        ),
    ] = Path("/run/secrets"),
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,  # noqa: FBT002
) -> None:
    """Create databases and roles, set passwords that changed, grant what each role may."""
    dsn = admin_dsn or (_read(admin_dsn_file) if admin_dsn_file else None)
    if not dsn:
        fail("wants a superuser by --admin-dsn or --admin-dsn-file")
    changes: list[str] = []
    for service in services or SERVICES:
        passwords = _passwords(dsn_folder, service)
        try:
            changes += asyncio.run(databases.apply(dsn, service, passwords))
        except (OSError, ValueError, asyncpg.PostgresError) as error:
            fail(f"{service}: {error}")
    if as_json:
        print_json({"changes": changes})
    for change in () if as_json else changes or ("nothing to do",):
        out.print(change, highlight=False)


def _passwords(folder: Path, service: str) -> databases.Passwords:
    found = {}
    for role in ROLES:
        path = folder / f"{service}_{role}_dsn"
        parts = urlsplit(_read(path))
        if parts.username != f"{service}_{role}" or not parts.password:
            fail(f"{path}: wants a DSN of {service}_{role} with its password")
        found[role] = unquote(parts.password)
    return databases.Passwords(**found)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        fail(f"{path}: {error.strerror}")
