"""Waves: order per contact is kept, and no list touches a contact twice unless it may."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from rapport.messaging import wave

CONTACTS = [UUID(int=n) for n in range(4)]
SEVERAL = {"sum", "count"}


@dataclass(frozen=True)
class Happening:
    """Something that concerns contacts."""

    place: int
    kind: str
    canonical: tuple[UUID, ...]


happenings = st.lists(
    st.tuples(
        st.sampled_from(["sum", "count", "tier", "merge"]),
        st.lists(st.sampled_from(CONTACTS), min_size=1, max_size=3, unique=True).map(tuple),
    ),
    max_size=30,
).map(lambda pairs: [Happening(n, *pair) for n, pair in enumerate(pairs)])


@given(happenings)
def test_order_per_contact_is_kept(items: list[Happening]) -> None:
    waves = wave.cut(items, SEVERAL.__contains__)
    seen: dict[UUID, list[int]] = defaultdict(list)
    for cut in waves:
        for members in cut.by_kind.values():
            for item in members:
                for contact in item.canonical:
                    seen[contact].append(item.place)
    assert sum(len(m) for cut in waves for m in cut.by_kind.values()) == len(items)
    for places in seen.values():
        assert places == sorted(places)


@given(happenings)
def test_a_wave_touches_a_contact_once_or_by_one_kind_that_may(items: list[Happening]) -> None:
    for cut in wave.cut(items, SEVERAL.__contains__):
        kinds: dict[UUID, list[str]] = defaultdict(list)
        for kind, members in cut.by_kind.items():
            for item in members:
                assert item.kind == kind
                for contact in item.canonical:
                    kinds[contact].append(kind)
        for touched in kinds.values():
            assert len(touched) == 1 or (len(set(touched)) == 1 and touched[0] in SEVERAL)


def test_different_contacts_share_a_wave() -> None:
    items = [Happening(n, "tier", (contact,)) for n, contact in enumerate(CONTACTS)]
    assert len(wave.cut(items, SEVERAL.__contains__)) == 1
    again = [Happening(n, "sum", (CONTACTS[0],)) for n in range(5)]
    assert len(wave.cut(again, SEVERAL.__contains__)) == 1
    assert len(wave.cut(again, lambda _: False)) == 5
