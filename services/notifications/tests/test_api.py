"""The HTTP API on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from notifications.api import router
from rapport import problem
from rapport.contracts.contacts import ContactMerged
from rapport.database import Database
from rapport.testing import deliver
from services.notifications.tests.story import NOW, Story

MARKETING = {"message_class": "marketing", "purpose": "marketing"}


@pytest.fixture
async def client(committed: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service's routes."""
    app = FastAPI()
    problem.install(app)
    app.include_router(router)
    app.state.service = SimpleNamespace(database=committed)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test.example") as opened:
        yield opened


async def test_messages_of_a_contact_page_by_cursor(
    client: httpx.AsyncClient, committed: Database, story: Story
) -> None:
    await story.commit(
        committed,
        story.registered(1),
        story.registered(2),
        *(story.purchase(1, f"O{n}") for n in range(5)),
        story.purchase(2, "other"),
    )
    seen: list[str] = []
    query: dict[str, Any] = {"contact_id": str(story.contact(1)), "limit": 2}
    while True:
        page = (await client.get("/v1/messages", params=query)).json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert len(seen) == len(set(seen)) == 5


@pytest.mark.parametrize("cursor", ["x", "eA", "1998", "%00"])
async def test_a_bad_cursor_names_its_field(client: httpx.AsyncClient, cursor: str) -> None:
    answer = await client.get("/v1/messages", params={"contact_id": str(uuid4()), "cursor": cursor})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == "cursor"


async def test_a_merged_contact_is_found_by_its_old_name(
    client: httpx.AsyncClient, committed: Database, story: Story
) -> None:
    merge = ContactMerged(
        contact_id=story.contact(2), loser_id=story.contact(1), survivor_id=story.contact(2)
    )
    await story.commit(committed, story.registered(1), story.purchase(1, "O1"), deliver(merge))
    async with committed.pool.acquire() as connection:
        await connection.execute(
            "update rapport.key set survivor = $2 where id = $1", story.contact(1), story.contact(2)
        )
    page = await client.get("/v1/messages", params={"contact_id": str(story.contact(1))})
    assert [item["contact_id"] for item in page.json()["items"]] == [str(story.contact(2))]


async def test_a_message_tells_why(
    client: httpx.AsyncClient, committed: Database, story: Story
) -> None:
    await story.commit(committed, story.registered(1), story.anniversary(1, "O1"))
    [row] = await story.messages(committed)
    answer = (await client.get(f"/v1/messages/{row['id']}")).json()
    assert (answer["state"], answer["reason"]) == ("suppressed", "consent")
    assert [gate["gate"] for gate in answer["gates"]] == [
        "dedupe",
        "class",
        "suppression",
        "consent",
    ]
    assert answer["gates"][-1]["decision"] == "refuse"
    assert answer["message_id_header"] == f"<{row['id']}@rapport.example>"
    assert answer["attempts"] == []
    assert story.address(1) not in str(answer)


async def test_an_unknown_message_is_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/v1/messages/{uuid4()}")
    assert (answer.status_code, answer.json()["title"]) == (404, "No such message")


async def test_a_category_changes_by_version(
    client: httpx.AsyncClient, committed: Database, story: Story
) -> None:
    before = await client.get("/v1/categories/anniversary")
    assert before.headers["etag"] == '"1"'
    rules = {**MARKETING, "quiet_hours": {"start": "21:00", "end": "13:00"}}
    put = await client.put("/v1/categories/anniversary", json=rules, headers={"If-Match": '"1"'})
    assert (put.status_code, put.headers["etag"], put.json()["version"]) == (200, '"2"', 2)
    listed = (await client.get("/v1/categories")).json()["items"]
    assert {c["code"]: c["version"] for c in listed} == {"anniversary": 2, "thank-you": 1}
    await story.commit(committed, story.registered(1), story.consent(1), story.anniversary(1, "O1"))
    [row] = await story.messages(committed)
    assert row["category_version"] == 2
    assert row["due_at"] > NOW


@pytest.mark.parametrize(
    ("code", "rules", "headers", "status"),
    [
        ("anniversary", MARKETING, {}, 428),
        ("anniversary", MARKETING, {"If-Match": '"7"'}, 412),
        ("nothing", MARKETING, {"If-Match": '"1"'}, 404),
        ("anniversary", {"message_class": "marketing"}, {"If-Match": '"1"'}, 422),
        ("anniversary", {**MARKETING, "cap": {"count": 0}}, {"If-Match": '"1"'}, 422),
        ("anniversary", {**MARKETING, "unknown": 1}, {"If-Match": '"1"'}, 422),
    ],
)
async def test_a_category_s_change_may_be_refused(
    client: httpx.AsyncClient,
    code: str,
    rules: dict[str, Any],
    headers: dict[str, str],
    status: int,
) -> None:
    answer = await client.put(f"/v1/categories/{code}", json=rules, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    versions = (await client.get("/v1/categories")).json()["items"]
    assert {c["version"] for c in versions} == {1}


async def test_templates_in_force(client: httpx.AsyncClient, committed: Database) -> None:
    async with committed.pool.acquire() as connection:
        await connection.execute(
            "insert into template values ('thank-you', 'cs', 2, 'nové', 'nové', 'nové')"
        )
    items = (await client.get("/v1/templates")).json()["items"]
    versions = {(t["code"], t["language"]): t["version"] for t in items}
    assert versions == {
        ("thank-you", "default"): 1,
        ("thank-you", "cs"): 2,
        ("anniversary", "default"): 1,
        ("anniversary", "cs"): 1,
    }


async def test_totals_are_counted_in_the_tables(
    client: httpx.AsyncClient, committed: Database, story: Story
) -> None:
    await story.commit(
        committed,
        story.registered(1),
        story.registered(2, None),
        story.consent(2),
        story.purchase(1, "O1"),
        story.purchase(2, "O2"),
        story.anniversary(1, "O1"),
    )
    assert (await client.get("/v1/totals")).json() == {
        "messages": {"sent": 0, "queued": 1, "suppressed": 2, "unknown": 0, "failed": 0},
        "reasons": {"no_address": 1, "consent": 1},
        "by_rule": {
            "anniversary": {"sent": 0, "queued": 0, "suppressed": 1, "unknown": 0, "failed": 0},
            "thank-you": {"sent": 0, "queued": 1, "suppressed": 1, "unknown": 0, "failed": 0},
        },
        "attempts": 0,
        "recipients": 2,
        "marketing_consents": 1,
        "suppressed_addresses": 0,
    }


async def link_of(committed: Database, story: Story, number: int) -> str:
    """Return the path of a contact's one-click link for the anniversary list."""
    async with committed.pool.acquire() as connection:
        token = await connection.fetchval(
            "insert into unsubscribe_token (contact_id, category) values ($1, $2) returning token",
            story.contact(number),
            "anniversary",
        )
    return f"/v1/unsubscribe/{token}"


async def test_one_click_ends_a_list_and_looking_does_not(
    client: httpx.AsyncClient, committed: Database, story: Story
) -> None:
    await story.commit(committed, story.registered(1), story.consent(1))
    path = await link_of(committed, story, 1)
    shown = await client.get(path)
    assert (shown.status_code, shown.headers["cache-control"]) == (200, "no-store")
    assert "<form" in shown.text
    assert await story.outbox(committed) == []
    await story.commit(committed, story.anniversary(1, "O1", year=1998))

    form = {"List-Unsubscribe": "One-Click"}
    for _ in range(2):  # the second one changes nothing
        assert (await client.post(path, data=form)).status_code == 200
    await story.commit(committed, story.anniversary(1, "O1", year=1999), story.purchase(1, "O2"))

    by_rule = {(m["rule"], m["occasion"]): m["reason"] for m in await story.messages(committed)}
    assert by_rule == {
        ("anniversary", "1998"): None,
        ("anniversary", "1999"): "preference",
        ("thank-you", ""): None,
    }
    assert (await story.outbox(committed)).count("preference-changed") == 1
    assert "<form" not in (await client.get(path)).text


async def test_an_unknown_link_is_a_problem(client: httpx.AsyncClient) -> None:
    for method in ("GET", "POST"):
        answer = await client.request(method, f"/v1/unsubscribe/{'0' * 32}")
        assert (answer.status_code, answer.json()["title"]) == (404, "No such link")
    assert (await client.post("/v1/unsubscribe/me")).json()["errors"][0]["field"] == "token"


async def test_a_no_survives_a_merge(
    client: httpx.AsyncClient, committed: Database, story: Story
) -> None:
    merge = ContactMerged(
        contact_id=story.contact(2), loser_id=story.contact(1), survivor_id=story.contact(2)
    )
    await story.commit(committed, *(story.registered(n) for n in (1, 2)), story.consent(2))
    await client.post(await link_of(committed, story, 1))
    await story.commit(committed, deliver(merge), story.anniversary(2, "O1"))
    (message,) = await story.messages(committed)
    assert message["reason"] == "preference"
