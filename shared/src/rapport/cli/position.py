"""`rapport position`: where consumers stand, first positions, and resuming a stopped partition."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import asyncpg
import typer

from rapport.cli.addresses import AsJson, Dsn, addresses
from rapport.cli.console import err, fail, print_json, print_table
from rapport.cli.parked import rows_of
from rapport.cli.running import ask
from rapport.contracts.base import stream_of
from rapport.contracts.registry import INBOUND, SERVICES, STREAMS
from rapport.messaging.position import init_positions

app = typer.Typer(help="Consumer positions.", no_args_is_help=True)

COLUMNS = ("stream", "partition", "epoch", "number", "kafka_offset", "stopped")


@app.command()
def show(context: typer.Context, as_json: AsJson = False) -> None:  # noqa: FBT002  an option
    """Show every service's positions."""
    found = ask(context, lambda client: client.get_all("/ops/positions"))
    if as_json:
        print_json(found)
        return
    rows = [
        (service, *(row.get(name) for name in COLUMNS))
        for service, answer in found.items()
        for row in rows_of(answer)
    ]
    print_table("Positions", ("service", *COLUMNS), rows)


@app.command()
def init(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="Whose positions.")],
    at: Annotated[int, typer.Option(min=0, help="Last number that counts as applied.")] = 0,
    dsn: Dsn = None,
    partitions: Annotated[int, typer.Option(envvar="RAPPORT_PARTITIONS", min=1)] = 6,
) -> None:
    """Create a service's missing positions, before its first start or with an imported state."""
    address = dsn or addresses(context).databases.get(service)
    if service not in SERVICES or not address:
        fail(f"wants one of {', '.join(SERVICES)}, and its database by --dsn or --runtime")
    inbound = [INBOUND] if service == "contacts" else []
    streams = [s for s in STREAMS if s != stream_of(service)] + inbound
    try:
        asyncio.run(_init(address, streams, partitions, at))
    except (OSError, asyncpg.PostgresError) as error:
        fail(f"{service}: {error}")
    err.print(f"{service} has a position in {partitions} partitions of {', '.join(streams)}")


async def _init(dsn: str, streams: Sequence[str], partitions: int, number: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await init_positions(connection, streams, partitions, number)
    finally:
        await connection.close()


@app.command()
def resume(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="The consumer that stopped.")],
    stream: Annotated[str, typer.Argument(help="The stream it reads, or its owner.")],
    partition: Annotated[int | None, typer.Argument(help="All stopped ones by default.")] = None,
) -> None:
    """Let a stopped partition try its next event at once."""
    named = stream_of(stream) if stream in SERVICES else stream
    body = {"stream": named, "partition": partition}
    ask(context, lambda client: client.post(service, "/ops/positions/resume", body))
    err.print(f"{service} tries again in {named}", highlight=False)
