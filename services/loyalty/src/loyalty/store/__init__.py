"""The only SQL of the service; one function is one statement."""

from loyalty.store.book import draw_ids, list_books, save_books
from loyalty.store.credit import AddedCredits, add_credits, add_earnings
from loyalty.store.member import (
    Member,
    add_members,
    add_merge,
    find_member,
    list_aliases,
    set_alias,
)
from loyalty.store.programme import add_programme, list_programmes
from loyalty.store.refund import (
    add_refunds,
    add_waiting_refunds,
    list_earned,
    list_waiting,
    take_waiting_refunds,
)
from loyalty.store.statement import StatementEntry, find_balance, list_entries
from loyalty.store.totals import count_totals

__all__ = [
    "AddedCredits",
    "Member",
    "StatementEntry",
    "add_credits",
    "add_earnings",
    "add_members",
    "add_merge",
    "add_programme",
    "add_refunds",
    "add_waiting_refunds",
    "count_totals",
    "draw_ids",
    "find_balance",
    "find_member",
    "list_aliases",
    "list_books",
    "list_earned",
    "list_entries",
    "list_programmes",
    "list_waiting",
    "save_books",
    "set_alias",
    "take_waiting_refunds",
]
