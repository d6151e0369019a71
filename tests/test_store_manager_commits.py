"""The store of a running process: it serves its own commits and the changes of other processes."""

from __future__ import annotations

import asyncio
import sqlite3
from base64 import b64encode
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from sidekey.config.load import Loader
from sidekey.config.stored.secrets import SealingKeys
from sidekey.errors import StartError
from sidekey.publish import Commit, PublishRefused
from sidekey.snapshot.snapshot import Snapshot
from sidekey.store.audit import AuditEntry
from sidekey.store.errors import StoreUnavailable
from sidekey.store.records import IntegrationRow
from sidekey.store.state import Put
from sidekey.store_manager import StoreManager, add_stored_content
from support.loading import good
from support.managed import process
from support.plane import eventually
from support.stored import BASIC, saved

HEAD = "version: 1\nstore: {path: store.db, keys: [{id: k1, key: {file: k1}}]}\n"
ENTRY = AuditEntry(who="ann", action="create")


def integration_row(vault: SealingKeys, name: str) -> IntegrationRow:
    """Build a new integration for a store."""
    return saved(vault, name, BASIC)


def prepare(folder: Path) -> None:
    (folder / "k1").write_text(b64encode(b"1" * 32).decode())
    (folder / "k2").write_text(b64encode(b"2" * 32).decode())
    (folder / "sidekey.yaml").write_text(HEAD)


class Counting:
    """A part that counts commits."""

    def __init__(self) -> None:
        self.count = 0

    def prepare(self, snapshot: Snapshot) -> Commit:
        del snapshot
        return self._commit

    def _commit(self) -> None:
        self.count += 1


async def test_own_commit_is_loaded_once(tmp_path: Path) -> None:
    """The watch sees the change too, but loading ten thousand integrations again would change nothing."""
    prepare(tmp_path)
    async with process(tmp_path) as running:
        counting = Counting()
        running.publisher.parts.append(counting)
        for count, name in enumerate(("crm", "sms"), 1):
            state = await running.managed.commit(
                [Put(integration_row(running.managed.sealing_keys, name), None)], ENTRY
            )
            await eventually(lambda state=state: running.metrics.store == (True, state.revision, False))
            assert counting.count == count


class RefusingOnce:
    """A part that refuses the first snapshot."""

    def __init__(self) -> None:
        self.refused = False

    def prepare(self, snapshot: Snapshot) -> Commit:
        del snapshot
        if not self.refused:
            self.refused = True
            raise PublishRefused("not yet")
        return lambda: None


async def test_refused_first_load_of_the_store_is_retried(tmp_path: Path) -> None:
    """Without a change of the store, because nothing of it is served until then."""
    prepare(tmp_path)
    async with process(tmp_path) as running:
        await running.managed.commit([Put(integration_row(running.managed.sealing_keys, "crm"), None)], ENTRY)
    part = RefusingOnce()
    async with AsyncExitStack() as stack:
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as lock:
            lock.execute("PRAGMA locking_mode = EXCLUSIVE")
            lock.execute("BEGIN EXCLUSIVE")
            running = await stack.enter_async_context(process(tmp_path))
            assert running.managed.unread_reason
            running.publisher.parts.append(part)
        await eventually(lambda: running.managed.unread_reason == "")
        assert part.refused
        assert running.states() == {"crm": "ok"}


async def test_reload_changes_the_key_ring(tmp_path: Path) -> None:
    prepare(tmp_path)
    async with process(tmp_path) as running:
        await running.managed.commit([Put(integration_row(running.managed.sealing_keys, "crm"), None)], ENTRY)
        both = HEAD.replace("[{", "[{id: k2, key: {file: k2}}, {")
        running.write(both)
        await eventually(lambda: running.managed.sealing_keys.ring.ids == ("k2", "k1"))
        await running.managed.commit([Put(integration_row(running.managed.sealing_keys, "sms"), None)], ENTRY)
        assert all(secret.sealed.startswith("1:k2:") for secret in running.row("sms").secrets.values())
        assert running.states() == {"crm": "ok", "sms": "ok"}


async def wait_for_log(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Wait until the log contains a text."""
    output: list[str] = []

    def is_logged() -> bool:
        output.append(capsys.readouterr().out)
        return text in "".join(output)

    await eventually(is_logged)


BAD_RINGS = {
    "another": (HEAD, b64encode(b"x" * 32).decode(), "key k1 is not the key that the store is written with"),
    "another behind the first": (
        HEAD.replace("[{", "[{id: k2, key: {file: k2}}, {"),
        b64encode(b"x" * 32).decode(),
        "key k1 is not the key that the store is written with",
    ),
    "missing": (
        HEAD.replace("[{id: k1, key: {file: k1}}]", "[{id: k2, key: {file: k2}}]"),
        b64encode(b"1" * 32).decode(),
        "key k1 is missing: the store is written with it",
    ),
    "empty": (HEAD, "", "must not be empty"),
    "short": (HEAD, b64encode(b"1" * 31).decode(), "key k1: the file must be 32 bytes in base64"),
}


@pytest.mark.parametrize(("text", "key", "reason"), BAD_RINGS.values(), ids=BAD_RINGS)
async def test_reload_with_a_wrong_key_ring_is_refused(
    text: str, key: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that it writes would not verify with the right ring. The ring in use stays."""
    prepare(tmp_path)
    async with process(tmp_path) as running:
        await running.managed.commit([Put(integration_row(running.managed.sealing_keys, "crm"), None)], ENTRY)
        ring = running.managed.sealing_keys.ring
        running.metrics.config_loaded = True
        (tmp_path / "k1").write_text(key)
        running.write(f"{text}# {reason}\n")
        await wait_for_log(capsys, reason)
        assert not running.metrics.config_loaded
        assert running.managed.sealing_keys.ring is ring
        await running.managed.commit([Put(integration_row(running.managed.sealing_keys, "sms"), None)], ENTRY)
        assert running.states() == {"crm": "ok", "sms": "ok"}
    prepare(tmp_path)
    async with process(tmp_path) as restarted:
        assert restarted.states() == {"crm": "ok", "sms": "ok"}


async def test_key_ring_changes_only_while_the_store_is_reachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reload is repeated automatically."""
    monkeypatch.setattr("sidekey.config.reload.CHECK_EVERY", 0.05)
    prepare(tmp_path)
    both = HEAD.replace("}}]", "}}, {id: k2, key: {file: k2}}]")
    async with process(tmp_path) as running:
        running.metrics.config_loaded = True
        (tmp_path / "store.db").rename(tmp_path / "away.db")
        running.write(both)
        await wait_for_log(capsys, "are not changed while the store cannot be asked which are needed")
        (tmp_path / "away.db").rename(tmp_path / "store.db")
        await eventually(lambda: running.metrics.config_loaded)
        assert running.managed.sealing_keys.ring.ids == ("k1", "k2")


async def test_commit_is_refused_before_follow(tmp_path: Path) -> None:
    """The admin listener opens earlier, and must not report a change that is not served."""
    prepare(tmp_path)
    async with process(tmp_path) as running:
        loader = Loader(running.folder / "sidekey.yaml", {})
        rules = running.snapshot.store
        assert rules is not None
        starting = await StoreManager.open(rules, loader)
        row = integration_row(starting.sealing_keys, "early")
        with pytest.raises(StoreUnavailable, match="starting"):
            await starting.commit([Put(row, None)], ENTRY)
        assert "early" not in starting.store.state.integrations
        await starting.close()


async def test_store_that_cannot_be_opened_is_a_start_error(tmp_path: Path) -> None:
    prepare(tmp_path)
    loader = Loader(tmp_path / "sidekey.yaml", {})
    rules = good(loader.load()).store
    assert rules is not None
    with pytest.raises(StartError):
        await StoreManager.open(rules, loader, create=False)


def test_command_joins_files_and_store(tmp_path: Path) -> None:
    prepare(tmp_path)

    async def fill() -> None:
        async with process(tmp_path) as running:
            await running.managed.commit([Put(integration_row(running.managed.sealing_keys, "crm"), None)], ENTRY)

    asyncio.run(fill())
    loader = Loader(tmp_path / "sidekey.yaml", {})
    loaded = loader.load()
    rules = good(loaded).store
    assert rules is not None
    assert good(loaded).integrations == {}
    assert list(add_stored_content(rules, loader, loaded).integrations) == ["crm"]
