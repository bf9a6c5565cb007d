"""The figures once more, from the facts alone."""

from __future__ import annotations

from analytics.store import rebuild as store
from analytics.store.rebuild import Differences
from rapport.messaging.transaction import Tx

SHOWN = 100


async def rebuild(tx: Tx, *, dry_run: bool = True) -> Differences:
    """Compare the live figures with those of the facts; unless `dry_run`, mend them.

    Memberships are compared but not mended here: entering and leaving is published, which needs
    the contacts' keys (`segments.judge_all`). Consumers wait while figures are mended.
    """
    if not dry_run:
        await store.lock_figures(tx)
    differences = await store.list_differences(tx, SHOWN)
    if not dry_run and differences.total:
        await store.mend_profiles(tx)
        await store.mend_kept_days(tx)
        await store.clear_revenue(tx)
        await store.fill_revenue(tx)
    return differences
