"""`rapport events`: an event's journey, and publishing external events from a file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import typer
from rich.tree import Tree

from rapport.cli import console
from rapport.cli.addresses import AsJson, addresses
from rapport.cli.console import fail, out, print_json, print_table
from rapport.cli.running import ask
from rapport.journeys import Hop, as_json, follow, moment
from rapport.messaging.ids import derived_id

app = typer.Typer(help="Events: follow one, publish external ones.", no_args_is_help=True)

BATCH_TYPE = "application/cloudevents-batch+json"
BATCH = 1_000


@app.command()
def show(
    context: typer.Context,
    event_id: Annotated[str, typer.Argument(metavar="ID", help="Of an event, command or timer.")],
    source: Annotated[
        str | None, typer.Option(help="ID is an external event's, of this source.")
    ] = None,
    as_json_: AsJson = False,  # noqa: FBT002  an option of the command line
) -> None:
    """Tell an event's journey: written, numbered, applied, and what it caused."""
    wanted = str(derived_id("external", source, event_id)) if source else event_id
    journey = ask(context, lambda client: follow(client, wanted))
    if not journey.known():
        fail(f"no service knows {event_id}")
    if as_json_:
        print_json(as_json(journey))
    else:
        console.show(draw(journey))


def draw(journey: Hop) -> Tree:
    """Return a journey as a tree, with times from its first writing on."""
    times = [hop.written_at for hop in journey.walk() if hop.written_at]
    begin = min(times) if times else None
    return _draw(journey, begin)


def _draw(hop: Hop, begin: datetime | None) -> Tree:
    tree = Tree(_headline(hop, begin))
    if hop.accepted:
        tree.add(f"accepted as {hop.accepted['id']} of {hop.accepted['source']}")
    for service, rows in hop.applied.items():
        for row in rows:
            at = _after(moment(row["committed_at"]), begin)
            tree.add(f"{service} applied it {at} (attempts {row['attempts']})")
    for service, rows in hop.parked.items():
        tree.add(f"[red]{service} parked it: {rows[0].get('reason')} {rows[0].get('error')}")
    for child in hop.caused:
        tree.children.append(_draw(child, begin))
    return tree


def _headline(hop: Hop, begin: datetime | None) -> str:
    if not hop.written:
        return f"{hop.type} {hop.id}"
    place = f"number {hop.written.get('number')} of partition {hop.written.get('partition')}"
    return f"[bold]{hop.type}[/] {hop.id} {_after(hop.written_at, begin)}, {place}"


def _after(at: datetime | None, begin: datetime | None) -> str:
    if at is None or begin is None:
        return ""
    return f"+{(at - begin).total_seconds() * 1000:,.0f} ms"


@app.command()
def publish(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CloudEvents: a JSON list, or one per line.")],
    api: Annotated[
        str | None, typer.Option(envvar="RAPPORT_CONTACTS_URL", help="Public API of contacts.")
    ] = None,
    as_json_: AsJson = False,  # noqa: FBT002  an option of the command line
) -> None:
    """Publish external events through HTTP; ends with 1 when one is rejected."""
    url = f"{api or addresses(context).api['contacts']}/v1/events"
    events = read_events(file)
    results: list[dict[str, Any]] = []
    with httpx.Client(timeout=60, trust_env=False) as client:
        for start in range(0, len(events), BATCH):
            results += _post(client, url, events[start : start + BATCH])
    rejected = [result for result in results if result["status"] == "rejected"]
    if as_json_:
        print_json(results)
    else:
        counts = {s: sum(r["status"] == s for r in results) for s in ("accepted", "duplicate")}
        rows = [*counts.items(), ("rejected", len(rejected))]
        print_table("Published", ("result", "events"), rows)
        for result in rejected:
            out.print(f"{result.get('id')}: {result.get('reason')}", markup=False)
    raise typer.Exit(1 if rejected else 0)


def read_events(file: Path) -> list[Any]:
    """Read a JSON list or JSON lines."""
    try:
        text = file.read_bytes()
        if text.lstrip().startswith(b"["):
            return list(msgspec.json.decode(text))
        return [msgspec.json.decode(line) for line in text.splitlines() if line.strip()]
    except (OSError, msgspec.DecodeError) as error:
        fail(f"{file}: {error}")


def _post(client: httpx.Client, url: str, events: list[Any]) -> list[dict[str, Any]]:
    try:
        answer = client.post(
            url, content=msgspec.json.encode(events), headers={"content-type": BATCH_TYPE}
        )
    except httpx.TransportError as error:
        fail(f"{url}: {error}")
    if answer.status_code != httpx.codes.ACCEPTED:
        fail(f"{url}: HTTP {answer.status_code}: {answer.text[:500]}")
    results: list[dict[str, Any]] = answer.json()["results"]
    return results
