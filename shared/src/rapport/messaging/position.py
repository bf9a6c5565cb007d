"""Where a consumer stands in each stream partition, and what a record's number means there."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rapport.messaging.gate import Reached
    from rapport.pgtypes import Connection


class Step(enum.Enum):
    """What to do with a record: its number decides, never its place in the log."""

    APPLY = "apply"
    SKIP = "skip"
    DISCARD = "discard"
    DROP = "drop"
    REFUSE = "refuse"


def step(epoch: int, number: int, record_epoch: int, record_number: int) -> Step:
    """Decide for a record of (record_epoch, record_number) at position (epoch, number).

    A lower epoch is dropped; a higher one is refused here, only its opening record may raise the
    epoch. A gap is discarded and reading goes on: the resend lies behind it.
    """
    if record_epoch < epoch:
        return Step.DROP
    if record_epoch > epoch:
        return Step.REFUSE
    if record_number <= number:
        return Step.SKIP
    return Step.APPLY if record_number == number + 1 else Step.DISCARD


@dataclass(slots=True)
class Position:
    """A row of `rapport.position`."""

    partition: int
    epoch: int
    number: int
    kafka_offset: int
    stopped: str | None = None


class PositionsMissingError(Exception):
    """No position row for a partition: `rapport position init` has not been run."""


LIST_POSITIONS = "select stream, partition, epoch, number from rapport.position"
FIND_POSITIONS = """
select partition, epoch, number, kafka_offset, stopped from rapport.position
where stream = $1 and partition = any($2::int[])
"""
INIT_POSITIONS = """
insert into rapport.position (stream, partition, number)
select s, p, $3 from unnest($1::text[]) s, generate_series(0, $2::int - 1) p
on conflict do nothing
"""
STOP = """
update rapport.position set stopped = $4, resume = false
where stream = $1 and partition = $2 and number = $3
"""
TAKE_RESUMED = """
update rapport.position set resume = false
where stream = $1 and partition = any($2::int[]) and resume returning partition
"""
RESUME = """
update rapport.position set resume = true
where stream = $1 and ($2::int is null or partition = $2) and stopped is not null
returning partition
"""


async def list_reached(connection: Connection) -> Reached:
    """Return every committed position of this service."""
    rows = await connection.fetch(LIST_POSITIONS)
    return {(r["stream"], r["partition"]): (r["epoch"], r["number"]) for r in rows}


async def find_positions(
    connection: Connection, stream: str, partitions: Sequence[int]
) -> dict[int, Position]:
    """Return the rows of these partitions; raises PositionsMissingError."""
    rows = await connection.fetch(FIND_POSITIONS, stream, list(partitions))
    found = {r["partition"]: Position(*r.values()) for r in rows}
    if missing := sorted(set(partitions) - found.keys()):
        msg = f"no position for {stream} partitions {missing}; run `rapport position init`"
        raise PositionsMissingError(msg)
    return found


async def init_positions(
    connection: Connection, streams: Sequence[str], partitions: int, number: int = 0
) -> None:
    """Create missing rows at `number`, the last event that counts as applied."""
    await connection.execute(INIT_POSITIONS, list(streams), partitions, number)
