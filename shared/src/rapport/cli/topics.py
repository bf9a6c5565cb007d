"""`rapport topics`: create and check what the suite needs in Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from rapport.cli.console import fail, out, print_json, print_table
from rapport.topics import Drift, TopicPlan, apply_topics, check_topics

app = typer.Typer(help="Topics: create the missing ones, report drift.", no_args_is_help=True)

Bootstrap = Annotated[
    str, typer.Option(envvar="RAPPORT_KAFKA_BOOTSTRAP", help="Kafka's address, host:port.")
]
Partitions = Annotated[
    int, typer.Option(envvar="RAPPORT_PARTITIONS", min=1, help="One number for the whole suite.")
]
Replication = Annotated[
    int, typer.Option(envvar="RAPPORT_REPLICATION_FACTOR", min=1, help="3 in production.")
]
RetentionDays = Annotated[
    int, typer.Option(envvar="RAPPORT_RETENTION_DAYS", min=1, help="As long as the outbox's.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


@app.command()
def apply(
    bootstrap: Bootstrap,
    partitions: Partitions = 6,
    replication_factor: Replication = 1,
    retention_days: RetentionDays = 14,
    as_json: AsJson = False,  # noqa: FBT002  an option of the command line
) -> None:
    """Create the missing topics; ends with 1 when an existing one differs."""
    plan = TopicPlan(partitions, replication_factor, timedelta(days=retention_days))
    with _kafka_errors(bootstrap):
        created, drift = asyncio.run(apply_topics(bootstrap, plan))
    if as_json:
        print_json({"created": created, "drift": [asdict(item) for item in drift]})
    else:
        for topic in created:
            out.print(f"created {topic}", highlight=False)
        _print_drift(drift)
    raise typer.Exit(1 if drift else 0)


@app.command()
def check(
    bootstrap: Bootstrap,
    partitions: Partitions = 6,
    replication_factor: Replication = 1,
    retention_days: RetentionDays = 14,
    as_json: AsJson = False,  # noqa: FBT002  an option of the command line
) -> None:
    """Report how the topics differ from what they should be; ends with 1 when they do."""
    plan = TopicPlan(partitions, replication_factor, timedelta(days=retention_days))
    with _kafka_errors(bootstrap):
        drift = asyncio.run(check_topics(bootstrap, plan))
    if as_json:
        print_json({"drift": [asdict(item) for item in drift]})
    else:
        _print_drift(drift)
    raise typer.Exit(1 if drift else 0)


@contextmanager
def _kafka_errors(bootstrap: str) -> Iterator[None]:
    """Say in one line that Kafka is away, or what it refused."""
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        fail(f"Kafka at {bootstrap}: {error or 'no answer in time'}")


def _print_drift(drift: list[Drift]) -> None:
    if not drift:
        out.print("all topics are as they should be")
        return
    rows = [(item.topic, item.what, item.wanted, item.found) for item in drift]
    print_table("Drift", ("topic", "what", "wanted", "found"), rows)
