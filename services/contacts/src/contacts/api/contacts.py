"""`/v1/contacts`: register, read, change."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from contacts.api.paging import Cursor, Limit, Page, id_after, page_of
from contacts.domain.contact import Contact, check_zone
from contacts.domain.refusal import RefusedError
from contacts.handlers import contacts as handlers
from contacts.store import contact as store
from rapport import telemetry
from rapport.answers import Answer, IdempotencyKey, answer_once
from rapport.messaging.delivery import Command
from rapport.messaging.ids import drawn_id
from rapport.messaging.transaction import Tx
from rapport.problem import Problem

if TYPE_CHECKING:
    from rapport.service import Service

router = APIRouter(prefix="/contacts", tags=["contacts"])


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character")
    return text


def _zone(name: str) -> str:
    try:
        check_zone(name)
    except RefusedError as error:
        raise ValueError("is no IANA time zone") from error
    return name


Text = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, strip_whitespace=True),
    AfterValidator(_storable),
]
Email = Annotated[Text, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$", max_length=320)]


class ReferenceModel(BaseModel):
    """The contact's number in another system."""

    model_config = ConfigDict(extra="forbid")
    system: Text
    number: Text


class Details(BaseModel):
    """What is known of a person."""

    model_config = ConfigDict(extra="forbid")
    given_name: Text | None = None
    family_name: Text | None = None
    email: Email | None = None
    phone: Annotated[Text, StringConstraints(max_length=40)] | None = None
    birth_date: date | None = None
    language: Annotated[Text, StringConstraints(max_length=35)] | None = None
    zone: Annotated[Text, AfterValidator(_zone)] | None = None


class Registration(Details):
    """A new contact."""

    references: tuple[ReferenceModel, ...] = Field(default=(), max_length=50)


class ContactModel(Details):
    """A contact as it stands."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)
    id: UUID
    provisional: bool
    references: tuple[ReferenceModel, ...]
    registered_at: datetime
    version: int

    @classmethod
    def of(cls, contact: Contact) -> ContactModel:
        """Show a record."""
        pairs = [{"system": system, "number": number} for system, number in contact.references]
        values: dict[str, Any] = {n: getattr(contact, n) for n in cls.model_fields}
        return cls.model_construct(
            **values | {"references": tuple(ReferenceModel(**pair) for pair in pairs)}
        )


def not_found() -> Problem:
    """Return the problem of an unknown contact."""
    return Problem(404, "There is no such contact")


def etag(contact: Contact) -> str:
    """Return the entity tag of a record: its version."""
    return f'"{contact.version}"'


def answer(status: int, contact: Contact) -> Answer:
    """Answer a write with the record."""
    headers = {"ETag": etag(contact), "Location": f"/v1/contacts/{contact.id}"}
    return Answer(status, ContactModel.of(contact), contact.id, headers)


@router.post("", status_code=201, response_model=ContactModel)
async def post_contact(
    request: Request, form: Registration, idempotency_key: IdempotencyKey = None
) -> Response:
    """Register a contact. A reference that is known already is refused with 409."""
    contact_id = drawn_id()
    command = Command.drawn(contact_id, telemetry.current_traceparent())
    references = {(r.system, r.number) for r in form.references}
    details = form.model_dump(exclude={"references"})

    async def write(tx: Tx) -> Answer:
        try:
            contact = await handlers.register_contact(tx, command, details, references)
        except handlers.ReferenceTakenError as error:
            errors = [{"field": "references", "reason": str(error)}]
            raise Problem(409, "A reference is known already", errors=errors) from error
        except RefusedError as error:
            errors = [{"field": error.field, "reason": error.reason}]
            raise Problem(422, "The request is not valid", errors=errors) from error
        return answer(201, contact)

    return await answer_once(request, idempotency_key, write)


def wanted_contacts(
    email: Annotated[str | None, Query(max_length=320)] = None,
    system: Annotated[str | None, Query(max_length=200)] = None,
    number: Annotated[str | None, Query(max_length=200)] = None,
) -> store.Filter:
    """Read which contacts are asked for; a number goes with its reference system."""
    if (system is None) != (number is None):
        missing = "system" if system is None else "number"
        errors = [{"field": missing, "reason": "system and number belong together"}]
        raise Problem(422, "The request is not valid", errors=errors)
    return store.Filter(email, system, number)


@router.get("")
async def list_contacts(
    request: Request,
    wanted: Annotated[store.Filter, Depends(wanted_contacts)],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ContactModel]:
    """List contacts, all or those with an e-mail address or a number in a reference system."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        rows = await store.list_contacts(tx, id_after(cursor), limit + 1, wanted)
    page = page_of(rows, limit, "id")
    return Page(
        items=[ContactModel.of(row) for row in page["items"]], next_cursor=page["next_cursor"]
    )


@router.get("/{contact_id}")
async def get_contact(request: Request, response: Response, contact_id: UUID) -> ContactModel:
    """Read a contact; the ETag is what an update has to name in If-Match."""
    service: Service = request.app.state.service
    async with service.database.read() as tx:
        contact = await store.find_contact(tx, contact_id)
    if contact is None:
        raise not_found()
    response.headers["ETag"] = etag(contact)
    return ContactModel.of(contact)


@router.patch("/{contact_id}", response_model=ContactModel)
async def patch_contact(
    request: Request,
    contact_id: UUID,
    details: Details,
    if_match: Annotated[str | None, Header()] = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Change what the body names; null clears a field. If-Match is required (428), and the record
    must still have that version (412).
    """  # noqa: D205
    if if_match is None:
        errors = [{"field": "If-Match", "reason": "name the ETag that you have read"}]
        raise Problem(428, "If-Match is required", errors=errors)
    command = Command.drawn(contact_id, telemetry.current_traceparent())
    given = details.model_dump(exclude_unset=True)

    async def write(tx: Tx) -> Answer:
        contact = await handlers.find_locked(tx, contact_id)
        if contact is None:
            raise not_found()
        if if_match.strip() not in {etag(contact), "*"}:
            errors = [{"field": "If-Match", "reason": f"the version is {contact.version}"}]
            raise Problem(412, "The contact has changed", errors=errors)
        return answer(200, await handlers.update_contact(tx, command, contact, given))

    return await answer_once(request, idempotency_key, write)
