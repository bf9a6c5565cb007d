"""Categories, quiet hours, templates, mails, amounts and pauses."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, date, datetime, time
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from notifications.domain import message, rendering
from notifications.domain.backoff import LONGEST_SECONDS, retry_seconds
from notifications.domain.category import QuietHours, Rules
from notifications.domain.mail import Envelope, build, on_the_wire
from notifications.domain.quiet_hours import quiet_until
from notifications.domain.rendering import MessageTemplate, Rendered, RenderError

PRAGUE = ZoneInfo("Europe/Prague")
ID = UUID("11111111-2222-8333-8444-555555555555")
URL = "https://rapport.example/v1/unsubscribe/0123456789abcdef"
ENVELOPE = Envelope(
    ID, "shop@rapport.example", "a@b.example", datetime(2026, 3, 2, tzinfo=UTC), None
)
NIGHT = QuietHours(start=time(21), end=time(10))


def template(subject: str = "s", text: str = "t", html: str = "h") -> MessageTemplate:
    return MessageTemplate("code", "default", 1, subject, text, html)


@pytest.mark.parametrize(
    ("quiet", "local", "until"),
    [
        (NIGHT, "2026-03-02T20:59", None),
        (NIGHT, "2026-03-02T21:00", "2026-03-03T10:00"),
        (NIGHT, "2026-03-03T09:59", "2026-03-03T10:00"),
        (NIGHT, "2026-03-03T10:00", None),
        (QuietHours(start=time(12), end=time(14)), "2026-03-02T13:00", "2026-03-02T14:00"),
        (QuietHours(start=time(12), end=time(14)), "2026-03-02T14:00", None),
        (QuietHours(start=time(8), end=time(8)), "2026-03-02T08:00", None),
        # 02:30 does not exist on the night of the change: the end moves forward with the clock
        (QuietHours(start=time(22), end=time(2, 30)), "2026-03-28T23:00", "2026-03-29T03:30"),
    ],
)
def test_quiet_until(quiet: QuietHours, local: str, until: str | None) -> None:
    now = datetime.fromisoformat(local).replace(tzinfo=PRAGUE)
    expected = datetime.fromisoformat(until).replace(tzinfo=PRAGUE) if until else None
    found = quiet_until(now.astimezone(UTC), quiet, PRAGUE)
    assert found == (expected.astimezone(UTC) if expected else None)


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001  made aware below
    st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    st.times().map(lambda t: t.replace(second=0, microsecond=0)),
)
def test_the_end_of_a_quiet_window_lies_ahead_and_is_not_quiet(
    now: datetime, start: time, end: time
) -> None:
    quiet = QuietHours(start=start, end=end)
    until = quiet_until(now.replace(tzinfo=UTC), quiet, ZoneInfo("Asia/Kolkata"))
    if until is not None:
        assert until > now.replace(tzinfo=UTC)
        assert quiet_until(until, quiet, ZoneInfo("Asia/Kolkata")) is None


def test_marketing_without_a_purpose_is_refused() -> None:
    with pytest.raises(ValidationError, match="purpose"):
        Rules.model_validate({"message_class": "marketing"})


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="IANA"):
        Rules.model_validate({"message_class": "critical", "zone": "Europe/Atlantis"})


@pytest.mark.parametrize(
    ("language", "chosen"),
    [("cs-CZ", "cs-CZ"), ("cs_cz", "cs-CZ"), ("cs-SK", "cs"), ("fr", "default"), (None, "default")],
)
def test_language_falls_back_step_by_step(language: str | None, chosen: str) -> None:
    known = [MessageTemplate("code", each, 1, "", "", "") for each in ("default", "cs", "cs-CZ")]
    found = rendering.choose(known, language)
    assert found is not None
    assert found.language == chosen


def test_a_missing_variable_is_an_error_that_names_no_values() -> None:
    with pytest.raises(RenderError) as failed:
        rendering.render(template(text="{{ missing }}"), {"given_name": "Žofie"})
    assert "Žofie" not in str(failed.value)


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ given_name.__init__.__globals__ }}",
        "{% for a in range(10**9) %}{% endfor %}",
    ],
)
def test_templates_run_in_a_sandbox(attack: str) -> None:
    with pytest.raises(RenderError):
        rendering.render(template(text=attack), {"given_name": "x"})


def test_html_is_escaped_and_plain_text_is_not() -> None:
    words = rendering.render(
        template("{{ given_name }}", "{{ given_name }}", "{{ given_name }}"),
        {"given_name": "<b>\r\nBcc: x"},
    )
    assert words == Rendered("<b> Bcc: x", "<b>\r\nBcc: x", "&lt;b&gt;\r\nBcc: x")


@given(st.text(max_size=300), st.text(max_size=2000), st.text(max_size=2000))
def test_a_mail_reads_back_as_it_was_written(subject: str, text: str, html: str) -> None:
    printable = " ".join("".join(c for c in subject if c.isprintable()).split())
    mail = build(ENVELOPE, Rendered(printable, text, html))
    assert all(len(line) <= 998 for line in mail.split(b"\r\n"))
    assert b"\n" not in mail.replace(b"\r\n", b"")
    read = email.message_from_bytes(mail, policy=email.policy.default)
    assert read.defects == []
    assert " ".join(str(read["Subject"]).split()) == printable
    plain, rich = (part.get_payload(decode=True) for part in read.iter_parts())
    assert plain == _crlf(text)
    assert rich == _crlf(html)


def _crlf(text: str) -> bytes:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n").encode()


def test_marketing_carries_both_one_click_headers() -> None:
    envelope = Envelope(ID, ENVELOPE.sender, ENVELOPE.address, ENVELOPE.date, URL)
    read = email.message_from_bytes(build(envelope, Rendered("s", "t", "h")))
    assert read["List-Unsubscribe"] == f"<{URL}>"
    assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert read["Message-ID"] == f"<{ID}@rapport.example>"


def test_transactional_mails_carry_none() -> None:
    assert b"List-Unsubscribe" not in build(ENVELOPE, Rendered("s", "t", "h"))


@pytest.mark.parametrize("address", ["a@b.example\r\nBcc: c@d.example", "ž@b.example"])
def test_an_address_that_headers_cannot_carry_is_refused(address: str) -> None:
    envelope = Envelope(ID, ENVELOPE.sender, address, ENVELOPE.date, None)
    with pytest.raises(ValueError, match=r"control|SMTPUTF8"):
        build(envelope, Rendered("s", "t", "h"))


def test_leading_dots_are_doubled_on_the_wire() -> None:
    assert on_the_wire(b"a\r\n.\r\n..b\r\n") == b"a\r\n..\r\n...b\r\n.\r\n"


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(1234, "USD", "12.34"), (5, "EUR", "0.05"), (1234, "JPY", "1234"), (1234, "KWD", "1.234")],
)
def test_amount(minor: int, currency: str, text: str) -> None:
    assert message.amount(minor, currency) == text


def test_an_anniversary_counts_calendar_years() -> None:
    variables = message.anniversary_variables(date(1996, 2, 29), date(1999, 2, 28))
    assert variables == {"purchased_on": "1996-02-29", "years": 3}


def test_pauses_double_up_to_ten_minutes() -> None:
    assert [retry_seconds(n, 0.0) for n in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert retry_seconds(1000, 0.0) == LONGEST_SECONDS
    assert retry_seconds(3, 0.5) == 3.0
