"""What the demo says at its end: tables for people, and a JSON report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rapport.reconciling import Reconciliation, as_rows
from rapport_local.demo.check import Check
from rapport_local.demo.figures import Latency
from rapport_local.demo.life import Lived
from rapport_local.demo.publish import COPIES

SMALL = 100
DIFFERS = "DIFFERS"


@dataclass
class Reading:
    """Totals at one moment, compared; `day` is the last day whose events were published."""

    day: date
    totals: Mapping[str, Mapping[str, Any]]
    mails: Mapping[str, int]
    reconciliation: Reconciliation
    checks: Sequence[Check]
    differences: Sequence[str]


@dataclass
class Report:
    """Everything that the demo found out."""

    options: Mapping[str, Any]
    readings: list[Reading] = field(default_factory=list)
    lived: Lived | None = None
    bgnbd: Mapping[str, Any] = field(default_factory=dict)
    latency: Mapping[str, Latency] = field(default_factory=dict)
    memory_mb: Mapping[str, float] = field(default_factory=dict)
    journey: Sequence[tuple[str, str, str]] = ()
    journey_of: str = ""
    seconds: float = 0.0

    @property
    def agrees(self) -> bool:
        """Tell whether every total agreed, each time."""
        return bool(self.readings) and not any(r.differences for r in self.readings)

    @property
    def last(self) -> Reading:
        """The reading at the end."""
        return self.readings[-1]

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        path.write_text(json.dumps(self.as_json(), indent=2, default=str) + "\n")

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        last = self.last
        contacts, loyalty = last.totals["contacts"], last.totals["loyalty"]
        analytics, messages = last.totals["analytics"], last.totals["notifications"]
        return {
            "agrees": self.agrees,
            "differences": [line for r in self.readings for line in _dated(r)],
            "options": dict(self.options),
            "contacts": contacts.get("contacts"),
            "purchases": contacts.get("purchases"),
            "refunds": contacts.get("refunds"),
            "revenue_minor": analytics.get("revenue_minor"),
            "revenue_gross_minor": analytics.get("revenue_gross_minor"),
            "points": loyalty.get("points"),
            "messages": messages.get("messages"),
            "suppressed": messages.get("reasons"),
            "mails": last.mails.get("total"),
            "segment_members": analytics.get("segment_members"),
            "facts": analytics.get("facts"),
            "bgnbd": dict(self.bgnbd),
            "reconciliation": as_json(last.reconciliation),
            "throughput": self.throughput(),
            "latency_ms": {name: asdict(figures) for name, figures in self.latency.items()},
            "memory_mb": dict(self.memory_mb),
            "seconds": round(self.seconds, 1),
            "checked": {r.day.isoformat(): dict(r.totals) for r in self.readings},
            "journey": {"of": self.journey_of, "hops": [list(line) for line in self.journey]},
        }

    def throughput(self) -> dict[str, float]:
        """Return rates of the bulk, from the first event's sending until nothing was open."""
        lived = self.lived
        if lived is None or not lived.bulk_seconds:
            return {}
        seconds = lived.bulk_seconds
        return {
            "bulk_events": lived.bulk_events,
            "bulk_seconds": round(seconds, 1),
            "events_per_second": round(lived.bulk_events / seconds, 1),
            "copies_per_second": round(COPIES * lived.bulk_events / seconds, 1),
            "internal_events_per_second": round(lived.bulk_published / seconds, 1),
            "live_seconds": round(lived.live_seconds, 1),
        }


def _dated(reading: Reading) -> list[str]:
    return [f"{reading.day}: {line}" for line in reading.differences]


def as_json(reconciliation: Reconciliation) -> dict[str, Any]:
    """Return a reconciliation as plain values, its sums first."""
    return {
        "in_flight": reconciliation.in_flight,
        "parked": reconciliation.parked,
        "missing": reconciliation.missing,
        "streams": as_rows(reconciliation),
        "outbox": [asdict(written) for written in reconciliation.written],
        "differences": reconciliation.differences,
    }


def print_report(report: Report, console: Console) -> None:
    """Print totals, reconciliation, figures, the journey and every difference."""
    _print_checks(report.readings, console)
    _print_reconciliation(report.last.reconciliation, console)
    _print_figures(report, console)
    if report.journey:
        title = f"Journey of {report.journey_of}"
        console.print(_table(title, ("after", "service", "what"), report.journey))
    for reading in report.readings:
        for line in _dated(reading):
            console.print(f"DIFFERENT  {line}", style="bold red", markup=False)
    verdict = "every total agrees" if report.agrees else "there are differences"
    console.print(verdict, style="bold green" if report.agrees else "bold red")


def _print_checks(readings: Sequence[Reading], console: Console) -> None:
    columns = ["service", "total"]
    for reading in readings:
        columns += [f"counted to {reading.day}", "found"]
    by_name = [{(c.service, c.name): c for c in reading.checks} for reading in readings]
    rows = []
    for key in dict.fromkeys(key for checks in by_name for key in checks):
        found = [checks.get(key) for checks in by_name]
        pairs = [value for c in found for value in ((c.expected, c.found) if c else ("", ""))]
        flag = "" if all(c is None or c.agrees for c in found) else DIFFERS
        rows.append([*key, *pairs, flag])
    console.print(_table("Totals", [*columns, ""], rows))


def _print_reconciliation(reconciliation: Reconciliation, console: Console) -> None:
    rows = [
        (c.stream, c.consumer, c.produced, c.applied, c.in_flight, c.parked, c.missing)
        for c in reconciliation.consumed
    ]
    columns = ("stream", "consumer", "produced", "applied", "in flight", "parked", "missing")
    console.print(_table("Reconciliation", columns, rows))


def _print_figures(report: Report, console: Console) -> None:
    rates = report.throughput()
    rows = [(name.replace("_", " "), value) for name, value in rates.items()]
    rows += [(f"BG/NBD {name}", float(value)) for name, value in report.bgnbd.items()]
    for consumer, latency in report.latency.items():
        rows.append((f"commit → effect in {consumer}, p50 ms", latency.p50))
        rows.append((f"commit → effect in {consumer}, p99 ms", latency.p99))
    rows += [(f"memory of {name}, MB", mb) for name, mb in report.memory_mb.items()]
    if rows:
        console.print(_table("Figures", ("figure", "value"), rows))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and isinstance(rows[0][index], int | float)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        style = "bold red" if DIFFERS in row else None
        table.add_row(*(_cell(value) for value in row), style=style)
    return table


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < SMALL else f"{value:,.1f}"
    if isinstance(value, bool) or not isinstance(value, int):
        return "missing" if value is None else str(value)
    return f"{value:,}"
