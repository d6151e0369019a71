"""Rows that something other than Sidekey changed, restored or removed, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sidekey.store.errors import StoreUnavailable
from sidekey.store.records import CallerRow, IntegrationRow, TokenRow, new_row_id
from sidekey.store.state import Delete, Put
from sidekey.store.store import Store
from support.raw_connection import DEADLINE
from support.stores import ENTRY, StoreBackend, fail_on_defect, integration

CALLER = CallerRow(row_id=new_row_id(), id="billing", token_sha256="0" * 64, integrations=None)
TOKEN = TokenRow(row_id=new_row_id(), id="ops", role="viewer", token_sha256="1" * 64)
ONE = integration("one", '{"one":1}', row="1" * 32)
TWO = integration("two", '{"two":2}', row="2" * 32)
EVERYTHING = {"one", "two"}


async def fill(store: Store) -> None:
    """Commit two integrations, a caller and a token, and a change of the first integration."""
    await store.commit([Put(record, None) for record in (ONE, TWO, CALLER, TOKEN)], ENTRY)
    await store.commit([Put(replace(ONE, document='{"one":2}'), 1)], ENTRY)


ALTERED = {
    "a character of a document": "UPDATE sidekey_rows SET body = replace(body, '\\\"one\\\":2', '\\\"one\\\":3') "
    "WHERE id = 'one'",
    "the body of another row": "UPDATE sidekey_rows SET body = (SELECT body FROM sidekey_rows WHERE id = 'two') "
    "WHERE id = 'one'",
    "a body that is not JSON": "UPDATE sidekey_rows SET body = 'x' WHERE id = 'one'",
    "no body": "UPDATE sidekey_rows SET body = '' WHERE id = 'one'",
    "the ID of the key": "UPDATE sidekey_rows SET \"key\" = 'k9' WHERE id = 'one'",
    "the MAC of another row": "UPDATE sidekey_rows SET mac = (SELECT mac FROM sidekey_rows WHERE id = 'two') "
    "WHERE id = 'one'",
    "an invalid MAC": "UPDATE sidekey_rows SET mac = 'é' WHERE id = 'one'",
}


@pytest.mark.parametrize("statement", ALTERED.values(), ids=ALTERED)
async def test_altered_row_is_not_used(place: StoreBackend, statement: str) -> None:
    async with place.open() as store:
        await fill(store)
    await place.sql(statement)
    async with place.open() as store:
        assert store.state.altered == {("integration", "one")}
        assert store.state.integrations["one"] == IntegrationRow(row_id="1" * 32, id="one", version=2, verified=False)
        assert store.state.integrations["two"] == TWO.with_version(1)
        assert not store.state.rolled_back
        # A new version repairs it.
        state = await store.commit([Put(ONE, 2)], ENTRY)
        assert state.integrations["one"] == ONE.with_version(3)
        assert state.altered == frozenset()
    async with place.open() as store:
        assert set(store.state.integrations) == EVERYTHING
        assert store.state.altered == frozenset()


async def restore_row(place: StoreBackend, name: str, older: tuple[object, ...]) -> None:
    """Write an older row with its old MAC."""
    row, version, revision, mac, body = older
    await place.sql(
        f"UPDATE sidekey_rows SET row_id = '{row}', version = {version}, revision = {revision}, mac = '{mac}', "
        f"body = '{body}' WHERE id = '{name}'"
    )


async def read_row(place: StoreBackend, name: str) -> tuple[object, ...]:
    """Copy a row, as someone with read access to the database can."""
    ((row, version, revision, mac, body),) = await place.sql(
        f"SELECT row_id, version, revision, mac, body FROM sidekey_rows WHERE id = '{name}'"
    )
    return row, version, revision, mac, body


@pytest.mark.parametrize("deleted", [False, True], ids=["changed", "deleted"])
async def test_restored_row_is_noticed_and_used(
    place: StoreBackend, deleted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store can still be written."""
    monkeypatch.setattr("sidekey.store.store.POLL_INTERVAL", 0.01)
    async with place.open() as store:
        await fill(store)
        older = await read_row(place, "billing")
        await store.commit([Delete(CALLER, 1) if deleted else Put(replace(CALLER, integrations=()), 1)], ENTRY)
        woken = asyncio.Event()
        store.watch(woken.set, fail_on_defect)
        await restore_row(place, "billing", older)
        async with asyncio.timeout(DEADLINE):
            while not store.state.rolled_back:
                await woken.wait()
                woken.clear()
        assert store.state.rolled_back == {("caller", "billing"): (2, 1)}
        assert store.state.callers == {"billing": CALLER.with_version(1)}
        assert set(store.state.integrations) == EVERYTHING
        await store.commit([Delete(CALLER, 1)], ENTRY)
        assert (dict(store.state.callers), store.health.up) == ({}, True)
        # Until the process ends.
        assert store.state.rolled_back


async def test_next_verification_notices_an_edited_row(place: StoreBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then, a running process uses the row that it has verified."""
    monkeypatch.setattr("sidekey.store.store.POLL_INTERVAL", 0.01)
    monkeypatch.setattr("sidekey.store.store.MAINTENANCE_INTERVAL", 0.05)
    async with place.open() as store:
        await fill(store)
        await place.sql("UPDATE sidekey_rows SET body = '{}' WHERE id = 'one'")
        assert (await store.refresh()).altered == frozenset()
        woken = asyncio.Event()
        store.watch(woken.set, fail_on_defect)
        async with asyncio.timeout(DEADLINE):
            while not store.state.altered:
                await woken.wait()
                woken.clear()
        assert store.state.altered == {("integration", "one")}


async def test_removed_row_is_noticed(place: StoreBackend) -> None:
    async with place.open() as store:
        await fill(store)
        await place.sql("DELETE FROM sidekey_rows WHERE id = 'two'")
        assert set((await store.refresh()).integrations) == {"one"}
        assert store.state.rolled_back == {("integration", "two"): (1, 0)}


async def test_older_database_is_noticed_and_used(place: StoreBackend) -> None:
    """Even if later writes reach the known revision, or exceed it."""
    for later in range(3):
        async with place.open() as store:
            known = await store.refresh()
            backup = await place.backup()
            two = integration(f"new{later}")
            await store.commit([Put(two, None)], ENTRY)
            await store.commit([Put(two, 1)], ENTRY)
            await place.restore(backup)
            async with place.open() as other:
                assert not other.state.rolled_back
                for number in range(later):
                    await other.commit([Put(integration(f"i{later}{number}"), None)], ENTRY)
            state = await store.refresh()
            assert state.rolled_back == {("integration", f"new{later}"): (2, 0)}
            assert len(state.integrations) == len(known.integrations) + later
            await store.commit([Put(integration(f"last{later}"), None)], ENTRY)


@pytest.mark.parametrize("change", [Put(ONE, 2), Delete(ONE, 2)], ids=["put", "delete"])
async def test_row_edited_during_a_commit_is_not_overwritten(place: StoreBackend, change: Put | Delete) -> None:
    async with place.open() as store:
        await fill(store)
        await place.sql("UPDATE sidekey_rows SET version = 1 WHERE id = 'one'")
        with pytest.raises(StoreUnavailable, match="integration one was changed by other means"):
            await store.commit([change], ENTRY)
        assert await place.sql("SELECT version FROM sidekey_rows WHERE id = 'one'") == [(1,)]


async def test_other_processes_see_a_deletion_and_a_new_row_of_the_same_id(place: StoreBackend) -> None:
    """The tombstone shows the deletion. The version continues, so that no ETag of the ID repeats."""
    async with place.open() as store, place.open() as other:
        await fill(store)
        await other.refresh()
        await store.commit([Delete(ONE, 2)], ENTRY)
        assert set((await other.refresh()).integrations) == {"two"}
        assert await place.sql("SELECT version, body FROM sidekey_rows WHERE id = 'one'") == [(3, "")]
        new = integration("one")
        await other.commit([Put(new, None)], ENTRY)
        assert (await store.refresh()).integrations["one"] == new.with_version(4)
        assert not (store.state.rolled_back or other.state.rolled_back)
    async with place.open() as store:
        assert store.state.integrations["one"] == new.with_version(4)
