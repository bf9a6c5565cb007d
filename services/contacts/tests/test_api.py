"""The public API on a real Postgres, through ASGI."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from rapport.database import Database
from services.contacts.tests.requests import field_of, outbox, sale, send

# Contacts


async def test_a_contact_is_registered_read_and_changed(
    client: httpx.AsyncClient, db: Database
) -> None:
    made = await client.post(
        "/contacts",
        json={"given_name": "Ada", "references": [{"system": "shop", "number": "77"}]},
    )
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    where = made.headers["location"].removeprefix("/v1")
    read = await client.get(where)
    assert read.json() == made.json()
    assert read.json()["references"] == [{"system": "shop", "number": "77"}]
    changed = await client.patch(
        where, json={"given_name": None, "email": "a@x.example"}, headers={"if-match": '"1"'}
    )
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert (changed.json()["given_name"], changed.json()["email"]) == (None, "a@x.example")
    assert (await client.get(where)).json() == changed.json()
    assert await outbox(db) == [
        "rapport.contacts.contact-registered.v1",
        "rapport.contacts.contact-updated.v1",
    ]
    facts = (await client.get(f"{where}/timeline")).json()["items"]
    assert facts[0]["details"]["changed"] == ["given_name", "email"]


async def test_an_update_needs_the_version_that_was_read(
    client: httpx.AsyncClient, db: Database
) -> None:
    where = (await client.post("/contacts", json={})).headers["location"].removeprefix("/v1")
    without = await client.patch(where, json={"phone": "1"})
    assert (without.status_code, field_of(without)) == (428, "If-Match")
    stale = await client.patch(where, json={"phone": "1"}, headers={"if-match": '"9"'})
    assert (stale.status_code, field_of(stale)) == (412, "If-Match")
    assert len(await outbox(db)) == 1


async def test_of_two_updates_at_once_one_wins(client: httpx.AsyncClient, db: Database) -> None:
    where = (await client.post("/contacts", json={})).headers["location"].removeprefix("/v1")
    answers = await asyncio.gather(
        *(
            client.patch(where, json={"phone": str(n)}, headers={"if-match": '"1"'})
            for n in range(5)
        )
    )
    assert sorted(a.status_code for a in answers) == [200, 412, 412, 412, 412]
    assert len(await outbox(db)) == 2


async def test_unknown_contacts_are_not_found_and_leave_no_key(
    client: httpx.AsyncClient, db: Database
) -> None:
    nobody = f"/contacts/{uuid4()}"
    form = {
        "purpose": "marketing",
        "channel": "email",
        "granted": True,
        "wording_version": "1",
        "recipient": "Shop",
    }
    answers = [
        await client.get(nobody),
        await client.patch(nobody, json={}, headers={"if-match": '"1"'}),
        await client.get(f"{nobody}/consents"),
        await client.post(f"{nobody}/consents", json=form),
        await client.get(f"{nobody}/timeline"),
        await client.get(f"{nobody}/purchases"),
    ]
    assert {a.status_code for a in answers} == {404}
    assert await db.pool.fetchval("select count(*) from rapport.key") == 0


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"zone": "Europe/Brno"}, "zone"),
        ({"given_name": "A\0"}, "given_name"),
        ({"surname": "A"}, "surname"),
        ({"references": [{"system": "moon", "number": "1"}]}, "references"),
    ],
)
async def test_a_bad_contact_is_refused_naming_the_field(
    client: httpx.AsyncClient, db: Database, form: dict[str, Any], field: str
) -> None:
    answer = await client.post("/contacts", json=form)
    assert (answer.status_code, field_of(answer)) == (422, field)
    assert await outbox(db) == []


async def test_a_reference_belongs_to_one_contact(client: httpx.AsyncClient) -> None:
    form = {"references": [{"system": "shop", "number": "77"}]}
    assert (await client.post("/contacts", json=form)).status_code == 201
    again = await client.post("/contacts", json=form)
    assert (again.status_code, field_of(again)) == (409, "references")


async def test_an_event_finds_the_contact_that_was_registered_with_its_reference(
    client: httpx.AsyncClient,
) -> None:
    form = {"references": [{"system": "cdnow", "number": "7"}]}
    contact_id = (await client.post("/contacts", json=form)).json()["id"]
    await send(client, sale())
    bought = (await client.get(f"/contacts/{contact_id}/purchases")).json()["items"]
    assert [(p["order"], p["lines"][0]["net_minor"]) for p in bought] == [("o1", 1000)]


async def test_contacts_are_listed_by_cursor(client: httpx.AsyncClient) -> None:
    made = {(await client.post("/contacts", json={})).json()["id"] for _ in range(5)}
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/contacts", params=params)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(made)
    for bad in ("x", "e30", "WyJhIl0", "ÿ"):
        answer = await client.get("/contacts", params={"cursor": bad})
        assert (answer.status_code, field_of(answer)) == (422, "cursor")


async def test_contacts_are_found_by_number(client: httpx.AsyncClient) -> None:
    form = {"references": [{"system": "shop", "number": "77"}]}
    made = (await client.post("/contacts", json=form)).json()
    await client.post("/contacts", json={})
    found = await client.get("/contacts", params={"system": "shop", "number": "77"})
    assert found.json()["items"] == [made]
    half = await client.get("/contacts", params={"system": "shop"})
    assert (half.status_code, field_of(half)) == (422, "number")


# Idempotency


async def test_the_same_key_gets_the_first_answer(client: httpx.AsyncClient, db: Database) -> None:
    headers = {"idempotency-key": "k1"}
    answers = await asyncio.gather(
        *(client.post("/contacts", json={"phone": "1"}, headers=headers) for _ in range(4))
    )
    answers.append(await client.post("/contacts", json={"phone": "1"}, headers=headers))
    assert {(a.status_code, a.headers["etag"], a.text) for a in answers} == {
        (201, '"1"', answers[0].text)
    }
    assert len(await outbox(db)) == 1
    other = await client.post("/contacts", json={"phone": "2"}, headers=headers)
    assert (other.status_code, field_of(other)) == (422, "Idempotency-Key")


async def test_a_refused_request_may_be_mended_under_its_key(client: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "k1"}
    await client.post("/sources", json={"source": "web", "reference_system": "shop"})
    where = (await client.post("/contacts", json={})).headers["location"].removeprefix("/v1")
    stale = await client.patch(where, json={}, headers=headers | {"if-match": '"9"'})
    mended = await client.patch(where, json={}, headers=headers | {"if-match": '"1"'})
    assert (stale.status_code, mended.status_code) == (412, 200)


# Consents, sources


async def test_consents_are_a_list_of_which_the_newest_counts(
    client: httpx.AsyncClient, db: Database
) -> None:
    where = (await client.post("/contacts", json={})).headers["location"].removeprefix("/v1")
    form = {"purpose": "marketing", "channel": "email", "wording_version": "2", "recipient": "Shop"}
    for granted in (True, False):
        made = await client.post(f"{where}/consents", json=form | {"granted": granted})
        assert made.status_code == 201
    listed = (await client.get(f"{where}/consents")).json()["items"]
    assert [(c["granted"], c["current"]) for c in listed] == [(False, True), (True, False)]
    assert listed[0] == made.json()
    assert listed[0]["event_id"] == str((await outbox(db, "event_id"))[-1])
    bad = await client.post(f"{where}/consents", json=form | {"granted": True, "channel": "owl"})
    assert (bad.status_code, field_of(bad)) == (422, "channel")


async def test_a_source_has_one_reference_system(client: httpx.AsyncClient) -> None:
    first = await client.post("/sources", json={"source": "web"})
    assert (first.status_code, first.json()["reference_system"]) == (201, "web")
    assert (await client.post("/sources", json={"source": "web"})).status_code == 200
    other = await client.post("/sources", json={"source": "web", "reference_system": "shop"})
    assert (other.status_code, field_of(other)) == (409, "reference_system")
    page = (await client.get("/sources", params={"limit": 3})).json()
    rest = (await client.get("/sources", params={"cursor": page["next_cursor"]})).json()
    assert [s["source"] for s in page["items"] + rest["items"]] == [
        "cdnow",
        "till-1",
        "till-2",
        "web",
    ]
