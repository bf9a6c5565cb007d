"""HTTP in and out: messages and why they were sent or not, categories, templates, totals."""

from fastapi import APIRouter

from notifications.api import category, message, template, totals, unsubscribe

router = APIRouter(prefix="/v1")
for part in (message, category, template, totals, unsubscribe):
    router.include_router(part.router)
