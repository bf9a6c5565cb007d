"""One-click unsubscribing (RFC 8058): showing the link changes nothing, posting to it acts."""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse

from notifications.domain.message import EMAIL
from notifications.store import preference
from notifications.store.preference import Link
from rapport import telemetry
from rapport.contracts.notifications import PreferenceChanged
from rapport.messaging.delivery import Command
from rapport.messaging.transaction import Tx
from rapport.problem import Problem
from rapport.service import Service

router = APIRouter(tags=["preferences"])

Token = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
HEADERS = {
    "content-security-policy": "default-src 'none'; form-action 'self'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"></head>
<body><main><h1>{title}</h1>{body}</main></body></html>
"""
ASK = """<p>Mails of the list “{list}” will no longer be sent to you.</p>
<form method="post"><button>Unsubscribe</button></form>"""
DONE = """<p>No more mails of the list “{list}” will be sent to you.</p>"""


@router.get("/unsubscribe/{token}", response_class=HTMLResponse)
async def show_unsubscribing(request: Request, token: Token) -> HTMLResponse:
    """Show the list and a button. Mail scanners open links: nothing changes."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        link = await _find(tx, token)
        wanted = await preference.find_wanted(tx, link, EMAIL)
    return _page(link, done=wanted is False)


@router.post("/unsubscribe/{token}", response_class=HTMLResponse)
async def unsubscribe(request: Request, token: Token) -> HTMLResponse:
    """End a list for a contact, from its next mail on; again changes nothing.

    Neither cookie nor login is needed: the token alone names person and list.
    """
    service: Service = request.app.state.service

    async def body(tx: Tx) -> Link:
        found = await _find(tx, token)
        canonical = (await tx.lock_keys([found.contact_id]))[found.contact_id]
        link = Link(canonical, found.category)
        if await preference.find_wanted(tx, link, EMAIL) is not False:
            cause = Command.drawn(canonical, telemetry.current_traceparent())
            event = PreferenceChanged(
                contact_id=canonical, category=link.category, channel=EMAIL, wanted=False
            )
            event_id = tx.publish(event, cause=cause)
            await preference.save_preference(tx, link, EMAIL, event_id, wanted=False)
        return link

    return _page(await service.database.transact(body), done=True)


async def _find(tx: Tx, token: str) -> Link:
    link = await preference.find_link(tx, token)
    if link is None:
        raise Problem(404, "No such link", "The link is not one of ours, or its contact is gone.")
    return link


def _page(link: Link, *, done: bool) -> HTMLResponse:
    title, body = ("Unsubscribed", DONE) if done else ("Unsubscribe", ASK)
    page = PAGE.format(title=title, body=body.format(list=escape(link.category)))
    return HTMLResponse(page, headers=HEADERS)
