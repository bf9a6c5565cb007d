"""`rapport parked`: what waits for a repair, and what is done about it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from rapport.cli.addresses import AsJson
from rapport.cli.console import err, fail, out, print_json, print_table
from rapport.cli.running import ask, find_everywhere

app = typer.Typer(help="Parked events: see why, redrive, discard.", no_args_is_help=True)

Service = Annotated[str, typer.Argument(help="The service that parked it.")]
Contact = Annotated[str, typer.Argument(metavar="CONTACT", help="A contact's id.")]
COLUMNS = ("id", "type", "reason", "error", "attempts")


@app.command(name="list")
def list_(context: typer.Context, as_json: AsJson = False) -> None:  # noqa: FBT002  an option
    """List parked events of every service."""
    found = ask(context, lambda client: client.get_all("/ops/parked"))
    if as_json:
        print_json(found)
        return
    rows = [
        (service, *(row.get(name) for name in COLUMNS), place_of(row), *row["contacts"][:1])
        for service, answer in found.items()
        for row in rows_of(answer)
    ]
    print_table("Parked", ("service", *COLUMNS, "place", "contact"), rows)


def place_of(row: dict[str, Any]) -> str:
    """Return where an event stands in its stream."""
    return f"{row['stream']} {row['partition']}:{row['number']}"


def rows_of(answer: Any) -> list[dict[str, Any]]:  # noqa: ANN401  decoded JSON
    """Return the items of a list that may be wrapped."""
    return list(answer.get("items", ())) if isinstance(answer, dict) else list(answer)


@app.command()
def show(
    context: typer.Context,
    parked_id: Annotated[
        str, typer.Argument(metavar="ID", help="As `list` shows it, or event id.")
    ],
) -> None:
    """Show one parked event with everything that is known of it."""
    found = ask(context, lambda client: find_everywhere(client, f"/ops/parked/{parked_id}"))
    if not found:
        fail(f"no service has parked {parked_id}")
    print_json({service: msgspec.json.decode(body) for service, body in found.items()})


@app.command()
def redrive(
    context: typer.Context,
    service: Service,
    contact_id: Contact,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show, and roll back.")] = False,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002  an option of the command line
) -> None:
    """Apply a contact's parked events, and those that hang together with them, in order."""
    body = {"contact_id": contact_id, "dry_run": dry_run}
    answer = ask(context, lambda client: client.post(service, "/ops/parked/redrive", body))
    done = msgspec.json.decode(answer.content)
    if as_json:
        print_json(done)
        return
    verb = "would be applied" if dry_run else "applied"
    out.print(f"{len(done['events'])} events of {len(done['contacts'])} contacts {verb}")
    for change in done.get("changes") or ():
        out.print(f"[bold]{change['table']}[/]")
        for sign, rows in (("-", change["before"]), ("+", change["after"])):
            for row in rows:
                out.print(f"  {sign} {msgspec.json.encode(row).decode()}", markup=False)
    names = ("id", "type", "key")
    rows = [[event.get(name) for name in names] for event in done.get("published") or ()]
    print_table("Published" if not dry_run else "Would be published", names, rows)


@app.command()
def discard(
    context: typer.Context,
    service: Service,
    contact_id: Contact,
    reason: Annotated[str, typer.Option(help="Kept in the audit.")],
    as_json: AsJson = False,  # noqa: FBT002  an option of the command line
) -> None:
    """Delete a contact's parked events without applying them; audited."""
    body = {"contact_id": contact_id, "reason": reason}
    answer = ask(context, lambda client: client.post(service, "/ops/parked/discard", body))
    done = msgspec.json.decode(answer.content)
    if as_json:
        print_json(done)
    else:
        err.print(f"{len(done['events'])} events discarded")
