"""The mails, in SQLite, so that they survive a restart."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CREATE = """
create table if not exists mail (
    id integer primary key,
    message_id text not null,
    sender text not null,
    recipient text not null,
    subject text not null,
    received_at text not null,
    content blob not null
);
create index if not exists mail_message_id on mail (message_id);
create index if not exists mail_recipient on mail (recipient, id);
"""
ADD = """
insert into mail (message_id, sender, recipient, subject, received_at, content)
values (?, ?, ?, ?, strftime('%Y-%m-%dT%H:%M:%fZ'), ?)
"""
COLUMNS = "id, message_id, sender, recipient, subject, received_at, length(content) as bytes"


@dataclass(frozen=True, slots=True)
class Received:
    """One accepted mail for one recipient."""

    message_id: str
    sender: str
    recipient: str
    subject: str
    content: bytes


class Mailbox:
    """Every mail that was accepted, also the same one twice.

    A commit survives the process's end, `kill -9` included; a power cut may lose the last ones.
    """

    def __init__(self, directory: Path) -> None:
        """Open the file in the folder, making both when they are missing."""
        directory.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(directory / "mails.sqlite", isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = normal")
        self._connection.executescript(CREATE)

    def add(self, mails: Sequence[Received]) -> None:
        """Keep mails; returns when they are committed."""
        rows = [(m.message_id, m.sender, m.recipient, m.subject, m.content) for m in mails]
        with self._connection:
            self._connection.execute("begin")
            self._connection.executemany(ADD, rows)

    def clear(self) -> None:
        """Throw all mails away."""
        self._connection.execute("delete from mail")

    def list_by_message_id(self, message_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the mails with one of these `Message-ID` headers."""
        marks = ", ".join("?" * len(message_ids))
        sql = f"select {COLUMNS} from mail where message_id in ({marks}) order by id"  # noqa: S608  only marks
        return self._rows(sql, *message_ids)

    def list_newest(self, recipient: str | None, limit: int) -> list[dict[str, Any]]:
        """Return the newest mails, of one recipient if given."""
        sql = f"""
            select {COLUMNS} from mail where ?1 is null or recipient = ?1
            order by id desc limit ?2
            """  # noqa: S608  a constant
        return self._rows(sql, recipient, limit)

    def find(self, mail_id: int) -> bytes | None:
        """Return a mail as it was received."""
        row = self._connection.execute("select content from mail where id = ?", (mail_id,))
        found = row.fetchone()
        return None if found is None else bytes(found["content"])

    def count(self) -> dict[str, int]:
        """Return how many mails there are, and how many different `Message-ID`s."""
        sql = 'select count(*) as total, count(distinct message_id) as "distinct" from mail'
        return self._rows(sql)[0]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(sql, values)]
