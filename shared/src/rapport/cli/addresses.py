"""Where a running suite is: from options, `RAPPORT_URLS`, or a copy's state file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from rapport.cli.console import fail
from rapport.contracts.registry import SERVICES
from rapport.opsclient import DEFAULT_URLS, Urls

DEFAULT_API_URLS = {name: f"http://127.0.0.1:{8001 + n}" for n, name in enumerate(SERVICES)}
STATE_FILE = "state.json"
STATE_FOLDER = Path(".rapport")

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
Dsn = Annotated[
    str | None,
    typer.Option(envvar="RAPPORT_DATABASE_DSN", help="The service's database.", show_envvar=True),
]


@dataclass(frozen=True)
class Addresses:
    """Ops ports, public APIs and databases by service."""

    ops: Urls = field(default_factory=lambda: DEFAULT_URLS)
    api: Mapping[str, str] = field(default_factory=lambda: DEFAULT_API_URLS)
    databases: Mapping[str, str] = field(default_factory=dict)
    kafka: str | None = None


def parse_urls(text: str) -> dict[str, str | list[str]]:
    """Read `contacts=http://…,loyalty=http://…`, or a JSON object; a list names replicas.

    Raises ValueError.
    """
    if text.lstrip().startswith("{"):
        found = json.loads(text)
    else:
        pairs = [item.partition("=") for item in text.split(",") if item.strip()]
        found = {name.strip(): url.strip() for name, _, url in pairs}
    unknown = set(found) - set(SERVICES)
    if unknown or not all(found.values()):
        msg = f"wants service=URL for {', '.join(SERVICES)}, or the same as a JSON object"
        raise ValueError(msg)
    return dict(found)


def ops_urls(urls: Mapping[str, str]) -> Urls:
    """Pick the ops ports out of a copy's addresses by port name, the first replica first."""
    found: dict[str, list[str]] = {service: [] for service in SERVICES}
    for port, url in sorted(urls.items(), key=lambda item: (len(item[0]), item[0])):
        service, *rest = port.split("-")
        if service in SERVICES and rest[-1:] == ["ops"]:
            found[service].append(url)
    return {service: listed for service, listed in found.items() if listed}


def from_state(name: str) -> Addresses:
    """Read the state file of an embedded copy; `name` is its name below `.rapport`, or a path."""
    given = Path(name)
    path = given if given.is_file() else STATE_FOLDER / name / STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        urls: dict[str, str] = state["urls"]
        api = {service: urls[service] for service in SERVICES if service in urls}
        return Addresses(ops_urls(urls), api, state["databases"], state["kafka"])
    except (OSError, ValueError, KeyError) as error:
        fail(f"no running copy is described by {path}: {error}")


def resolve(urls: str | None, runtime: str | None) -> Addresses:
    """Return the addresses that options ask for; the fixed ports without any."""
    base = from_state(runtime) if runtime else Addresses()
    if not urls:
        return base
    try:
        ops = parse_urls(urls)
    except ValueError as error:
        fail(f"--urls: {error}")
    return Addresses(ops, base.api, base.databases, base.kafka)


def addresses(context: typer.Context) -> Addresses:
    """Return what the options before the command say."""
    found = context.find_object(Addresses)
    return found or Addresses()
