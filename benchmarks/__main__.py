"""`make bench`: medians of several rounds, ratios within one run, as a table and as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import ours, textbook
from benchmarks.work import fill_outbox, make_topic
from rapport.contracts.registry import STREAMS
from rapport_local.infra import Infra

ROUNDS = 3
OURS = 100_000
TEXTBOOK_RELAY = 10_000
TEXTBOOK_EFFECTS = 3_000


async def run(infra: Infra, rounds: int, scale: int) -> dict[str, Any]:
    """Alternate the contestants, so that a noisy minute hits both."""
    rates: dict[str, list[float]] = {
        name: [] for name in ("relay", "relay_textbook", "effects", "effects_textbook")
    }
    console = Console(stderr=True)
    for number in range(rounds):
        console.print(f"round {number + 1} of {rounds} …")
        await _ours(infra, number, OURS // scale, rates)
        await _textbook(infra, number, scale, rates)
    return summary(rates, rounds)


async def _ours(infra: Infra, number: int, count: int, rates: dict[str, list[float]]) -> None:
    for stream in STREAMS:
        await make_topic(infra.kafka, stream)
    till = await ours.make_database(infra, f"bench_till_{number}")
    book = await ours.make_database(infra, f"bench_book_{number}")
    await fill_outbox(till, count)
    rates["relay"].append(count / await ours.time_relay(till, infra.kafka, count))
    rates["effects"].append(count / await ours.time_effects(book, infra.kafka, count))
    written = await ours.count_rows(book, "rapport.outbox")
    if written != count:
        raise RuntimeError(f"{written} effects of {count}")


async def _textbook(infra: Infra, number: int, scale: int, rates: dict[str, list[float]]) -> None:
    await make_topic(infra.kafka, textbook.TOPIC)
    dsn = await textbook.make_database(infra, f"bench_textbook_{number}")
    await textbook.fill_outbox(dsn, TEXTBOOK_RELAY // scale)
    seconds = await textbook.time_relay(dsn, infra.kafka)
    rates["relay_textbook"].append(TEXTBOOK_RELAY // scale / seconds)
    effects = TEXTBOOK_EFFECTS // scale
    seconds = await textbook.time_effects(dsn, infra.kafka, effects)
    rates["effects_textbook"].append(effects / seconds)


def summary(rates: dict[str, list[float]], rounds: int) -> dict[str, Any]:
    """Return medians and ratios."""
    medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    return {
        "cores": os.cpu_count(),
        "rounds": rounds,
        "unit": "events/s",
        "medians": medians,
        "all": {name: [round(v, 1) for v in values] for name, values in rates.items()},
        "ratios": {
            "relay_textbook": round(medians["relay"] / medians["relay_textbook"], 2),
            "effects_textbook": round(medians["effects"] / medians["effects_textbook"], 2),
        },
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(title=f"medians of {result['rounds']} rounds, {result['cores']} cores")
    for column in ("what", "ours, events/s", "textbook, events/s", "ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    names = {"relay": "backlog → acknowledged by Kafka", "effects": "committed effects, 3 writes"}
    for key, name in names.items():
        mine, theirs = result["medians"][key], result["medians"][f"{key}_textbook"]
        ratio = result["ratios"][f"{key}_textbook"]
        table.add_row(name, f"{mine:,.0f}", f"{theirs:,.0f}", f"{ratio:.1f}")
    Console().print(table)


def main() -> None:
    """Run, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--scale", type=int, default=1, help="divide the work by this")
    arguments = parser.parse_args()
    with Infra() as infra:
        result = asyncio.run(run(infra, arguments.rounds, arguments.scale))
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
