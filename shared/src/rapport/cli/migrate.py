"""`rapport migrate`: bring a service's database up to date."""

from __future__ import annotations

import asyncio
from typing import Annotated

import asyncpg
import typer

from rapport import migrate as migrations
from rapport.cli.addresses import AsJson, Dsn, addresses
from rapport.cli.console import fail, out, print_json


def migrate(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="Name of the service's package.")],
    dsn: Dsn = None,
    as_json: AsJson = False,  # noqa: FBT002  an option of the command line
) -> None:
    """Apply the migrations that are missing, the core's and the service's."""
    address = dsn or addresses(context).databases.get(service)
    if not address:
        fail("wants the database by --dsn, RAPPORT_DATABASE_DSN or --runtime")
    try:
        applied = asyncio.run(migrations.migrate(address, service))
    except ModuleNotFoundError as error:
        fail(f"{service} is not installed: {error}")
    except (OSError, asyncpg.PostgresError, migrations.MigrationChangedError) as error:
        fail(f"{service}: {error}")
    if as_json:
        print_json({"applied": applied})
    for name in () if as_json else applied or ("nothing to do",):
        out.print(name, highlight=False)
