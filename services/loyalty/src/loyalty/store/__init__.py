"""The only SQL of the service; one function is one statement."""

from loyalty.store.book import draw_ids, list_books, save_books
from loyalty.store.capped import list_days, list_days_of, list_shared_days, move_capped_lines
from loyalty.store.credit import AddedCredits, add_credits, add_earnings
from loyalty.store.member import (
    Member,
    add_members,
    add_merge,
    find_member,
    list_aliases,
)
from loyalty.store.programme import add_programme, list_programmes
from loyalty.store.redemption import find_redemption, list_holds, move_redemptions
from loyalty.store.refund import (
    add_refunds,
    add_waiting_refunds,
    list_earned,
    list_waiting,
    take_waiting_refunds,
)
from loyalty.store.statement import StatementEntry, list_entries
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
    "find_member",
    "find_redemption",
    "list_aliases",
    "list_books",
    "list_days",
    "list_days_of",
    "list_earned",
    "list_entries",
    "list_holds",
    "list_programmes",
    "list_shared_days",
    "list_waiting",
    "move_capped_lines",
    "move_redemptions",
    "save_books",
    "take_waiting_refunds",
]
