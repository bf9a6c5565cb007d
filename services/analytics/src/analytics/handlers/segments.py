"""A segment's rule changes: everybody is judged by the new version, in small transactions."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from analytics.handlers.figures import Figures
from analytics.store import parameters, segments
from rapport.database import Database
from rapport.messaging.delivery import Command
from rapport.messaging.transaction import Tx

CHUNK = 500
LOWEST = UUID(int=0)


async def change_rule(tx: Tx, code: str, rule: dict[str, Any]) -> int:
    """Put a rule in force and return its version; the rule in force stays as it is."""
    for summary in await segments.list_summaries(tx, code):
        if summary["rule"] == rule:
            version: int = summary["version"]
            return version
    return await parameters.add_segment_version(tx, code, rule)


async def judge_all(database: Database, code: str, trace: str | None) -> int:
    """Let everybody enter or leave whom the rule in force says; return how many crossed.

    One transaction per 500 contacts; interrupted, it is simply called again. Whoever a consumer
    judges meanwhile has crossed already and is left alone.
    """
    after, crossed = LOWEST, 0
    while True:
        async with database.read() as tx:
            outdated = await segments.list_outdated(tx, code, after, CHUNK)
        if not outdated:
            return crossed
        # A command each: ids of events are counted per command and transaction.
        command = Command.drawn(trace=trace)
        crossed += await database.transact(partial(judge, contacts=outdated, command=command))
        after = outdated[-1]


async def judge(tx: Tx, contacts: list[UUID], command: Command) -> int:
    """Bring the memberships of these contacts up to date; return the number of crossings."""
    canonical = await tx.lock_keys(contacts)
    figures = await Figures.open(tx)
    await figures.load({canonical[c] for c in contacts})
    for contact in sorted(figures.profiles):
        figures.judge(figures.profiles[contact], command)
    await figures.save()
    return len(figures.crossings)
