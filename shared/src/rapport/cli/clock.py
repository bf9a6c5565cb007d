"""`rapport settle` and `rapport clock`: wait until nothing is open, move the simulated time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from rapport import settling
from rapport.cli.addresses import AsJson
from rapport.cli.console import err, fail, out, print_json, print_table
from rapport.cli.running import ask
from rapport.opsclient import OpsClient

app = typer.Typer(help="The simulated clock of a development suite.", no_args_is_help=True)

Deadline = Annotated[float, typer.Option(min=0, help="Seconds that each settling may take.")]
Zone = Annotated[
    str, typer.Option(envvar="RAPPORT_ZONE", help="Zone of times that are given without an offset.")
]


def settle(
    context: typer.Context,
    deadline: Deadline = settling.DEADLINE_SECONDS,
    as_json: AsJson = False,  # noqa: FBT002  an option of the command line
) -> None:
    """Wait until nothing is open anywhere; fails after the deadline, naming what is."""
    standings = ask(context, lambda client: settling.settle(client, deadline))
    if as_json:
        print_json(standings)
        return
    rows = [
        (name, sum(s.produced.values()), sum(sum(p.values()) for p in s.positions.values()))
        for name, s in standings.items()
    ]
    print_table("Settled", ("service", "events produced", "events read"), rows)


@app.command()
def show(context: typer.Context, as_json: AsJson = False) -> None:  # noqa: FBT002  an option
    """Show each service's clock and its next due instant."""
    standings = ask(context, settling.read_standings)
    if as_json:
        print_json({n: {"clock": s.clock, "next_due": s.next_due} for n, s in standings.items()})
        return
    rows = [(n, s.clock.now, s.clock.fire_until, s.next_due) for n, s in standings.items()]
    print_table("Clocks", ("service", "now", "timers fire until", "next due"), rows)


@app.command()
def advance(
    context: typer.Context,
    to: Annotated[str, typer.Option(help="RFC 3339, or without an offset in the zone.")],
    zone: Zone = "Europe/Prague",
    deadline: Deadline = settling.DEADLINE_SECONDS,
    as_json: AsJson = False,  # noqa: FBT002  an option of the command line
) -> None:
    """Move the clock from due instant to due instant, settling after each."""
    target = _instant(to, zone)
    reached: list[datetime] = []

    def note(now: datetime) -> None:
        reached.append(now)
        if not as_json:
            out.print(now.astimezone(target.tzinfo).isoformat(), highlight=False)

    async def move(client: OpsClient) -> None:
        await settling.advance_clock(client, target, note, deadline)

    ask(context, move)
    if as_json:
        print_json({"now": target, "steps": reached})


@app.command(name="set")
def set_(
    context: typer.Context,
    to: Annotated[str, typer.Option(help="RFC 3339, or without an offset in the zone.")],
    zone: Zone = "Europe/Prague",
) -> None:
    """Set a fresh suite's clock, without stopping at what is due before."""
    target = _instant(to, zone)
    ask(context, lambda client: settling.set_clock(client, target))
    err.print(f"the clock shows {target.astimezone(UTC).isoformat()}", highlight=False)


def _instant(text: str, zone: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
        return instant if instant.tzinfo else instant.replace(tzinfo=ZoneInfo(zone))
    except (ValueError, KeyError) as error:
        fail(f"--to {text}: {error}")
