"""Any cut of a list of external events into calls gives the same rows and events."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rapport.messaging.ids import derived_id
from rapport.messaging.inbox import External
from rapport.pgtypes import Connection
from services.contacts.tests.door import Door
from services.contacts.tests.events import event, purchase, refund

ADA = derived_id("contact", "cdnow", "7")
TABLES = {
    "contact": "*",
    "reference": "*",
    "consent": "event_id, contact_id, purpose, channel, granted, wording_version, decided_at",
    "purchase": "*",
    "purchase_line": "*",
    "refund": "*",
    "refund_line": "*",
    "waiting_refund": "id, purchase_id, contact_id, lines, outcome, field, settled_at",
    "timeline": "*",
    "rapport.inbox": "source, id, body_hash, event_id",
    "rapport.timer": "kind, key, contact_id, due_at, payload",
}


def drawn_event(draw: st.DrawFn, n: int) -> External:
    """Draw an event that gets into others' way: few customers, orders and ids."""
    who = {
        "source": draw(st.sampled_from(["till-1", "till-2"])),
        "customer": draw(st.sampled_from(["1", "2"])),
    }
    id_ = str(draw(st.sampled_from([n, n, n, 0])))
    order = draw(st.sampled_from(["o1", "o2"]))
    net = draw(st.sampled_from([0, 100, 200]))
    match draw(
        st.sampled_from(["buy", "buy", "back", "back", "form", "edit", "given", "withdrawn"])
    ):
        case "buy":
            return purchase(id_, order, net, **who)
        case "back":
            return refund(id_, order, net or None, **who)
        case "form":
            consents = [{"purpose": "surveys"}] * (net > 100)
            return event(id_, "contact.registered", consents=consents, **who)
        case "edit":
            return event(id_, "contact.updated", phone=str(net), **who)
        case decision:
            choice = {"purpose": "marketing", "channel": "email"}
            return event(id_, f"consent.{decision}", **choice, **who)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[External], list[list[External]]]:
    """Draw events, and calls that hold them in their order, repetitions among them."""
    made = [drawn_event(draw, n) for n in range(draw(st.integers(1, 12)))]
    calls: list[list[External]] = [[]]
    for n, item in enumerate(made):
        if draw(st.booleans()):
            calls.append([])
        calls[-1].append(item)
        calls[-1].extend(made[i] for i in draw(st.lists(st.integers(0, n), max_size=2)))
    return made, calls


async def effects(
    connection: Connection, calls: list[list[External]]
) -> tuple[dict[str, Any], dict[Any, Any]]:
    """Return all rows, and what was published per contact in its order."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        door = Door(connection)
        for call in calls:
            await door.accept(*call)
        rows = {table: await door.rows(table, columns) for table, columns in TABLES.items()}
    finally:
        await transaction.rollback()
    published = defaultdict(list)
    for item in door.published:
        published[item.key].append((item.id, item.type, item.body))
    return rows, dict(published)


RELAXED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@settings(max_examples=60, deadline=None, suppress_health_check=RELAXED)
@given(drawn=cuts())
async def test_any_cut_and_any_repetition_gives_the_same_rows_and_events(
    drawn: tuple[list[External], list[list[External]]], connection: Connection
) -> None:
    made, calls = drawn
    one_by_one = await effects(connection, [[item] for item in made])
    assert await effects(connection, calls) == one_by_one
