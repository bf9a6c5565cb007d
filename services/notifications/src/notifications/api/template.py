"""Templates in force."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from notifications.store import template
from rapport.service import Service

router = APIRouter(tags=["templates"])


class Template(BaseModel):
    """A template in one language: sandboxed Jinja; a missing variable is an error."""

    model_config = ConfigDict(from_attributes=True)
    code: str
    language: str
    version: int
    subject: str
    text: str
    html: str


class TemplateList(BaseModel):
    """The version in force of every template and language."""

    items: list[Template]


@router.get("/templates")
async def list_templates(request: Request) -> TemplateList:
    """List the templates in force."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        known = await template.list_templates(tx)
    return TemplateList(items=[Template.model_validate(each) for each in known])
