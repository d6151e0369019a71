"""The store as the rest of the process sees it, on both databases."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from sidekey.store.audit import AuditEntry
from sidekey.store.errors import Changed, Exists, StoreRefused
from sidekey.store.records import CallerRow, PresetRow, TokenRow, new_row
from sidekey.store.sealing import KeyRing
from sidekey.store.state import Delete, Put
from sidekey.store.store import Store
from support.plane import eventually
from support.raw_connection import DEADLINE
from support.stores import ENTRY, KEYS, Place, integration, raised

CALLER = CallerRow(row=new_row(), id="billing", token_sha256="0" * 64, integrations=("crm",), presets=None)
TOKEN = TokenRow(row=new_row(), id="ops", role="admin", token_sha256="1" * 64, expires_at=9)


async def changed(woken: asyncio.Event, seconds: float = DEADLINE) -> None:
    """Wait for a watch to tell of a change."""
    async with asyncio.timeout(seconds):
        await woken.wait()
    woken.clear()


async def test_what_is_written_is_read_after_a_restart(place: Place) -> None:
    crm = integration("crm", '{"auth":{"type":"basic"}}', created_at=1, updated_at=2, updated_by="é")
    async with place.open() as store:
        name = store.id
        state = await store.commit([Put(crm, None), Put(CALLER, None), Put(TOKEN, None)], ENTRY)
        assert state is store.state
    async with place.open() as store:
        state = store.state
        assert store.id == name
        assert state.integrations == {"crm": crm.at(1)}
        assert state.callers == {"billing": CALLER.at(1)}
        assert state.tokens == {"ops": TOKEN.at(1)}
        assert (state.revision, state.altered, state.rolled_back) == (1, frozenset(), {})


async def test_versions_and_the_revision_count_changes(place: Place) -> None:
    crm = integration("crm")
    async with place.open() as store:
        assert (await store.commit([Put(crm, None)], ENTRY)).integrations["crm"].version == 1
        state = await store.commit([Put(replace(crm, document='{"a":1}'), 1)], ENTRY)
        assert (state.integrations["crm"].version, state.revision) == (2, 2)
        state = await store.commit([Delete(crm, 2)], ENTRY)
        assert (dict(state.integrations), state.revision) == ({}, 3)
        state = await store.commit([Put(integration("crm"), None)], ENTRY)
        assert state.integrations["crm"].version == 4


async def test_a_row_that_did_not_change_is_the_same_object(place: Place) -> None:
    """In this process and in others, so that they know what to build again."""
    one, two = integration("one"), integration("two")
    async with place.open() as store, place.open() as other:
        await store.commit([Put(one, None), Put(two, None)], ENTRY)
        before = await other.read()
        await store.commit([Put(one, 1)], ENTRY)
        after = await other.read()
        assert after.integrations["two"] is before.integrations["two"]
        assert after.integrations["one"] is not before.integrations["one"]
        await store.commit([Delete(one, 2)], ENTRY)
        assert (await other.read()).integrations == {"two": before.integrations["two"]}
        assert (await other.read()) is (await other.read())


async def test_of_two_writers_with_one_version_one_is_told(place: Place) -> None:
    """Whatever each of them has read before."""
    crm = integration("crm")
    async with place.open() as store, place.open() as other:
        await store.commit([Put(crm, None)], ENTRY)
        done = await asyncio.gather(
            *(
                each.commit([Put(replace(crm, updated_by=str(number)), 1)], ENTRY)
                for number, each in enumerate([store, other] * 3)
            ),
            return_exceptions=True,
        )
        refused = [each for each in done if isinstance(each, Changed)]
        assert len(refused) == len(done) - 1
        assert {str(each) for each in refused} == {"crm has changed: its version is 2"}
        assert (await store.read()).integrations == (await other.read()).integrations


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_another_version_is_refused_with_the_present_one(place: Place, version: int) -> None:
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


async def test_an_id_is_given_once_to_each_kind(place: Place) -> None:
    async with place.open() as store:
        preset = PresetRow(row=new_row(), id="billing")
        await store.commit([Put(integration("billing"), None), Put(preset, None), Put(CALLER, None)], ENTRY)
        assert (await store.read()).presets == {"billing": preset.at(1)}
        with pytest.raises(Exists, match="billing exists already"):
            await store.commit([Put(integration("billing"), None)], ENTRY)


async def test_all_changes_are_done_or_none(place: Place) -> None:
    async with place.open() as store:
        await store.commit([Put(CALLER, None)], ENTRY)
        with pytest.raises(Exists):
            await store.commit([Put(integration("crm"), None), Put(CALLER, None)], ENTRY)
        assert await place.sql("SELECT id FROM sidekey_rows") == [("billing",)]
        assert len((await store.audit_page()).entries) == 1
        assert (await store.read()).revision == 1


async def test_changes_within_one_commit_follow_each_other(place: Place) -> None:
    crm = integration("crm")
    async with place.open() as store:
        state = await store.commit([Put(crm, None), Put(crm, 1), Delete(crm, 2), Put(integration("crm"), None)], ENTRY)
        assert state.integrations["crm"].version == 4
        assert state.integrations["crm"].row != crm.row
    async with place.open() as store:
        assert store.state.integrations["crm"].version == 4


async def test_others_are_told_of_a_change(place: Place) -> None:
    async with place.open() as store, place.open() as other:
        woken = asyncio.Event()
        other.watch(woken.set, raised)
        await store.commit([Put(integration("crm"), None)], ENTRY)
        await changed(woken)
        assert other.state.revision == 1


async def test_nothing_is_told_where_nothing_changes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidekey.store.store.POLL_INTERVAL", 0.01)
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        woken = asyncio.Event()
        store.watch(woken.set, raised)
        with pytest.raises(TimeoutError):
            await changed(woken, 0.2)


async def test_several_processes_may_make_the_store_at_once(place: Place) -> None:
    """One of them does, under a lock."""
    stores = await asyncio.gather(*(Store.start(place.database(), KeyRing(KEYS), retention=1) for _ in range(4)))
    try:
        for store in stores:
            store.watch(lambda: None, raised)
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
async def test_a_key_that_is_needed_is_named(place: Place, keys: dict[str, bytes], reason: str) -> None:
    async with place.open():
        pass
    with pytest.raises(StoreRefused, match=reason):
        async with place.open(keys):
            pass


async def test_a_key_that_the_first_is_put_before_goes_on_to_verify(place: Place) -> None:
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        async with place.open({"k2": b"2" * 32, **KEYS}) as other:
            assert "crm" in other.state.integrations
            await other.commit([Put(integration("sms"), None)], ENTRY)
        with pytest.raises(StoreRefused, match="key k2 is missing"):
            await store.read()
        assert set(store.state.integrations) == {"crm"}
        store.use(KeyRing({**KEYS, "k2": b"2" * 32}), 1000.0, 1.0)
        assert set((await store.read()).integrations) == {"crm", "sms"}


async def test_who_has_another_key_than_the_others_is_told_so(place: Place) -> None:
    """And does not take what they have written for altered."""
    async with place.open() as store, place.open({**KEYS, "k2": b"y" * 32}) as other:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        assert set((await other.read()).integrations) == {"crm"}
        store.use(KeyRing({"k2": b"2" * 32, **KEYS}), 1000.0, 1.0)
        await store.commit([Put(integration("sms"), None)], ENTRY)
        for ask in (other.read(), other.commit([Put(integration("new"), None)], ENTRY)):
            with pytest.raises(StoreRefused, match="key k2 is not the key that the store is written with"):
                await ask
        assert set(other.state.integrations) == {"crm"}
        assert not other.health.up
        other.use(KeyRing({"k2": b"2" * 32, **KEYS}), 1000.0, 1.0)
        assert set((await other.read()).integrations) == {"crm", "sms"}
        assert other.health.up


async def test_rows_without_the_id_of_their_store_are_left_alone(place: Place) -> None:
    """As a backup that lacks a table: a new store in its place would be the end of the old one."""
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
    whole = await place.backup()
    await place.sql("DELETE FROM sidekey_store")
    torn = await place.backup()
    with pytest.raises(StoreRefused, match="has lost its ID: restore a backup"):
        async with place.open():
            pass
    assert await place.backup() == torn
    await place.restore(whole)
    async with place.open() as store:
        assert set(store.state.integrations) == {"crm"}


async def test_a_commit_goes_on_where_its_caller_is_cancelled(place: Place) -> None:
    async with place.open() as store:
        task = asyncio.create_task(store.commit([Put(integration("crm"), None)], ENTRY))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert set((await store.read()).integrations) == {"crm"}


async def test_entries_of_the_audit_are_dropped_in_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidekey.store.store.MAINTENANCE_INTERVAL", 0.0)
    monkeypatch.setattr("sidekey.store.store.POLL_INTERVAL", 0.01)
    async with place.open(retention=1000) as store:
        await store.audit(AuditEntry(who="old", action="login", at=1))
        await store.audit(AuditEntry(who="new", action="login"))
        store.watch(lambda: None, raised)
        while len((await store.audit_page()).entries) > 1:
            await asyncio.sleep(0.05)
        assert [entry.who for _, entry in (await store.audit_page()).entries] == ["new"]


async def test_the_work_is_done_in_a_thread_that_ends(place: Place) -> None:
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        assert "sidekey-store" in {thread.name for thread in threading.enumerate()}
    with pytest.raises(StoreRefused):
        async with place.open({"k2": b"2" * 32}):
            pass
    assert "sidekey-store" not in {thread.name for thread in threading.enumerate()}


async def test_a_use_does_not_count_as_a_change(place: Place) -> None:
    async with place.open() as store:
        await store.commit([Put(TOKEN, None)], ENTRY)
        await store.record_use(TOKEN.row)
        await store.record_use(TOKEN.row)
        assert set(await store.last_uses()) == {TOKEN.row}
        assert (await store.read()).revision == 1
        await store.commit([Delete(TOKEN, 1)], ENTRY)
        assert await store.last_uses() == {}


async def test_a_defect_is_reported_and_the_watch_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidekey.store.store.POLL_INTERVAL", 0.01)
    async with place.open() as store, place.open() as other:
        read = store._repository.read
        broken = True

        async def fail(**depth: bool) -> object:
            if broken:
                raise KeyError("defect")
            return await read(**depth)

        monkeypatch.setattr(store._repository, "read", fail)
        reported: list[BaseException] = []
        woken = asyncio.Event()
        store.watch(woken.set, reported.append)
        async with asyncio.timeout(DEADLINE):
            while len(reported) < 2:
                await asyncio.sleep(0.01)
        assert {type(each) for each in reported} == {KeyError}
        broken = False
        await other.commit([Put(integration("crm"), None)], ENTRY)
        await changed(woken)
        assert set(store.state.integrations) == {"crm"}
