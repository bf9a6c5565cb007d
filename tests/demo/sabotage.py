"""What a hand may do to a copy before its totals are read, and how it is undone."""

from __future__ import annotations

from dataclasses import dataclass

TRIGGERS_OFF = "set local session_replication_role = replica"
FORGET = "drop table saved"


@dataclass(frozen=True)
class Sabotage:
    """Statements on a service's database, or on the mail sink's file for `sink`."""

    name: str
    place: str
    change: tuple[str, ...]
    undo: tuple[str, ...]
    named: str
    """A part of a line that the demo must print."""


OUTBOX = "create table saved as select * from rapport.outbox order by number limit 1"
LINE = "create table saved as select * from journal_line order by journal_id, account limit 1"
MESSAGE = "create table saved as select * from message where state = 'sent' order by id limit 1"
FACT = "create table saved as select * from fact where kind = 'message_sent' limit 1"
MAIL = "create table saved as select * from mail order by id limit 1"
DELETE_LINE = """
delete from journal_line l using saved s
where (l.journal_id, l.account) = (s.journal_id, s.account)
"""

SABOTAGES = (
    Sabotage(
        "an outbox row removed",
        "contacts",
        (OUTBOX, "delete from rapport.outbox o using saved s where o.number = s.number"),
        ("insert into rapport.outbox overriding system value select * from saved", FORGET),
        "contacts: outbox rows is",
    ),
    Sabotage(
        "an outbox row doubled",
        "contacts",
        (
            OUTBOX,
            "update saved set number = -1",
            "insert into rapport.outbox overriding system value select * from saved",
        ),
        ("delete from rapport.outbox where number = -1", FORGET),
        "contacts: outbox rows is",
    ),
    Sabotage(
        "a ledger line removed",
        "loyalty",
        (TRIGGERS_OFF, LINE, DELETE_LINE),
        ("insert into journal_line select * from saved", FORGET),
        "loyalty: journals_unbalanced is 1 and must be 0",
    ),
    Sabotage(
        "a ledger line doubled",
        "loyalty",
        (LINE, "insert into journal_line select * from saved"),
        (
            TRIGGERS_OFF,
            DELETE_LINE,
            "insert into journal_line select * from saved",
            FORGET,
        ),
        "loyalty: lines is",
    ),
    Sabotage(
        "a mail removed",
        "sink",
        (MAIL, "delete from mail where id in (select id from saved)"),
        ("insert into mail select * from saved", FORGET),
        "mail sink: mails is",
    ),
    Sabotage(
        "a mail doubled",
        "sink",
        (MAIL, "update saved set id = -1", "insert into mail select * from saved"),
        ("delete from mail where id = -1", FORGET),
        "mail sink: mails is",
    ),
    Sabotage(
        "a message removed",
        "notifications",
        (MESSAGE, "delete from message m using saved s where m.id = s.id"),
        ("insert into message select * from saved", FORGET),
        "notifications: messages.sent is",
    ),
    Sabotage(
        "a message doubled",
        "notifications",
        (
            MESSAGE,
            "update saved set id = gen_random_uuid(), occasion = 'twice'",
            "insert into message select * from saved",
        ),
        ("delete from message where occasion = 'twice'", FORGET),
        "notifications: messages.sent is",
    ),
    Sabotage(
        "a fact removed",
        "analytics",
        (FACT, "delete from fact f using saved s where f.event_id = s.event_id"),
        ("insert into fact select * from saved", FORGET),
        "analytics: facts.message_sent is",
    ),
    Sabotage(
        "a fact doubled",
        "analytics",
        (
            FACT,
            "update saved set event_id = gen_random_uuid()",
            "insert into fact select * from saved",
        ),
        ("delete from fact f using saved s where f.event_id = s.event_id", FORGET),
        "analytics: facts.message_sent is",
    ),
)
