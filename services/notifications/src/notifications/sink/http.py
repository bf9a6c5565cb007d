"""The HTTP side: look at mails, count them, ask by `Message-ID`, tell the sink how to behave."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from notifications.sink.behaviour import Behaviour, Behaviours

if TYPE_CHECKING:
    from notifications.sink.mailbox import Mailbox

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Mail sink</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }}
table {{ border-collapse: collapse }} th, td {{ text-align: left; padding: .3rem 1.2rem .3rem 0 }}
th {{ border-bottom: 2px solid #ccc }} td {{ border-bottom: 1px solid #eee }}
</style></head><body><h1>Mail sink</h1>
<p>{total} mails, {distinct} different. The newest {shown}:</p>
<table><thead><tr><th scope="col">received</th><th scope="col">to</th><th scope="col">subject</th>
</tr></thead><tbody>{rows}</tbody></table></body></html>"""
ROW = '<tr><td>{at}</td><td>{to}</td><td><a href="/messages/{id}">{subject}</a></td></tr>'


def build(mailbox: Mailbox, behaviours: Behaviours) -> FastAPI:
    """Return the application."""
    app = FastAPI(title="Mail sink", docs_url=None, redoc_url=None)

    @app.get("/readyz")
    async def ready() -> PlainTextResponse:
        return PlainTextResponse("ready")

    @app.get("/count")
    async def count() -> dict[str, int]:
        counted = mailbox.count()
        return {"total": counted["total"], "distinct": counted["distinct_ids"]}

    @app.get("/messages")
    async def messages(
        message_id: Annotated[list[str] | None, Query(max_length=200)] = None,
        to: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> dict[str, list[dict[str, Any]]]:
        if message_id:
            return {"items": mailbox.list_by_message_id(message_id)}
        return {"items": mailbox.list_newest(to, limit)}

    @app.get("/messages/{mail_id}")
    async def message(mail_id: int) -> Response:
        content = mailbox.find(mail_id)
        if content is None:
            return PlainTextResponse("no such mail", 404)
        return Response(content, media_type="text/plain; charset=utf-8")

    @app.get("/behaviour")
    async def behaviour() -> list[Behaviour]:
        return behaviours.wishes

    @app.post("/behaviour")
    async def behave(wishes: list[Behaviour] | Behaviour) -> list[Behaviour]:
        behaviours.wishes = wishes if isinstance(wishes, list) else [wishes]
        return behaviours.wishes

    @app.get("/")
    async def page() -> HTMLResponse:
        counted, newest = mailbox.count(), mailbox.list_newest(None, 100)
        rows = "".join(
            ROW.format(
                id=mail["id"],
                at=escape(mail["received_at"]),
                to=escape(mail["recipient"]),
                subject=escape(mail["subject"] or "(no subject)"),
            )
            for mail in newest
        )
        return HTMLResponse(
            PAGE.format(
                total=counted["total"],
                distinct=counted["distinct_ids"],
                shown=len(newest),
                rows=rows,
            )
        )

    return app
