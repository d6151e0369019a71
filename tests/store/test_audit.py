"""The audit, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidekey.store.audit import MAX_FIELDS, AuditEntry, AuditFilter, AuditPage
from sidekey.store.errors import Exists
from sidekey.store.records import new_row_id
from sidekey.store.state import Put
from support.stores import StoreBackend, integration

ROW = new_row_id()


def entry(number: int, row: str = "") -> AuditEntry:
    return AuditEntry(
        who=f"ops {number} é",
        action="update",
        kind="integration",
        id="crm",
        row_id=row,
        fields=("/auth/password", "/tags"),
        source="192.0.2.1",
        outcome="ok",
        at=100 + number,
        label="Ann É",
    )


async def test_pages_begin_with_the_newest_entry(place: StoreBackend) -> None:
    async with place.open() as store:
        await store.commit([], *map(entry, range(100)))
        first = await store.audit_page()
        assert first.entries == tuple((number + 1, entry(number)) for number in range(99, 49, -1))
        last = await store.audit_page(before=first.next)
        assert ([number for number, _ in last.entries], last.next) == ([*range(50, 0, -1)], None)
        assert (await store.audit_page(before=1)).entries == ()


async def test_entries_of_one_row_have_pages(place: StoreBackend) -> None:
    async with place.open() as store:
        await store.commit([], *(entry(number, ROW if number % 2 else new_row_id()) for number in range(102)))
        page = await store.audit_page(row_id=ROW)
        assert [entry.at for _, entry in page.entries] == [*range(201, 101, -2)]
        assert [entry.at for _, entry in (await store.audit_page(row_id=ROW, before=page.next)).entries] == [101]
        assert (await store.audit_page(row_id=new_row_id())).entries == ()


async def test_commit_writes_all_its_entries_or_none(place: StoreBackend) -> None:
    """An import has one entry for each change."""
    async with place.open() as store:
        await store.commit([Put(integration("a"), None), Put(integration("b"), None)], entry(1), entry(2))
        with pytest.raises(Exists):
            await store.commit([Put(integration("c"), None), Put(integration("b"), None)], entry(3), entry(4))
        page = await store.audit_page()
    assert page.entries == ((2, entry(2)), (1, entry(1)))


async def test_fields_of_an_entry_are_limited(place: StoreBackend) -> None:
    async with place.open() as store:
        await store.audit(replace(entry(1), fields=tuple(map(str, range(1000)))))
        ((_, stored),) = (await store.audit_page()).entries
    assert stored.fields == tuple(map(str, range(MAX_FIELDS)))


async def test_entry_replaces_only_the_previous_one(place: StoreBackend) -> None:
    """A restored database may have another entry with that number."""
    async with place.open() as store:
        first = entry(1), replace(entry(1), outcome="failed")
        number = await store.audit(first[0])
        other = await store.audit(entry(3))
        assert await store.audit(first[1], (number, first[0])) == number
        page = await store.audit_page()
        assert page.entries == ((other, entry(3)), (number, first[1]))
        assert await store.audit(entry(4), (other, entry(9))) == other + 1
        assert len((await store.audit_page()).entries) == 3


async def test_search_matches_values_and_not_member_names(place: StoreBackend) -> None:
    async with place.open() as store:
        await store.commit([], *map(entry, range(3)))
        other = AuditEntry(
            who="ben", action="delete", kind="preset", id="crm_1", source="192.0.2.9", outcome="in_use", label="100%"
        )
        await store.audit(other)

        async def numbers(**values: str) -> list[int]:
            return [number for number, _ in (await store.audit_page(audit_filter=AuditFilter(**values))).entries]

        assert await numbers() == [4, 3, 2, 1]
        assert await numbers(who="ben") == await numbers(kind="preset") == await numbers(id="crm_1") == [4]
        assert await numbers(who="BE") == await numbers(who="0%") == [4]
        assert await numbers(who="ann") == [3, 2, 1]
        assert await numbers(q="IN_USE") == await numbers(q="100%") == await numbers(q="m_1") == [4]
        assert await numbers(q="Password") == await numbers(q="ann ") == await numbers(kind="integration") == [3, 2, 1]
        assert await numbers(q="password ANN", kind="integration") == [3, 2, 1]
        for absent in ("source", "ann in_use", "outcome", "fields", "0%0", "x_1", "\\", "' OR 1=1 --"):
            assert await numbers(q=absent) == []


async def test_search_reads_a_limited_number_of_entries_and_continues(place: StoreBackend) -> None:
    async with place.open() as store:
        await store.commit([], entry(0), *(AuditEntry(who="ben", action="update") for _ in range(5000)))

        async def page(before: int | None, **values: str) -> AuditPage:
            return await store.audit_page(before=before, audit_filter=AuditFilter(**values))

        empty = await page(None, q="192.0.2.1")
        assert (empty.entries, empty.next) == ((), 2)
        last = await page(empty.next, q="192.0.2.1")
        assert ([number for number, _ in last.entries], last.next) == ([1], None)
        assert (await page(None, who="ben")).next == 4952
        assert (await page(5001, q="nothing")).next is None
