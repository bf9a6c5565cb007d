"""The public HTTP API of contacts."""

from __future__ import annotations

from fastapi import APIRouter

from contacts.api import consents, contacts, events, history, sources, totals

router = APIRouter(prefix="/v1")
for noun in (contacts, consents, history, sources, events, totals):
    router.include_router(noun.router)
