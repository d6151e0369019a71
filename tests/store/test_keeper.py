"""What somebody does to the rows by other means than a store is noticed, on both databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sidekey.store.errors import RolledBack
from sidekey.store.records import CallerRow, IntegrationRow, TokenRow, new_row
from sidekey.store.state import Delete, Put
from sidekey.store.store import Store
from support.raw import DEADLINE
from support.stores import ENTRY, Place, integration, raised

CALLER = CallerRow(row=new_row(), id="billing", token_sha256="0" * 64, integrations=None)
TOKEN = TokenRow(row=new_row(), id="ops", role="viewer", token_sha256="1" * 64)
ONE = integration("one", '{"one":1}', row="1" * 32)
TWO = integration("two", '{"two":2}', row="2" * 32)
EVERYTHING = {"one", "two"}


async def fill(store: Store) -> None:
    """Two integrations, of which one was changed, a caller and a token."""
    await store.commit([Put(each, None) for each in (ONE, TWO, CALLER, TOKEN)], ENTRY)
    await store.commit([Put(replace(ONE, document='{"one":2}'), 1)], ENTRY)


BODIES = {
    "a character of a document": "UPDATE sidekey_rows SET body = replace(body, '\\\"one\\\":2', '\\\"one\\\":3') "
    "WHERE id = 'one'",
    "the body of another row": "UPDATE sidekey_rows SET body = (SELECT body FROM sidekey_rows WHERE id = 'two') "
    "WHERE id = 'one'",
    "a body that is not JSON": "UPDATE sidekey_rows SET body = 'x' WHERE id = 'one'",
    "no body": "UPDATE sidekey_rows SET body = '' WHERE id = 'one'",
    "the name of the key": "UPDATE sidekey_rows SET \"key\" = 'k9' WHERE id = 'one'",
}
"""What alters one row, and nothing that the head vouches for."""

HEADS = {
    "a row is gone": "DELETE FROM sidekey_rows WHERE id = 'two'",
    "a row more": "INSERT INTO sidekey_rows SELECT kind, 'three', 'x', version, revision, \"key\", mac, body "
    "FROM sidekey_rows WHERE id = 'two'",
    "the name of a row": "UPDATE sidekey_rows SET id = 'three' WHERE id = 'two'",
    "the ID of a row": "UPDATE sidekey_rows SET row_id = 'x' WHERE id = 'two'",
    "the kind of a row": "UPDATE sidekey_rows SET kind = 'token' WHERE id = 'billing'",
    "the version of a row": "UPDATE sidekey_rows SET version = 7 WHERE id = 'two'",
    "the MAC of a row": "UPDATE sidekey_rows SET mac = (SELECT mac FROM sidekey_rows WHERE id = 'one') "
    "WHERE id = 'two'",
    "what is no MAC": "UPDATE sidekey_rows SET mac = 'é' WHERE id = 'two'",
    "the revision": "UPDATE sidekey_head SET revision = revision + 1",
    "an older revision": "UPDATE sidekey_head SET revision = 1",
    "the epoch": "UPDATE sidekey_head SET epoch = epoch + 1",
    "the digest": "UPDATE sidekey_head SET digest = mac",
    "what is no MAC of a head": "UPDATE sidekey_head SET mac = 'é'",
    "the MAC of the head": "UPDATE sidekey_head SET mac = digest",
    "no head": "DELETE FROM sidekey_head",
}
"""What the head does not vouch for."""


@pytest.mark.parametrize("statement", BODIES.values(), ids=BODIES)
async def test_an_altered_row_is_unavailable_and_no_other(place: Place, statement: str) -> None:
    async with place.open() as store:
        await fill(store)
    await place.sql(statement)
    async with place.open() as store:
        assert store.state.altered == {("integration", "one")}
        assert store.state.integrations["one"] == IntegrationRow(row="1" * 32, id="one", version=2, state="altered")
        assert store.state.integrations["two"] == TWO.at(1)
        assert not store.state.rolled_back
        # Written again, or deleted, all is well.
        state = await store.commit([Put(ONE, 2)], ENTRY)
        assert state.integrations["one"] == ONE.at(3)
        assert state.altered == frozenset()
    async with place.open() as store:
        assert set(store.state.integrations) == EVERYTHING
        assert (store.state.altered, store.state.problem) == (frozenset(), "")


async def test_an_altered_caller_or_token_lets_nobody_in(place: Place) -> None:
    async with place.open() as store:
        await fill(store)
        await place.sql("UPDATE sidekey_rows SET body = replace(body, 'viewer', 'admin') WHERE id = 'ops'")
        await place.sql("UPDATE sidekey_rows SET body = replace(body, '000', '111') WHERE id = 'billing'")
    async with place.open() as store:
        assert (dict(store.state.callers), dict(store.state.tokens)) == ({}, {})
        assert store.state.altered == {("caller", "billing"), ("token", "ops")}
        assert set(store.state.integrations) == EVERYTHING


@pytest.mark.parametrize("statement", HEADS.values(), ids=HEADS)
async def test_a_start_believes_nothing_that_the_head_does_not_vouch_for(place: Place, statement: str) -> None:
    async with place.open() as store:
        await fill(store)
    await place.sql(statement)
    async with place.open() as store:
        state = store.state
        assert (dict(state.integrations), dict(state.callers), dict(state.tokens)) == ({}, {}, {})
        assert "sidekey store accept" in state.problem
        assert (store.health.rolled_back, store.health.up) == (True, True)
        before = await place.backup()
        with pytest.raises(RolledBack, match="sidekey store accept"):
            await store.commit([Put(integration("new"), None)], ENTRY)
        assert await place.backup() == before


@pytest.mark.parametrize("statement", HEADS.values(), ids=HEADS)
async def test_a_running_process_keeps_what_it_has(
    place: Place, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And notices, also where the head is what it was."""
    monkeypatch.setattr("sidekey.store.store.LOOK_EVERY", 0.01)
    monkeypatch.setattr("sidekey.store.store.CHECK_EVERY", 0.02)
    async with place.open() as store:
        await fill(store)
        known = store.state
        woken = asyncio.Event()
        store.watch(woken.set, raised)
        await place.sql(statement)
        async with asyncio.timeout(DEADLINE):
            while not store.health.rolled_back:
                await woken.wait()
                woken.clear()
        assert store.state.integrations is known.integrations
        assert store.state.callers is known.callers
        with pytest.raises(RolledBack):
            await store.commit([Put(integration("new"), None)], ENTRY)


async def test_what_is_gone_stays_missed_whatever_is_written_later(place: Place) -> None:
    """A writer that has not noticed vouches for what it knows, not for what is there."""
    async with place.open() as store:
        await fill(store)
        await place.sql("DELETE FROM sidekey_rows WHERE id = 'two'")
        await store.commit([Put(integration("three"), None)], ENTRY)
    async with place.open() as store:
        assert store.state.rolled_back


@pytest.mark.parametrize("change", [Put(ONE, 2), Delete(ONE, 2)], ids=["put", "delete"])
async def test_a_row_is_not_written_over_what_is_not_there(place: Place, change: Put | Delete) -> None:
    async with place.open() as store:
        await fill(store)
        await place.sql("UPDATE sidekey_rows SET version = 1 WHERE id = 'one'")
        with pytest.raises(RolledBack):
            await store.commit([change], ENTRY)
        assert await place.sql("SELECT version FROM sidekey_rows WHERE id = 'one'") == [(1,)]


async def test_an_older_row_does_not_count(place: Place) -> None:
    """The whole row, with the MAC that it had."""
    async with place.open() as store:
        await store.commit([Put(ONE, None), Put(TWO, None)], ENTRY)
        ((older,),) = [await place.sql("SELECT version, mac, body FROM sidekey_rows WHERE id = 'one'")]
        await store.commit([Put(replace(ONE, document="{}"), 1)], ENTRY)
    version, mac, body = older
    await place.sql(f"UPDATE sidekey_rows SET version = {version}, mac = '{mac}', body = '{body}' WHERE id = 'one'")
    async with place.open() as store:
        assert store.state.rolled_back
        assert dict(store.state.integrations) == {}


async def test_a_whole_older_database_is_noticed_by_who_runs(place: Place) -> None:
    """One that starts cannot know: it serves what is there. So nobody writes into it but after `accept`."""
    async with place.open() as store:
        await fill(store)
        backup = await place.backup()
        await store.commit([Put(integration("three"), None), Delete(TWO, 1)], ENTRY)
        await place.restore(backup)
        state = await store.read()
        assert "older copy, of revision 2 after 3 was seen" in state.problem
        assert set(state.integrations) == {"one", "three"}
        async with place.open() as other:
            assert set(other.state.integrations) == EVERYTHING
            assert not other.state.rolled_back


async def test_an_older_database_that_was_written_to_is_noticed(place: Place) -> None:
    """By a process that started with it, to the same revision."""
    async with place.open() as store:
        await fill(store)
        backup = await place.backup()
        await store.commit([Put(integration("three"), None)], ENTRY)
        await place.restore(backup)
        async with place.open() as other:
            await other.commit([Put(integration("four"), None)], ENTRY)
        assert (await store.read()).rolled_back
        assert set(store.state.integrations) == {"one", "two", "three"}


async def test_a_row_that_became_older_is_noticed_although_the_head_vouches_for_it(place: Place) -> None:
    """As above, past the revision that was known."""
    async with place.open() as store:
        await store.commit([Put(ONE, None)], ENTRY)
        backup = await place.backup()
        await store.commit([Put(ONE, 1)], ENTRY)
        await place.restore(backup)
        async with place.open() as other:
            for number in range(3):
                await other.commit([Put(integration(f"i{number}"), None)], ENTRY)
        assert "integration one is older than it was" in (await store.read()).problem


async def test_what_is_put_right_counts_again(place: Place) -> None:
    """Without a restart, and without `accept`."""
    async with place.open() as store:
        await fill(store)
        right = await place.backup()
        await place.sql("UPDATE sidekey_head SET revision = 1")
        assert (await store.read()).rolled_back
        async with place.open() as other:
            assert other.state.rolled_back
            await place.restore(right)
            assert set((await other.read()).integrations) == EVERYTHING
        assert (await store.read()).problem == ""
        await store.commit([Put(integration("three"), None)], ENTRY)


async def test_a_change_reads_only_what_has_changed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ten thousand rows that is what makes it quick."""
    verified: list[str] = []
    async with place.open() as store, place.open() as other:
        await store.commit([Put(integration(f"i{number}"), None) for number in range(20)], ENTRY)
        await other.read()
        seals = other._keeper.seals
        held = seals.held

        class Counting:
            def __getattr__(self, name: str) -> object:
                return getattr(seals, name)

            def held(self, line: object, body: str) -> object:
                verified.append(line.id)  # type: ignore[attr-defined]
                return held(line, body)  # type: ignore[arg-type]

        monkeypatch.setattr(other._keeper, "_seals", Counting())
        await store.commit([Put(store.state.integrations["i7"], 1)], ENTRY)
        await other.read()
        assert verified == ["i7"]
        await store.commit([Delete(store.state.integrations["i9"], 1), Put(store.state.integrations["i1"], 1)], ENTRY)
        await other.read()
        assert set(other.state.integrations) == set(store.state.integrations)
        assert verified.count("i3") == 0
