"""The mail sink: it keeps mails, answers questions, and misbehaves on demand."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest

from rapport_local.ports import choose
from services.notifications.tests.sink_client import Sink


def mail(number: int, text: str = ".\nhello") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"] = "shop@rapport.example", f"c{number}@shop.example"
    made["Subject"], made["Message-ID"] = f"Díky {number}", f"<{number}@rapport.example>"
    made.set_content(text)
    return made


def send(sink: Sink, *numbers: int) -> None:
    with smtplib.SMTP("127.0.0.1", sink.smtp_port) as client:
        for number in numbers:
            client.send_message(mail(number))


def test_mails_are_kept_counted_and_found(sink: Sink) -> None:
    send(sink, 1, 2, 2)
    assert sink.count() == {"total": 3, "distinct": 2}
    assert [m["subject"] for m in sink.to("c2@shop.example")] == ["Díky 2", "Díky 2"]
    found = sink.by_message_id(["<1@rapport.example>", "<9@rapport.example>"])
    assert [m["recipient"] for m in found] == ["c1@shop.example"]
    content = httpx.get(f"{sink.url}/messages/{found[0]['id']}").text
    assert content.endswith("\r\n.\r\nhello\r\n")
    assert "Díky 1" in httpx.get(f"{sink.url}/").text


def test_limit_gives_the_newest(sink: Sink) -> None:
    send(sink, 1, 2, 3)
    items = httpx.get(f"{sink.url}/messages", params={"limit": 2}).json()["items"]
    assert [m["message_id"] for m in items] == ["<3@rapport.example>", "<2@rapport.example>"]


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "content"])
def test_a_code_is_answered_at_its_step_so_many_times(sink: Sink, step: str) -> None:
    sink.behave({"step": step, "code": 451, "times": 1})
    with pytest.raises(smtplib.SMTPException):
        send(sink, 1)
    assert sink.count()["total"] == 0
    send(sink, 1)
    assert sink.count()["total"] == 1


@pytest.mark.parametrize("keep", [True, False])
def test_a_cut_after_the_content_may_have_kept_the_mail(sink: Sink, *, keep: bool) -> None:
    sink.behave({"step": "content", "cut": True, "keep": keep, "times": 1})
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send(sink, 1)
    assert sink.count()["total"] == int(keep)


def test_a_wish_can_be_for_one_recipient(sink: Sink) -> None:
    sink.behave({"step": "rcpt", "code": 550, "to": "c2@"})
    send(sink, 1, 3)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(sink, 2)
    assert sink.count()["total"] == 2


def test_mails_survive_a_kill(tmp_path: Path) -> None:
    smtp_port, http_port = choose(2)
    other = Sink(smtp_port, http_port, tmp_path / "other")
    process = other.start()
    try:
        send(other, 1, 2)
        process.kill()
        process.wait()
        process = other.start()
        assert other.count() == {"total": 2, "distinct": 2}
    finally:
        process.kill()
        process.wait()
