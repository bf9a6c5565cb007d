"""`rapport reconcile`: produced against applied, in flight, parked and missing."""

from __future__ import annotations

from typing import Annotated

import typer

from rapport import reconciling
from rapport.cli.addresses import AsJson
from rapport.cli.console import out, print_json, print_table
from rapport.cli.running import ask

COLUMNS = ("stream", "consumer", "produced", "applied", "in flight", "parked", "missing")


def reconcile(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Do not count rows.")] = False,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002  an option of the command line
) -> None:
    """Compare all services; ends with 1 when a number is missing or a row too many."""
    found = ask(context, lambda client: reconciling.reconcile(client, full=not quick))
    if as_json:
        print_json(found)
    else:
        print_reconciliation(found)
    raise typer.Exit(1 if found.differences else 0)


def print_reconciliation(found: reconciling.Reconciliation) -> None:
    """Print the lines per stream and consumer, the outbox, and every difference."""
    rows = [
        (c.stream, c.consumer, c.produced, c.applied, c.in_flight, c.parked, c.missing)
        for c in found.consumed
    ]
    print_table("Reconciliation", COLUMNS, rows)
    if found.written:
        outbox = [(w.stream, w.numbered, w.rows) for w in found.written]
        print_table("Outbox", ("stream", "numbers given", "rows"), outbox)
    for line in found.differences:
        out.print(f"[red]{line}")
