"""The HTTP side: look at mails, count them, ask by `Message-ID`, tell the sink how to behave.

`GET /messages?message_id=&to=&limit=`, `DELETE /messages`, `GET /messages/{id}`, `GET /count`,
`GET /readyz`, `GET /` for people; `GET` and `POST /behaviour`: a list of wishes (see `Behaviour`),
an empty one means: behave.
"""

from __future__ import annotations

from html import escape

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from notifications.sink.behaviour import Behaviour, Behaviours
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
SHOWN = 100
MOST = 10_000
_wishes: TypeAdapter[list[Behaviour] | Behaviour] = TypeAdapter(list[Behaviour] | Behaviour)


class View:
    """Answers requests about one mailbox."""

    def __init__(self, mailbox: Mailbox, behaviours: Behaviours) -> None:
        """Take where mails are kept, and how clients are treated."""
        self._mailbox = mailbox
        self._behaviours = behaviours

    async def ready(self, _request: Request) -> Response:
        """Say that the sink serves."""
        return PlainTextResponse("ready")

    async def count(self, _request: Request) -> Response:
        """Count mails, and different `Message-ID`s."""
        return JSONResponse(self._mailbox.count())

    async def messages(self, request: Request) -> Response:
        """List the mails with these `Message-ID`s, else the newest, for an address if given."""
        if request.method == "DELETE":
            self._mailbox.clear()
            return Response(status_code=204)
        query = request.query_params
        if message_ids := query.getlist("message_id"):
            return JSONResponse({"items": self._mailbox.list_by_message_id(message_ids[:MOST])})
        limit = query.get("limit", str(SHOWN))
        if not limit.isascii() or not limit.isdigit():
            return PlainTextResponse("limit: not a number", 400)
        newest = self._mailbox.list_newest(query.get("to"), min(int(limit), MOST))
        return JSONResponse({"items": newest})

    async def message(self, request: Request) -> Response:
        """Show a mail as it was received."""
        content = self._mailbox.find(request.path_params["mail_id"])
        if content is None:
            return PlainTextResponse("no such mail", 404)
        return Response(content, media_type="text/plain; charset=utf-8")

    async def behaviour(self, request: Request) -> Response:
        """Show the wishes in force, or put others in their place."""
        if request.method == "POST":
            try:
                given = _wishes.validate_json(await request.body())
            except ValidationError as error:
                return PlainTextResponse(str(error), 422)
            self._behaviours.wishes = given if isinstance(given, list) else [given]
        return JSONResponse([wish.model_dump() for wish in self._behaviours.wishes])

    async def page(self, _request: Request) -> Response:
        """Show the newest mails to a person."""
        counted, newest = self._mailbox.count(), self._mailbox.list_newest(None, SHOWN)
        rows = "".join(
            ROW.format(
                id=mail["id"],
                at=escape(mail["received_at"]),
                to=escape(mail["recipient"]),
                subject=escape(mail["subject"] or "(no subject)"),
            )
            for mail in newest
        )
        return HTMLResponse(PAGE.format(**counted, shown=len(newest), rows=rows))


def build(mailbox: Mailbox, behaviours: Behaviours) -> Starlette:
    """Return the application."""
    view = View(mailbox, behaviours)
    return Starlette(
        routes=[
            Route("/", view.page),
            Route("/readyz", view.ready),
            Route("/count", view.count),
            Route("/messages", view.messages, methods=["GET", "DELETE"]),
            Route("/messages/{mail_id:int}", view.message),
            Route("/behaviour", view.behaviour, methods=["GET", "POST"]),
        ]
    )
