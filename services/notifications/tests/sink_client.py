"""A running mail sink, as tests see it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx


@dataclass(frozen=True)
class Sink:
    """A running mail sink."""

    smtp_port: int
    http_port: int
    directory: Path

    @property
    def url(self) -> str:
        """Its HTTP address."""
        return f"http://127.0.0.1:{self.http_port}"

    def start(self) -> subprocess.Popen[bytes]:
        """Run it, and wait until it is ready."""
        ports = ["--smtp-port", str(self.smtp_port), "--http-port", str(self.http_port)]
        command = [sys.executable, "-m", "notifications.sink", *ports]
        process = subprocess.Popen([*command, "--directory", str(self.directory)])
        end = time.monotonic() + 90
        while time.monotonic() < end and process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz").is_success:
                    return process
            except httpx.TransportError:
                time.sleep(0.05)  # between two looks; the deadline is above
        process.kill()
        raise AssertionError("the sink did not become ready")

    def behave(self, *wishes: dict[str, Any]) -> None:
        """Tell it how to treat clients; without wishes it behaves."""
        httpx.post(f"{self.url}/behaviour", json=list(wishes)).raise_for_status()

    def to(self, address: str) -> list[dict[str, Any]]:
        """Return the mails for an address, the newest first."""
        answer = httpx.get(f"{self.url}/messages", params={"to": address})
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def by_message_id(self, message_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the mails with one of these Message-IDs."""
        answer = httpx.get(f"{self.url}/messages", params={"message_id": list(message_ids)})
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def content(self, mail: dict[str, Any]) -> str:
        """Return a mail as it was received."""
        return httpx.get(f"{self.url}/messages/{mail['id']}").text

    def count(self) -> dict[str, int]:
        """Return how many mails there are, and how many different ones."""
        counted: dict[str, int] = httpx.get(f"{self.url}/count").json()
        return counted
