"""A store that a process manages: committed is in use, others' changes as well, and what a file hides stays hidden."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sidekey.errors import StartError
from sidekey.managed import Managed, joined
from sidekey.runtime.publisher import Commit
from sidekey.runtime.snapshot import Snapshot
from sidekey.settings.load import Loader
from sidekey.settings.stored.opening import Vault, sealed_fields
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import Changed, StoreUnavailable
from sidekey.store.place import open_store
from sidekey.store.records import IntegrationRow, new_row
from sidekey.store.state import Delete, Put
from sidekey.store.store import Store
from support.loading import good
from support.managed import process
from support.plane import eventually
from support.stored import BASIC, draft

HEAD = "version: 1\nstore: {path: store.db, keys: [{id: k1, key: {file: k1}}]}\n"
OWN = "integrations: {crm: {endpoint_prefix: 'https://own.test', auth: {type: headers, headers: {X-A: b}}}}\n"
ENTRY = AuditEntry(who="ann", action="create")


def record(vault: Vault, name: str) -> IntegrationRow:
    """A new integration for a store."""
    row, made = new_row(), draft(BASIC)
    fields = sealed_fields(vault, row, name, made, {}, by="ann", now=1)
    return IntegrationRow(row=row, id=name, document=made.saved.text(), secrets=fields)


def prepare(folder: Path) -> None:
    (folder / "k1").write_text(b64encode(b"1" * 32).decode())
    (folder / "k2").write_text(b64encode(b"2" * 32).decode())
    (folder / "sidekey.yaml").write_text(HEAD)


@asynccontextmanager
async def other(folder: Path) -> AsyncIterator[Store]:
    """Another process of the same store."""
    rules = good(Loader(folder / "sidekey.yaml", {}).load()).store
    assert rules is not None
    store = await open_store(rules, patience=0, create=False)
    try:
        yield store
    finally:
        await store.close()


async def test_what_is_committed_is_in_use_here_and_soon_elsewhere(tmp_path: Path) -> None:
    """And what others commit, here."""
    prepare(tmp_path)
    async with process(tmp_path) as one:
        await one.managed.commit([Put(record(one.managed.vault, "crm"), None)], ENTRY)
        assert one.states() == {"crm": "ok"}
        assert one.snapshot.integrations["crm"].usable
        async with other(tmp_path) as store:
            row = store.state.integrations["crm"]
            await store.commit([Delete(row, row.version)], ENTRY)
            await store.commit([Put(record(one.managed.vault, "sms"), None)], ENTRY)
        await eventually(lambda: one.states() == {"sms": "ok"})
        assert "crm" not in one.snapshot.integrations
    async with process(tmp_path) as again:
        assert again.states() == {"sms": "ok"}


class Counting:
    """A part that counts how often something is put in use."""

    def __init__(self) -> None:
        self.count = 0

    def prepare(self, snapshot: Snapshot) -> Commit:
        del snapshot
        return self._commit

    def _commit(self) -> None:
        self.count += 1


async def test_what_is_committed_here_is_put_in_use_once(tmp_path: Path) -> None:
    """The watch finds it as well, and joining ten thousand integrations again would change nothing."""
    prepare(tmp_path)
    async with process(tmp_path) as one:
        counting = Counting()
        one.publisher.parts.append(counting)
        for count, name in enumerate(("crm", "sms"), 1):
            state = await one.managed.commit([Put(record(one.managed.vault, name), None)], ENTRY)
            await eventually(lambda state=state: one.metrics.store == (True, state.revision, False))
            assert counting.count == count


async def test_a_commit_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    """Of two with one version the second."""
    prepare(tmp_path)
    async with process(tmp_path) as one:
        await one.managed.commit([Put(record(one.managed.vault, "crm"), None)], ENTRY)
        row = one.row("crm")
        await one.managed.commit([Put(row, row.version)], ENTRY)
        before = one.snapshot
        with pytest.raises(Changed):
            await one.managed.commit([Put(row, row.version)], ENTRY)
        assert one.snapshot.integrations == before.integrations


async def test_what_a_file_hides_stays_hidden_over_restarts_until_it_is_released(tmp_path: Path) -> None:
    """The row says so."""
    prepare(tmp_path)
    async with process(tmp_path) as one:
        await one.managed.commit([Put(record(one.managed.vault, "crm"), None)], ENTRY)
        one.write(HEAD + OWN)
        await eventually(lambda: one.row("crm").hidden)
        assert one.states() == {"crm": "hidden"}
        assert not one.snapshot.integrations["crm"].stored
        page = await one.managed.store.audit_page()
        assert next((entry.who, entry.action, entry.fields) for _, entry in page.entries) == (
            "sidekey",
            "hide",
            ("hidden",),
        )
        one.write(HEAD)
        await eventually(lambda: "crm" not in one.snapshot.integrations)
        assert one.states() == {"crm": "hidden"}
    async with process(tmp_path) as again:
        assert again.states() == {"crm": "hidden"}
        row = again.row("crm")
        again.managed.released(row)
        await again.managed.commit([Put(replace(row, hidden=False), row.version)], ENTRY)
        assert again.states() == {"crm": "ok"}


async def test_another_ring_is_in_use_after_a_reload(tmp_path: Path) -> None:
    """A value that the first key does not open is sealed, until the ring has its key."""
    prepare(tmp_path)
    async with process(tmp_path) as one:
        await one.managed.commit([Put(record(one.managed.vault, "crm"), None)], ENTRY)
        both = HEAD.replace("[{", "[{id: k2, key: {file: k2}}, {")
        one.write(both)
        await eventually(lambda: one.managed.vault.ring.ids == ("k2", "k1"))
        await one.managed.commit([Put(record(one.managed.vault, "sms"), None)], ENTRY)
        assert one.row("sms").secrets["/auth/password"].sealed.startswith("1:k2:")
        assert one.states() == {"crm": "ok", "sms": "ok"}


async def test_nothing_is_committed_before_it_can_be_in_use(tmp_path: Path) -> None:
    """The admin listener opens before the store is followed: what it answers must be true."""
    prepare(tmp_path)
    async with process(tmp_path) as running:
        loader = Loader(running.folder / "sidekey.yaml", {})
        rules = running.snapshot.store
        assert rules is not None
        starting = await Managed.open(rules, loader)
        row = record(starting.vault, "early")
        with pytest.raises(StoreUnavailable, match="starting"):
            await starting.commit([Put(row, None)], ENTRY)
        assert "early" not in starting.store.state.integrations
        await starting.close()


async def test_a_store_that_cannot_be_opened_is_an_error_of_the_start(tmp_path: Path) -> None:
    """With what to do."""
    prepare(tmp_path)
    loader = Loader(tmp_path / "sidekey.yaml", {})
    rules = good(loader.load()).store
    assert rules is not None
    with pytest.raises(StartError):
        await Managed.open(rules, loader, patience=0, create=False)


def test_a_command_knows_what_is_stored(tmp_path: Path) -> None:
    """Without watching it."""
    prepare(tmp_path)

    async def fill() -> None:
        async with process(tmp_path) as one:
            await one.managed.commit([Put(record(one.managed.vault, "crm"), None)], ENTRY)

    asyncio.run(fill())
    loader = Loader(tmp_path / "sidekey.yaml", {})
    loaded = loader.load()
    rules = good(loaded).store
    assert rules is not None
    assert good(loaded).integrations == {}
    assert list(joined(rules, loader, loaded).integrations) == ["crm"]
