"""The command `rapport`: what people and scripts ask of a running suite."""

from __future__ import annotations

import sys
from typing import Annotated

import structlog
import typer

from rapport.cli import (
    clock,
    databases,
    events,
    migrate,
    parked,
    position,
    reconcile,
    rejected,
    topics,
)
from rapport.cli.addresses import resolve

app = typer.Typer(
    help="Look into a running Rapport suite and mend it.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.add_typer(events.app, name="events")
app.add_typer(parked.app, name="parked")
app.add_typer(rejected.app, name="rejected")
app.command()(reconcile.reconcile)
app.command()(clock.settle)
app.add_typer(clock.app, name="clock")
app.add_typer(position.app, name="position")
app.add_typer(topics.app, name="topics")
app.add_typer(databases.app, name="databases")
app.command()(migrate.migrate)


@app.callback()
def choose(
    context: typer.Context,
    urls: Annotated[
        str | None,
        typer.Option(
            envvar="RAPPORT_URLS",
            help="Ops ports, as contacts=http://127.0.0.1:9001,… or JSON; else the fixed ports.",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(envvar="RAPPORT_RUNTIME", help="Name of an embedded copy, or its state file."),
    ] = None,
) -> None:
    """Say which suite is meant; what libraries log stays apart from what commands print."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    context.obj = resolve(urls, runtime)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
