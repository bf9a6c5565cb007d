"""Keeps personal data out of logs and spans: keys that hold it, text that looks like it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from uuid import UUID

MASK = "[redacted]"

PERSONAL_KEYS = frozenset(
    {
        *("name", "given_name", "family_name", "first_name", "last_name", "full_name", "surname"),
        *("username", "recipient_name", "display_name", "nickname", "salutation"),
        *("email", "mail", "e_mail", "phone", "mobile", "telephone", "fax", "msisdn"),
        *("address", "addresses", "street", "city", "zip", "zip_code", "postcode", "postal_code"),
        *("birth_date", "birthday", "date_of_birth", "gender", "ip", "client", "client_addr"),
        *("to_address", "from_address", "recipient_address", "sender", "rcpt", "mailbox"),
        *("body", "payload", "value", "raw", "headers", "input", "password", "secret", "token"),
        *("authorization", "cookie", "dsn", "database_dsn", "customer", "references"),
    }
)
"""Keys that are dropped with their value, at any depth; compared in snake_case."""

_PERSONAL_SUFFIXES = ("_email", "_phone", "_address", "_password", "_secret", "_token")

_KEEP = r"""
    [0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}                # UUID
  | [0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}                   # traceparent
  | \d{4}-\d\d-\d\d(?:[T\ ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?  # date, time
  | \d{1,3}(?:\.\d{1,3}){3}(?::\d+)?                                    # IPv4 and port
  | [a-z]+\.events\.v\d+(?::\d+)+                                       # causal entry
"""
_EMAIL = r"[^\s@<>\"'(),;:=\[\]{}]+@[^\s@<>\"'(),;:=\[\]{}]+"
_PHONE = r"""
    (?<![\w.+-])(?:
        (?:\+|00)\d[\d\ ()./-]{6,}\d                                    # with a country code
      | \(\d{2,5}\)[\ ./-]?\d[\d\ ./-]{4,}\d                            # area code in brackets
      | \d{2,4}(?:[\ ./-]\d{2,4}){2,4}                                  # groups: 777 123 456
      | \d{9,15}                                                        # no separators
    )(?![\w-])
"""
_PATTERN = re.compile(f"(?P<keep>{_KEEP})|(?P<personal>{_EMAIL}|{_PHONE})", re.VERBOSE)

# Parts of error texts that quote rows and input: Postgres' details and messages, the arguments that
# asyncpg refuses, pydantic's input values. A row may hold line breaks, so its end is what follows.
_QUOTED_ROW = re.compile(
    r"""(?imsx)^[ \t]*(DETAIL|CONTEXT|WHERE|PARAMETERS):.*?
    (?=^[ \t]*(?:HINT|DETAIL|CONTEXT|WHERE|PARAMETERS|QUERY):|^During\ handling|^The\ above|\Z)"""
)
_QUOTED_VALUE = re.compile(
    r"""(?sx)(invalid\ input\ for\ query\ argument\ \$\d+:\ ).*?(?=\ \([^()\n]*\)(?:\n|\Z))
    | ((?:invalid\ input\ (?:syntax|value)\ for|out\ of\ range)[^:\n]*:\ )"[^\n]*"(?=\n|\Z)"""
)
_QUOTED_INPUT = re.compile(r"input_value=.*?(?=, input_type=|\]|$)", re.DOTALL)


def is_personal(key: str) -> bool:
    """Tell whether a key's value is personal or secret, whatever it looks like."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace("-", "_").replace(".", "_")
    return snake in PERSONAL_KEYS or snake.endswith(_PERSONAL_SUFFIXES)


def text(value: str) -> str:
    """Mask what looks like an e-mail address or a phone number; ids, times and hosts stay."""
    if "input_value=" in value:
        value = _QUOTED_INPUT.sub(f"input_value={MASK}", value)
    if ":" in value:
        value = _QUOTED_ROW.sub(rf"\1: {MASK}\n", value).rstrip("\n")
        value = _QUOTED_VALUE.sub(lambda found: (found[1] or found[2]) + MASK, value)
    return _PATTERN.sub(lambda found: found["keep"] or MASK, value)


def cleaned(value: object) -> object:
    """Return a copy without personal keys and with masked texts; numbers, ids and times as are."""
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool | int | float | UUID):
        return value
    if isinstance(value, Mapping):
        return {k: cleaned(v) for k, v in value.items() if not is_personal(str(k))}
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, Sequence | AbstractSet):
        return [cleaned(item) for item in value]
    return text(str(value))
