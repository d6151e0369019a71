"""Verification of a whole store and rotation of its key, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from sidekey.store.errors import StoreRefused
from sidekey.store.records import CallerRow, IntegrationRow, PresetRow, new_row_id
from sidekey.store.sealing import Binding, Purpose, open_sealed
from sidekey.store.state import Delete, Put
from sidekey.store.store import Store
from support.stores import ENTRY, KEYS, PLACE, SECRET, StoreBackend, integration, purpose_of, sealed

BOTH = {"k2": b"2" * 32, **KEYS}
CALLER = CallerRow(row_id=new_row_id(), id="billing", token_sha256="0" * 64, integrations=None)
PRESET = PresetRow(row_id=new_row_id(), id="hook", document='{"integration":"i0"}')


async def names(place: StoreBackend, key: str) -> bool:
    """Return True if a column or a sealed value names a key."""
    tables = ("keys", "rows", "leases")
    text = "".join([str(await place.sql(f"SELECT * FROM sidekey_{table}")) for table in tables])
    return f"'{key}'" in text or f":{key}:" in text


def opened(store: Store, name: str) -> str:
    """Open the secret of an integration that `sealed` built."""
    row = store.state.integrations[name]
    binding = Binding(store.id, row.row_id, name, SECRET, {"to": row.document}, PLACE)
    return open_sealed(store.ring, row.secrets[SECRET].sealed, binding)


async def fill(store: Store, count: int = 3) -> None:
    """Commit integrations with secrets, a tombstone, a preset, a caller and a lease."""
    await store.commit(
        [Put(sealed(store, f"i{number}", f"secret {number}"), None) for number in range(count)]
        + [Put(CALLER, None), Put(integration("bare"), None), Put(PRESET, None)],
        ENTRY,
    )
    gone = integration("gone")
    await store.commit([Put(gone, None), Delete(gone, 1)], ENTRY)
    await store.acquire_lease("file:crm", "lineage", ("",), 60)


async def test_after_a_rotation_nothing_names_the_old_key(place: StoreBackend) -> None:
    async with place.open() as store:
        await fill(store)
        assert await names(place, "k1")
        versions = {name: row.version for name, row in store.state.integrations.items()}
    async with place.open(BOTH) as store:
        done = await store.rotate_key(purpose_of, "ops")
        assert (done.rows, done.stuck) == (7, ())
        assert {name: row.version for name, row in store.state.integrations.items()} == versions
        again = await store.rotate_key(purpose_of, "ops")
        assert (again.rows, again.stuck) == (0, ())
    assert not await names(place, "k1")
    async with place.open({"k2": b"2" * 32}) as store:
        assert [opened(store, f"i{number}") for number in range(3)] == ["secret 0", "secret 1", "secret 2"]
        assert store.state.altered == frozenset()
        assert store.state.callers["billing"] == CALLER.with_version(1)
        assert store.state.presets["hook"] == PRESET.with_version(1)


async def test_other_processes_write_during_a_rotation(place: StoreBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """With either key. The rotation also encrypts again the rows that they write with the old key."""
    monkeypatch.setattr("sidekey.store.maintenance.BATCH", 1)
    async with place.open() as store:
        await fill(store, 6)
    async with place.open(BOTH) as store, place.open({**KEYS, "k2": b"2" * 32}) as other:
        rotating = asyncio.create_task(store.rotate_key(purpose_of, "ops"))
        for number in range(4):
            await other.commit([Put(sealed(other, f"new{number}", "new"), None)], ENTRY)
        assert (await rotating).stuck == ()
        assert (await store.rotate_key(purpose_of, "ops")).stuck == ()
        await other.refresh()
        assert opened(other, "i5") == "secret 5"
    assert not await names(place, "k1")


def no_document(_: IntegrationRow) -> Purpose:
    raise ValueError("kind smoke is unknown")


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        (
            lambda _: Purpose({SECRET: PLACE}, ({"to": "elsewhere"}, {"to": "there"})),
            "integration i0: secret s_0123456789abcdef does not open: it was entered for another place",
        ),
        (no_document, "integration i0: kind smoke is unknown"),
    ],
    ids=["another destination", "no meaning"],
)
async def test_rotation_seals_nothing_for_another_destination(
    place: StoreBackend, to: Callable[[IntegrationRow], Purpose], reason: str
) -> None:
    """The finding names the secret, the old key is still needed, and everything else is rewritten."""
    async with place.open() as store:
        await fill(store, 1)
        before = store.state.integrations["i0"]
    async with place.open(BOTH) as store:
        done = await store.rotate_key(to, "ops")
        assert done.rows == 4
        assert done.stuck[0].startswith(reason)
        assert store.state.integrations["i0"] == before
        assert store.state.integrations["i0"].secrets[SECRET].sealed.startswith("1:k1:")
    with pytest.raises(StoreRefused, match="key k1 is missing"):
        async with place.open({"k2": b"2" * 32}):
            pass


async def test_altered_row_is_named_and_still_needs_the_old_key(place: StoreBackend) -> None:
    async with place.open() as store:
        await fill(store, 1)
    await place.sql("UPDATE sidekey_rows SET body = '{}' WHERE id = 'bare'")
    async with place.open(BOTH) as store:
        done = await store.rotate_key(purpose_of, "ops")
        assert done.stuck == ("integration bare: it was altered: write it again, or delete it",)
        assert store.state.altered == {("integration", "bare")}
        await store.commit([Delete(store.state.integrations["bare"], 1)], ENTRY)
        assert (await store.rotate_key(purpose_of, "ops")).stuck == ()
    assert not await names(place, "k1")


async def test_verification_counts_rows_and_keys(place: StoreBackend) -> None:
    async with place.open() as store:
        await fill(store, 2)
        result = await store.verify(purpose_of)
        assert (result.revision, result.keys, result.findings) == (2, ("k1",), ())
        assert result.counts == {"integrations": 3, "presets": 1, "callers": 1, "tokens": 0}


async def test_verification_lists_every_finding(place: StoreBackend) -> None:
    async with place.open() as store:
        await fill(store, 2)
        row = replace(store.state.integrations["i0"], document='{"to":"elsewhere"}')
        await store.commit([Put(row, 1)], ENTRY)
    await place.sql("UPDATE sidekey_rows SET body = '{}' WHERE id = 'bare'")
    await place.sql("UPDATE sidekey_leases SET fence = 9")
    async with place.open() as store:
        findings = (await store.verify(purpose_of)).findings
        assert [text.partition(": ")[0] for text in findings] == [
            "integration bare",
            "integration i0",
            "lease file:crm",
        ]


async def test_rotation_deletes_an_altered_lease(place: StoreBackend) -> None:
    """It is named once, because its refresh token may be spent."""
    async with place.open() as store:
        await fill(store, 1)
    await place.sql("UPDATE sidekey_leases SET fence = 9")
    async with place.open(BOTH) as store:
        (finding,) = (await store.verify(purpose_of)).findings
        assert finding.startswith("lease file:crm: it was altered: run sidekey store rotate-key")
        done = await store.rotate_key(purpose_of, "ops")
        assert done.stuck == ("lease file:crm: it was altered, and is gone: enter the refresh token again",)
        assert (await store.rotate_key(purpose_of, "ops")).stuck == ()
    assert not await names(place, "k1")


async def test_findings_escape_names_from_the_database(place: StoreBackend) -> None:
    """Someone with write access could add control characters or a line that looks like Sidekey's."""
    async with place.open() as store:
        await fill(store, 1)
    for table, column in (("leases", "name"), ("rows", "id"), ("rows", "kind")):
        where = "WHERE id = 'bare'" if table == "rows" else ""
        await place.sql(f"UPDATE sidekey_{table} SET {column} = '\x1b[2J\n{column} is fine' {where}")
    async with place.open(BOTH) as store:
        messages = list((await store.verify(purpose_of)).findings)
        assert set(store.state.integrations) == {"i0"}
        messages += (await store.rotate_key(purpose_of, "ops")).stuck
    await place.sql("INSERT INTO sidekey_keys VALUES ('\x1b[2J', '')")
    with pytest.raises(StoreRefused) as refused:
        async with place.open():
            pass
    messages.append(str(refused.value))
    assert len(messages) > 4
    assert [text for text in messages if not text.isprintable()] == []
