"""The interface of the store, on both databases."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from sidekey.store.audit import AuditEntry
from sidekey.store.errors import Changed, Exists, StoreRefused
from sidekey.store.records import CallerRow, PresetRow, TokenRow, new_row_id
from sidekey.store.sealing import KeyRing
from sidekey.store.state import Delete, Put
from sidekey.store.store import Store
from support.plane import eventually
from support.raw_connection import DEADLINE
from support.stores import ENTRY, KEYS, StoreBackend, fail_on_defect, integration

CALLER = CallerRow(row_id=new_row_id(), id="billing", token_sha256="0" * 64, integrations=("crm",), presets=None)
TOKEN = TokenRow(row_id=new_row_id(), id="ops", role="admin", token_sha256="1" * 64, expires_at=9)


async def wait_for_change(woken: asyncio.Event, seconds: float = DEADLINE) -> None:
    """Wait until a watch reports a change."""
    async with asyncio.timeout(seconds):
        await woken.wait()
    woken.clear()


async def test_committed_rows_are_read_after_a_restart(place: StoreBackend) -> None:
    crm = integration("crm", '{"auth":{"type":"basic"}}', created_at=1, updated_at=2, updated_by="é")
    async with place.open() as store:
        name = store.id
        state = await store.commit([Put(crm, None), Put(CALLER, None), Put(TOKEN, None)], ENTRY)
        assert state is store.state
    async with place.open() as store:
        state = store.state
        assert store.id == name
        assert state.integrations == {"crm": crm.with_version(1)}
        assert state.callers == {"billing": CALLER.with_version(1)}
        assert state.tokens == {"ops": TOKEN.with_version(1)}
        assert (state.revision, state.altered, state.rolled_back) == (1, frozenset(), {})


async def test_each_change_increments_version_and_revision(place: StoreBackend) -> None:
    crm = integration("crm")
    async with place.open() as store:
        assert (await store.commit([Put(crm, None)], ENTRY)).integrations["crm"].version == 1
        state = await store.commit([Put(replace(crm, document='{"a":1}'), 1)], ENTRY)
        assert (state.integrations["crm"].version, state.revision) == (2, 2)
        state = await store.commit([Delete(crm, 2)], ENTRY)
        assert (dict(state.integrations), state.revision) == ({}, 3)
        state = await store.commit([Put(integration("crm"), None)], ENTRY)
        assert state.integrations["crm"].version == 4


async def test_unchanged_row_stays_the_same_object(place: StoreBackend) -> None:
    """In every process, so that it knows what to build again."""
    first, second = integration("one"), integration("two")
    async with place.open() as store, place.open() as other:
        await store.commit([Put(first, None), Put(second, None)], ENTRY)
        before = await other.refresh()
        await store.commit([Put(first, 1)], ENTRY)
        after = await other.refresh()
        assert after.integrations["two"] is before.integrations["two"]
        assert after.integrations["one"] is not before.integrations["one"]
        await store.commit([Delete(first, 2)], ENTRY)
        assert (await other.refresh()).integrations == {"two": before.integrations["two"]}
        assert (await other.refresh()) is (await other.refresh())


async def test_concurrent_writers_of_one_version_conflict(place: StoreBackend) -> None:
    """It does not matter what each of them has read before."""
    crm = integration("crm")
    async with place.open() as store, place.open() as other:
        await store.commit([Put(crm, None)], ENTRY)
        results = await asyncio.gather(
            *(
                writer.commit([Put(replace(crm, updated_by=str(number)), 1)], ENTRY)
                for number, writer in enumerate([store, other] * 3)
            ),
            return_exceptions=True,
        )
        refused = [result for result in results if isinstance(result, Changed)]
        assert len(refused) == len(results) - 1
        assert {str(error) for error in refused} == {"crm has changed: its version is 2"}
        assert (await store.refresh()).integrations == (await other.refresh()).integrations


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_outdated_version_is_refused_and_the_present_one_named(place: StoreBackend, version: int) -> None:
    crm = integration("crm")
    async with place.open() as store:
        await store.commit([Put(crm, None)], ENTRY)
        await store.commit([Put(crm, 1)], ENTRY)
        for change in (Put(crm, version), Delete(crm, version)):
            with pytest.raises(Changed, match="its version is 2"):
                await store.commit([change], ENTRY)
        with pytest.raises(Changed, match="other is gone"):
            await store.commit([Delete(integration("other"), 1)], ENTRY)
        with pytest.raises(Changed):
            await store.commit([Put(integration("crm"), 2)], ENTRY)
        assert store.state.revision == 2


async def test_id_is_unique_within_its_kind(place: StoreBackend) -> None:
    async with place.open() as store:
        preset = PresetRow(row_id=new_row_id(), id="billing")
        await store.commit([Put(integration("billing"), None), Put(preset, None), Put(CALLER, None)], ENTRY)
        assert (await store.refresh()).presets == {"billing": preset.with_version(1)}
        with pytest.raises(Exists, match="billing exists already"):
            await store.commit([Put(integration("billing"), None)], ENTRY)


async def test_failed_commit_changes_nothing(place: StoreBackend) -> None:
    async with place.open() as store:
        await store.commit([Put(CALLER, None)], ENTRY)
        with pytest.raises(Exists):
            await store.commit([Put(integration("crm"), None), Put(CALLER, None)], ENTRY)
        assert await place.sql("SELECT id FROM sidekey_rows") == [("billing",)]
        assert len((await store.audit_page()).entries) == 1
        assert (await store.refresh()).revision == 1


async def test_changes_of_one_commit_apply_in_order(place: StoreBackend) -> None:
    crm = integration("crm")
    async with place.open() as store:
        state = await store.commit([Put(crm, None), Put(crm, 1), Delete(crm, 2), Put(integration("crm"), None)], ENTRY)
        assert state.integrations["crm"].version == 4
        assert state.integrations["crm"].row_id != crm.row_id
    async with place.open() as store:
        assert store.state.integrations["crm"].version == 4


async def test_watch_reports_a_change_of_another_process(place: StoreBackend) -> None:
    async with place.open() as store, place.open() as other:
        woken = asyncio.Event()
        other.watch(woken.set, fail_on_defect)
        await store.commit([Put(integration("crm"), None)], ENTRY)
        await wait_for_change(woken)
        assert other.state.revision == 1


async def test_watch_reports_nothing_without_a_change(place: StoreBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidekey.store.store.POLL_INTERVAL", 0.01)
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        woken = asyncio.Event()
        store.watch(woken.set, fail_on_defect)
        with pytest.raises(TimeoutError):
            await wait_for_change(woken, 0.2)


async def test_processes_that_start_together_create_one_store(place: StoreBackend) -> None:
    """The first creates it under a lock, and the others wait."""
    stores = await asyncio.gather(*(Store.start(place.database(), KeyRing(KEYS), retention=1) for _ in range(4)))
    try:
        for store in stores:
            store.watch(lambda: None, fail_on_defect)
            await eventually(lambda store=store: store.health.up)
        assert len({store.id for store in stores}) == 1
    finally:
        for store in stores:
            await store.close()


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"k2": b"2" * 32}, "key k1 is missing"),
        ({"k1": b"x" * 32}, "key k1 is not the key that the store is written with"),
        ({"k2": b"2" * 32, "k1": b"x" * 32}, "key k1 is not the key that the store is written with"),
    ],
    ids=["missing", "another", "another behind the first"],
)
async def test_missing_or_wrong_key_is_named(place: StoreBackend, keys: dict[str, bytes], reason: str) -> None:
    async with place.open():
        pass
    with pytest.raises(StoreRefused, match=reason):
        async with place.open(keys):
            pass


async def test_previous_first_key_still_verifies(place: StoreBackend) -> None:
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        async with place.open({"k2": b"2" * 32, **KEYS}) as other:
            assert "crm" in other.state.integrations
            await other.commit([Put(integration("sms"), None)], ENTRY)
        with pytest.raises(StoreRefused, match="key k2 is missing"):
            await store.refresh()
        assert set(store.state.integrations) == {"crm"}
        store.switch_keys(KeyRing({**KEYS, "k2": b"2" * 32}), 1000.0, 1.0)
        assert set((await store.refresh()).integrations) == {"crm", "sms"}


async def test_wrong_key_is_an_error_and_not_an_altered_row(place: StoreBackend) -> None:
    async with place.open() as store, place.open({**KEYS, "k2": b"y" * 32}) as other:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        assert set((await other.refresh()).integrations) == {"crm"}
        store.switch_keys(KeyRing({"k2": b"2" * 32, **KEYS}), 1000.0, 1.0)
        await store.commit([Put(integration("sms"), None)], ENTRY)
        for call in (other.refresh(), other.commit([Put(integration("new"), None)], ENTRY)):
            with pytest.raises(StoreRefused, match="key k2 is not the key that the store is written with"):
                await call
        assert set(other.state.integrations) == {"crm"}
        assert not other.health.up
        other.switch_keys(KeyRing({"k2": b"2" * 32, **KEYS}), 1000.0, 1.0)
        assert set((await other.refresh()).integrations) == {"crm", "sms"}
        assert other.health.up


async def test_database_without_its_store_id_is_not_touched(place: StoreBackend) -> None:
    """A backup may lack a table. A new store in its place would destroy the old one."""
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
    complete = await place.backup()
    await place.sql("DELETE FROM sidekey_store")
    incomplete = await place.backup()
    with pytest.raises(StoreRefused, match="has lost its ID: restore a backup"):
        async with place.open():
            pass
    assert await place.backup() == incomplete
    await place.restore(complete)
    async with place.open() as store:
        assert set(store.state.integrations) == {"crm"}


async def test_commit_continues_if_its_caller_is_cancelled(place: StoreBackend) -> None:
    async with place.open() as store:
        task = asyncio.create_task(store.commit([Put(integration("crm"), None)], ENTRY))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert set((await store.refresh()).integrations) == {"crm"}


async def test_old_audit_entries_are_deleted(place: StoreBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidekey.store.store.MAINTENANCE_INTERVAL", 0.0)
    monkeypatch.setattr("sidekey.store.store.POLL_INTERVAL", 0.01)
    async with place.open(retention=1000) as store:
        await store.audit(AuditEntry(who="old", action="login", at=1))
        await store.audit(AuditEntry(who="new", action="login"))
        store.watch(lambda: None, fail_on_defect)
        while len((await store.audit_page()).entries) > 1:
            await asyncio.sleep(0.05)
        assert [entry.who for _, entry in (await store.audit_page()).entries] == ["new"]


async def test_store_thread_ends_with_the_store(place: StoreBackend) -> None:
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        assert "sidekey-store" in {thread.name for thread in threading.enumerate()}
    with pytest.raises(StoreRefused):
        async with place.open({"k2": b"2" * 32}):
            pass
    assert "sidekey-store" not in {thread.name for thread in threading.enumerate()}


async def test_recording_a_use_is_not_a_change(place: StoreBackend) -> None:
    async with place.open() as store:
        await store.commit([Put(TOKEN, None)], ENTRY)
        await store.record_use(TOKEN.row_id)
        await store.record_use(TOKEN.row_id)
        assert set(await store.last_uses()) == {TOKEN.row_id}
        assert (await store.refresh()).revision == 1
        await store.commit([Delete(TOKEN, 1)], ENTRY)
        assert await store.last_uses() == {}


async def test_watch_reports_a_defect_and_continues(place: StoreBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidekey.store.store.POLL_INTERVAL", 0.01)
    async with place.open() as store, place.open() as other:
        read = store._repository.refresh
        broken = True

        async def fail(**options: bool) -> object:
            if broken:
                raise KeyError("defect")
            return await read(**options)

        monkeypatch.setattr(store._repository, "refresh", fail)
        reported: list[BaseException] = []
        woken = asyncio.Event()
        store.watch(woken.set, reported.append)
        async with asyncio.timeout(DEADLINE):
            while len(reported) < 2:
                await asyncio.sleep(0.01)
        assert {type(defect) for defect in reported} == {KeyError}
        broken = False
        await other.commit([Put(integration("crm"), None)], ENTRY)
        await wait_for_change(woken)
        assert set(store.state.integrations) == {"crm"}
