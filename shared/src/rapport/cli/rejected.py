"""`rapport rejected`: records that were no events, and resubmitting them."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from rapport.cli.addresses import AsJson
from rapport.cli.console import fail, print_json, print_table
from rapport.cli.parked import rows_of
from rapport.cli.running import ask, find_everywhere

app = typer.Typer(help="Rejected records: see why, resubmit.", no_args_is_help=True)

COLUMNS = ("id", "topic", "partition", "kafka_offset", "reason", "field", "rejected_at")
Id = Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]
Service = Annotated[str, typer.Option(help="The service that rejected it.")]


@app.command(name="list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:  # noqa: FBT002  an option
    """List rejected records of every service."""
    found = ask(context, lambda client: client.get_all("/ops/rejected"))
    if as_json:
        print_json(found)
        return
    rows = [
        (service, *(row.get(name) for name in COLUMNS), row.get("resubmitted_at"))
        for service, answer in found.items()
        for row in rows_of(answer)
    ]
    print_table("Rejected", ("service", *COLUMNS, "resubmitted"), rows)


@app.command()
def show(context: typer.Context, record_id: Id) -> None:
    """Show a rejected record with its headers."""
    found = ask(context, lambda client: find_everywhere(client, f"/ops/rejected/{record_id}"))
    if not found:
        fail(f"no service has rejected a record with id {record_id}")
    print_json({service: msgspec.json.decode(body) for service, body in found.items()})


@app.command()
def resubmit(context: typer.Context, record_id: Id, service: Service = "contacts") -> None:
    """Take a rejected record in again, now that its reason is gone."""
    path = f"/ops/rejected/{record_id}/resubmit"
    answer = ask(context, lambda client: client.post(service, path))
    print_json(msgspec.json.decode(answer.content))
