"""Hands queued messages to the mail server, never twice, and records what became of them."""

from notifications.mailer.claim import later
from notifications.mailer.worker import run

__all__ = ["later", "run"]
