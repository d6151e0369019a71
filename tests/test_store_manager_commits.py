"""A store that a process manages: what is committed is in use, and so are the changes of others."""

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
from sidekey.store_manager import StoreManager, joined
from support.loading import good
from support.managed import process
from support.plane import eventually
from support.stored import BASIC, saved

HEAD = "version: 1\nstore: {path: store.db, keys: [{id: k1, key: {file: k1}}]}\n"
ENTRY = AuditEntry(who="ann", action="create")


def record(vault: SealingKeys, name: str) -> IntegrationRow:
    """A new integration for a store."""
    return saved(vault, name, BASIC)


def prepare(folder: Path) -> None:
    (folder / "k1").write_text(b64encode(b"1" * 32).decode())
    (folder / "k2").write_text(b64encode(b"2" * 32).decode())
    (folder / "sidekey.yaml").write_text(HEAD)


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
            state = await one.managed.commit([Put(record(one.managed.sealing_keys, name), None)], ENTRY)
            await eventually(lambda state=state: one.metrics.store == (True, state.revision, False))
            assert counting.count == count


class RefusingOnce:
    """A part that cannot serve by the first snapshot that it gets."""

    def __init__(self) -> None:
        self.refused = False

    def prepare(self, snapshot: Snapshot) -> Commit:
        del snapshot
        if not self.refused:
            self.refused = True
            raise PublishRefused("not yet")
        return lambda: None


async def test_first_content_of_the_store_that_was_not_put_in_use_is_tried_again(tmp_path: Path) -> None:
    """Without a change of the store: nothing is served until some content of it is in use."""
    prepare(tmp_path)
    async with process(tmp_path) as one:
        await one.managed.commit([Put(record(one.managed.sealing_keys, "crm"), None)], ENTRY)
    part = RefusingOnce()
    async with AsyncExitStack() as stack:
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as lock:
            lock.execute("PRAGMA locking_mode = EXCLUSIVE")
            lock.execute("BEGIN EXCLUSIVE")
            one = await stack.enter_async_context(process(tmp_path))
            assert one.managed.unread
            one.publisher.parts.append(part)
        await eventually(lambda: one.managed.unread == "")
        assert part.refused
        assert one.states() == {"crm": "ok"}


async def test_another_ring_is_in_use_after_a_reload(tmp_path: Path) -> None:
    """A value that the first key does not open is sealed, until the ring has its key."""
    prepare(tmp_path)
    async with process(tmp_path) as one:
        await one.managed.commit([Put(record(one.managed.sealing_keys, "crm"), None)], ENTRY)
        both = HEAD.replace("[{", "[{id: k2, key: {file: k2}}, {")
        one.write(both)
        await eventually(lambda: one.managed.sealing_keys.ring.ids == ("k2", "k1"))
        await one.managed.commit([Put(record(one.managed.sealing_keys, "sms"), None)], ENTRY)
        assert all(each.sealed.startswith("1:k2:") for each in one.row("sms").secrets.values())
        assert one.states() == {"crm": "ok", "sms": "ok"}


async def logged(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Wait until this was logged."""
    said: list[str] = []

    def was_said() -> bool:
        said.append(capsys.readouterr().out)
        return text in "".join(said)

    await eventually(was_said)


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
async def test_a_ring_that_the_store_is_not_written_with_is_not_reloaded(
    text: str, key: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it would sign and seal nobody could read with the right one: the ring in use stays, and all goes on."""
    prepare(tmp_path)
    async with process(tmp_path) as one:
        await one.managed.commit([Put(record(one.managed.sealing_keys, "crm"), None)], ENTRY)
        ring = one.managed.sealing_keys.ring
        one.metrics.config_loaded = True
        (tmp_path / "k1").write_text(key)
        one.write(f"{text}# {reason}\n")
        await logged(capsys, reason)
        assert not one.metrics.config_loaded
        assert one.managed.sealing_keys.ring is ring
        await one.managed.commit([Put(record(one.managed.sealing_keys, "sms"), None)], ENTRY)
        assert one.states() == {"crm": "ok", "sms": "ok"}
    prepare(tmp_path)
    async with process(tmp_path) as again:
        assert again.states() == {"crm": "ok", "sms": "ok"}


async def test_keys_are_not_changed_while_the_store_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is tried again by itself."""
    monkeypatch.setattr("sidekey.config.reload.CHECK_EVERY", 0.05)
    prepare(tmp_path)
    both = HEAD.replace("}}]", "}}, {id: k2, key: {file: k2}}]")
    async with process(tmp_path) as one:
        one.metrics.config_loaded = True
        (tmp_path / "store.db").rename(tmp_path / "away.db")
        one.write(both)
        await logged(capsys, "are not changed while the store cannot be asked which are needed")
        (tmp_path / "away.db").rename(tmp_path / "store.db")
        await eventually(lambda: one.metrics.config_loaded)
        assert one.managed.sealing_keys.ring.ids == ("k1", "k2")


async def test_nothing_is_committed_before_it_can_be_in_use(tmp_path: Path) -> None:
    """The admin listener opens before the store is followed: what it answers must be true."""
    prepare(tmp_path)
    async with process(tmp_path) as running:
        loader = Loader(running.folder / "sidekey.yaml", {})
        rules = running.snapshot.store
        assert rules is not None
        starting = await StoreManager.open(rules, loader)
        row = record(starting.sealing_keys, "early")
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
        await StoreManager.open(rules, loader, create=False)


def test_a_command_knows_what_is_stored(tmp_path: Path) -> None:
    """Without watching it."""
    prepare(tmp_path)

    async def fill() -> None:
        async with process(tmp_path) as one:
            await one.managed.commit([Put(record(one.managed.sealing_keys, "crm"), None)], ENTRY)

    asyncio.run(fill())
    loader = Loader(tmp_path / "sidekey.yaml", {})
    loaded = loader.load()
    rules = good(loaded).store
    assert rules is not None
    assert good(loaded).integrations == {}
    assert list(joined(rules, loader, loaded).integrations) == ["crm"]
